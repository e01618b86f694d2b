/** Reads the outbox table as an inbox: rows that applications left in their own transactions, as these commit [PUB2]. */
import { Stopped } from "../../ground/unavailable.ts";
import type { Inbox, InboxEntry, RejectedEntry } from "../inbox.ts";
import { sqlOf } from "../sql-text.ts";
import {
  arrayOf,
  asUnavailable,
  type ConnectionEvents,
  type Parameter,
  type PostgresConnection,
} from "./connection.ts";
import rejectText from "./queries/outbox-reject.sql" with { type: "text" };
import takeText from "./queries/outbox-take.sql" with { type: "text" };
import { outboxChannel } from "./schema.ts";
import { PostgresSession } from "./session.ts";

export interface PostgresOutboxOptions {
  open(events: ConnectionEvents): PostgresConnection;
  schema: string;
  /** How long one statement may take. */
  queryTimeoutMs: number;
  /** How long rows that were rejected are kept, ms. */
  rejectedKeptMs: number;
}

/** How many rows are taken at once: one batch of the log. */
const pageRows = 500;
const pageBytesMax = 4 * 1024 * 1024;
const pollIntervalMs = 1_000;
/** Anybody may notify: after each time that it led to nothing the next one waits longer, up to so long. */
const emptyWakeMs = 5;
const emptyWakeMsMax = 250;
/** A node that has frozen with the lease loses it by then; one that has the lease asks every second. */
const leaseIdleMsMax = 5_000;
const countMax = 10_000;
/** Rejected rows that go with those that come: more than a page, and never too many for one statement. */
const oldRejectedAtOnce = 2 * pageRows;

/** `lease` has the lock and takes; `work` listens and changes the table. */
type Role = "lease" | "work";

interface Row {
  mine: boolean;
  id: string | null;
  key: string;
  topic: string;
  type: string;
  payload: string;
  event_key: string | null;
  except_device: string | null;
}

/**
 * In order per topic: rows of one transaction as they were written, and after everything that had committed before they
 * were written. Whatever is visible is taken from the lowest id on, so a lower id that becomes visible late is just
 * late. An advisory lock of the session spares nodes from doing the same work; nothing depends on it.
 */
export class PostgresOutbox implements Inbox {
  readonly name = "outbox";
  readonly #options: PostgresOutboxOptions;
  readonly #lookText: string;
  readonly #takeText: string;
  readonly #rejectText: string;
  readonly #sessions: Record<Role, PostgresSession | null> = { lease: null, work: null };
  #state: "stopped" | "started" = "stopped";
  #isWoken = false;
  /** Wake-ups in a row after which there was nothing to take. */
  #emptyWakes = 0;
  #wake: (() => void) | null = null;

