/** The outbox table as an inbox: rows that applications left in their own transactions, as these commit [PUB2]. */
import type { ClientTlsFiles } from "../../config/client-tls.ts";
import { Unavailable } from "../../ground/unavailable.ts";
import type { Inbox, InboxEntry, RejectedEntry } from "../inbox.ts";
import {
  arrayOf,
  closeConnection,
  dropConnection,
  openConnection,
  type Parameter,
  refusalOf,
  type Sql,
} from "./connection.ts";
import { outboxChannel } from "./schema.ts";

export interface PostgresOutboxOptions {
  url: string;
  tls?: ClientTlsFiles | null;
  schema: string;
  /** How long one statement may take. */
  queryTimeoutMs: number;
  /** What was rejected is kept for so long. */
  rejectedKeptMs: number;
}

/** Rows taken at once: one batch of the log. */
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
const columns = "id, key, topic, type, payload::text AS payload, event_key";

/** A session, and whether what it begins with is done. */
interface Session {
  sql: Sql;
  ready: Promise<unknown>;
}

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
}

/**
 * In order per topic: rows of one transaction as they were written, and after everything that had committed before they
 * were written. Whatever is visible is taken from the lowest id on, so a lower id that becomes visible late is just
 * late. An advisory lock of the session spares nodes from doing the same work; nothing depends on it.
 */
export class PostgresOutbox implements Inbox {
  readonly name = "outbox";
  readonly #sessions: Record<Role, Session | null> = { lease: null, work: null };
  #state: "stopped" | "started" = "stopped";
  #isWoken = false;
  /** Wake-ups in a row after which there was nothing to take. */
  #emptyWakes = 0;
  #wake: (() => void) | null = null;

  constructor(private readonly options: PostgresOutboxOptions) {}

  async start(): Promise<void> {
    this.#state = "started";
    this.#session("work").ready.catch(() => {});
  }