  constructor(options: PostgresOutboxOptions) {
    this.#options = options;
    const { schema: ws } = options;
    this.#lookText = `SELECT pg_try_advisory_lock(hashtext('ws-service outbox'), hashtext('${ws}')) AS mine,
      (SELECT id FROM ${ws}.outbox ORDER BY id LIMIT 1) IS NULL AS "isEmpty"`;
    this.#takeText = sqlOf(takeText, { ws, pageRows, pageBytesMax });
    this.#rejectText = sqlOf(rejectText, { ws, oldAtOnce: oldRejectedAtOnce });
  }

  async start(): Promise<void> {
    this.#state = "started";
    this.#session("work");
  }

  async take(): Promise<InboxEntry[] | null> {
    // While it cannot hear of new rows, the table is looked at every second all the same.
    this.#session("work");
    const wasWoken = this.#isWoken;
    this.#isWoken = false;
    // Without parameters each is one message: a node cannot freeze in the middle of it, which no timeout would end. The lock is
    // had once more with each lease; it goes with the session. To plan what takes is most of the work where there is nothing.
    if (!wasWoken) {
      this.#emptyWakes = 0;
      const [found] = await this.#query<{ mine: boolean; isEmpty: boolean }>("lease", this.#lookText);
      if (!found!.mine) return null;
      if (found!.isEmpty) return [];
    }
    const rows = await this.#query<Row>("lease", this.#takeText);
    const isEmpty = rows[0]?.mine !== true || rows[0].id === null;
    this.#emptyWakes = isEmpty && wasWoken ? this.#emptyWakes + 1 : 0;
    if (rows[0]?.mine !== true) return null;
    return rows.flatMap(({ id, key, topic, type, payload, event_key, except_device }) => {
      const fields = { topic, type, payload, event_key: event_key ?? undefined };
      if (id === null) return [];
      return [{ id, key: `outbox:${key}`, fields: { ...fields, except_device: except_device ?? undefined } }];
    });
  }

  async remove(ids: string[]): Promise<void> {
    await this.#query("work", `DELETE FROM ${this.#options.schema}.outbox WHERE id = ANY ($1::text::bigint[])`, [
      arrayOf(ids),
    ]);
  }

  async reject(rejected: RejectedEntry[]): Promise<void> {
    await this.#query("work", this.#rejectText, [
      arrayOf(rejected.map(({ entry }) => entry.id)),
      arrayOf(rejected.map(({ reason }) => reason)),
      String(this.#options.rejectedKeptMs),
      arrayOf(rejected.flatMap(({ entry, isForgotten }) => (isForgotten ? [entry.id] : []))),
    ]);
  }

  wait(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    const restMs = Math.min(emptyWakeMsMax, this.#emptyWakes * emptyWakeMs);
    if (this.#isWoken && restMs === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        this.#wake = null;
        resolve();
      };
      let timer = setTimeout(end, this.#isWoken ? restMs : pollIntervalMs);
      signal.addEventListener("abort", end);
      this.#wake = () => {
        this.#wake = null;
        clearTimeout(timer);
        timer = setTimeout(end, restMs);
      };
    });
  }

  async lag(): Promise<{ entries: number; oldestMs: number }> {
    const { schema } = this.#options;
    const [row] = await this.#query<{ entries: string; oldest_ms: string }>(
      "work",
      `SELECT (SELECT count(*) FROM (SELECT FROM ${schema}.outbox LIMIT ${countMax}) AS counted)::text AS entries,
         coalesce((SELECT greatest(0, extract(epoch FROM clock_timestamp() - created_at) * 1000)::bigint
           FROM ${schema}.outbox ORDER BY id LIMIT 1), 0)::text AS oldest_ms`,
    );
    return { entries: Number(row!.entries), oldestMs: Number(row!.oldest_ms) };
  }

  async stop(): Promise<void> {
    this.#state = "stopped";
    await Promise.all(Object.values(this.#sessions).map((session) => session?.close()));
  }

  /** @throws Unavailable while the engine is away; the session is another one after that */
  async #query<Result extends object>(role: Role, text: string, parameters: Parameter[] = []): Promise<Result[]> {
    const session = this.#session(role);
    try {
      return await session.query<Result>(text, parameters);
    } catch (error) {
      // May be this session's alone: another one, perhaps another node's, is to have the lease.
      session.drop(error as Error);
      throw asUnavailable(error);
    }
  }

  /** The one that is open, or a new one: whoever has the lease may be another node by then. */
  #session(role: Role): PostgresSession {
    if (this.#state === "stopped") throw new Stopped("storage", "The outbox is stopped.");
    const known = this.#sessions[role];
    if (known !== null && !known.hasEnded) return known;
    const { open, schema, queryTimeoutMs } = this.#options;
    const begin = {
      // A frozen node neither asks nor reads: idle, or with an answer that does not go out, its session ends.
      lease: `SELECT set_config('idle_session_timeout', '${leaseIdleMsMax}', false),
        set_config('tcp_user_timeout', '${leaseIdleMsMax}', false), set_config('tcp_keepalives_idle', '3', false),
        set_config('tcp_keepalives_interval', '1', false), set_config('tcp_keepalives_count', '3', false)`,
      work: `LISTEN ${outboxChannel(schema)}`,
    } satisfies Record<Role, string>;
    const onNotification = () => this.#onNotified();
    const session = new PostgresSession({ open, begin: begin[role], timeoutMs: queryTimeoutMs, onNotification });
    // Looks once it listens: nothing tells of what was left before.
    session.ready.then(onNotification, () => {});
    this.#sessions[role] = session;
    return session;
  }

  #onNotified(): void {
    this.#isWoken = true;
    this.#wake?.();
  }
}