  async take(): Promise<InboxEntry[] | null> {
    // While it cannot hear of new rows, the table is looked at every second all the same.
    this.#session("work").ready.catch(() => {});
    const wasWoken = this.#isWoken;
    this.#isWoken = false;
    const { schema } = this.options;
    // Without parameters it is one message: a node cannot freeze in the middle of it, which no timeout would end. The
    // lock is had once more with each lease; it goes with the session. Row by row, as far as the page goes: what large
    // rows would take to read that wait behind it would keep everything from ever being taken.
    const rows = await this.#query<Row>(
      "lease",
      `WITH RECURSIVE lease AS MATERIALIZED (
         SELECT pg_try_advisory_lock(hashtext('ws-service outbox'), hashtext('${schema}')) AS mine),
       page AS (
         SELECT found.*, 1 AS place, octet_length(found.payload)::bigint AS bytes FROM lease CROSS JOIN LATERAL (
           SELECT ${columns} FROM ${schema}.outbox WHERE lease.mine ORDER BY id LIMIT 1) AS found
         UNION ALL
         SELECT found.*, page.place + 1, page.bytes + octet_length(found.payload) FROM page CROSS JOIN LATERAL (
           SELECT ${columns} FROM ${schema}.outbox WHERE id > page.id ORDER BY id LIMIT 1) AS found
         WHERE page.place < ${pageRows} AND page.bytes < ${pageBytesMax})
       SELECT lease.mine, id::text AS id, key::text AS key, topic, type, payload, event_key
       FROM lease LEFT JOIN page ON true ORDER BY page.id`,
    );
    const isEmpty = rows[0]?.mine !== true || rows[0].id === null;
    this.#emptyWakes = isEmpty && wasWoken ? this.#emptyWakes + 1 : 0;
    if (rows[0]?.mine !== true) return null;
    return rows.flatMap(({ id, key, topic, type, payload, event_key }) =>
      id === null
        ? []
        : [{ id, key: `outbox:${key}`, fields: { topic, type, payload, event_key: event_key ?? undefined } }],
    );
  }

  async remove(ids: string[]): Promise<void> {
    await this.#query("work", `DELETE FROM ${this.options.schema}.outbox WHERE id = ANY ($1::text::bigint[])`, [
      arrayOf(ids),
    ]);
  }

  async reject(rejected: RejectedEntry[]): Promise<void> {
    const { schema, rejectedKeptMs } = this.options;
    await this.#query(
      "work",
      `WITH refused AS (SELECT * FROM unnest($1::text::bigint[], $2::text::text[]) AS r (id, reason)),
       gone AS (DELETE FROM ${schema}.outbox AS o USING refused WHERE o.id = refused.id RETURNING o.*, refused.reason),
       old AS (
         DELETE FROM ${schema}.outbox_rejected WHERE key IN (
           SELECT key FROM ${schema}.outbox_rejected WHERE rejected_at < now() - $3::text::float * interval '1 ms'
           ORDER BY rejected_at LIMIT ${oldRejectedAtOnce}))
       INSERT INTO ${schema}.outbox_rejected (key, topic, type, payload, event_key, created_at, reason)
       SELECT key, topic, type, payload, event_key, created_at, reason FROM gone`,
      [
        arrayOf(rejected.map(({ entry }) => entry.id)),
        arrayOf(rejected.map(({ reason }) => reason)),
        String(rejectedKeptMs),
      ],
    );
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
    const { schema } = this.options;
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
    const { lease, work } = this.#sessions;
    Object.assign(this.#sessions, { lease: null, work: null });
    await Promise.all([lease, work].map((session) => (session === null ? undefined : closeConnection(session.sql))));
  }

  /** @throws Unavailable while the engine is away; the session is another one after that */
  async #query<Result extends object>(role: Role, text: string, parameters: Parameter[] = []): Promise<Result[]> {
    if (this.#state === "stopped") throw new Unavailable("storage", "The outbox is stopped.");
    const session = this.#session(role);
    let timer: Timer | undefined;
    try {
      const deadline = new Promise<never>((_, reject) => {
        timer = setTimeout(
          () => reject(new Unavailable("storage", "PostgreSQL has not answered in time.")),
          this.options.queryTimeoutMs,
        );
      });
      const answer = session.ready.then(() => session.sql.unsafe<Result[]>(text, parameters));
      return [...(await Promise.race([answer, deadline]))];
    } catch (error) {
      this.#forget(role, session);
      dropConnection(session.sql);
      throw refusalOf(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The one that is open, or a new one: whoever has the lease may be another node by then. */
  #session(role: Role): Session {
    const open = this.#sessions[role];
    if (open !== null) return open;
    const { url, tls = null, schema, queryTimeoutMs } = this.options;
    const { sql, ready } = openConnection({
      url,
      tls,
      connectTimeoutMs: queryTimeoutMs,
      statementTimeoutMs: queryTimeoutMs,
      onClosed: () => this.#forget(role, session),
      onNotification: () => this.#onNotified(),
    });
    const begin = {
      // A frozen node neither asks nor reads: idle, or with an answer that does not go out, its session ends.
      lease: `SELECT set_config('idle_session_timeout', '${leaseIdleMsMax}', false),
        set_config('tcp_user_timeout', '${leaseIdleMsMax}', false), set_config('tcp_keepalives_idle', '3', false),
        set_config('tcp_keepalives_interval', '1', false), set_config('tcp_keepalives_count', '3', false)`,
      work: `LISTEN ${outboxChannel(schema)}`,
    } satisfies Record<Role, string>;
    const session: Session = { sql, ready: ready.then(() => sql.unsafe(begin[role])) };
    this.#sessions[role] = session;
    session.ready.then(
      () => this.#onNotified(),
      () => {
        this.#forget(role, session);
        dropConnection(sql);
      },
    );
    return session;
  }

  #forget(role: Role, session: Session): void {
    if (this.#sessions[role] === session) this.#sessions[role] = null;
  }

  #onNotified(): void {
    this.#isWoken = true;
    this.#wake?.();
  }
}
