/** Looks at the server's line on each connection before anything is asked on it, and begins an epoch of the log where it is another one [LOG4]. */
import { type Epoch, Epochs } from "../epochs.ts";
import { StorageUnavailable } from "../ports.ts";
import { Witnesses } from "../witnesses.ts";
import { arrayOf, type Connection, dropConnection, type Sql } from "./connection.ts";

export interface EpochLookoutOptions {
  schema: string;
  /** Milliseconds since 1970. */
  now: () => number;
}

type Row = Epoch & { isSettled: boolean };

/** For so long (ms) a server that does not know of the newest epoch and has not changed itself counts as one that a failover has left behind. */
const leftBehindMs = 30_000;

export class EpochLookout {
  readonly epochs = new Epochs();
  readonly witnesses = new Witnesses();
  /** The line of each connection that was looked at. */
  readonly #lines = new Map<Sql, string>();
  #hasStarted = false;
  #changedAt = 0;

  constructor(private readonly options: EpochLookoutOptions) {}

  /** The schema is known to be of this version: from now on nothing is asked where nobody has looked. */
  start(): void {
    this.#hasStarted = true;
  }

  /** Opens a connection that looks at its server before the first statement, and before each until it can tell. */
  guard(
    open: (onClosed: () => void) => Connection,
    { use, onClosed }: { use: "reading" | "appending"; onClosed: () => void },
  ): Connection {
    const connection = open(() => {
      this.#lines.delete(connection.sql);
      onClosed();
    });
    const { sql } = connection;
    const settle = () => (this.#lines.has(sql) || !this.#hasStarted ? undefined : this.#settle(sql, use));
    return { ...connection, settle };
  }

  async #settle(sql: Sql, use: "reading" | "appending"): Promise<void> {
    const isSettled = await this.#look(sql);
    // Promoted between the look and the append it would begin a line that nobody has looked at.
    if (!isSettled && use === "appending") throw readOnly();
  }

  /** @returns whether the server is one that appends: a standby tells nothing of what was lost */
  async #look(sql: Sql): Promise<boolean> {
    const { schema, now } = this.options;
    const known = this.epochs.list.at(-1);
    const { all } = this.witnesses;
    const rows = await sql.unsafe<Row[]>(
      `SELECT no, id, began_at AS "beganAt", broken, line, created_at AS "createdAt", is_settled AS "isSettled"
       FROM ${schema}.look($1, $2, $3, $4, $5, $6, $7, $8) ORDER BY no`,
      [
        known?.no ?? 0,
        known?.id ?? "",
        arrayOf(all.map(({ topic }) => topic)),
        arrayOf(all.map(({ seq }) => seq)),
        arrayOf(all.map(({ id }) => id)),
        arrayOf(all.map(({ position }) => position)),
        now() - this.#changedAt > leftBehindMs,
        Math.round(now()),
      ],
    );
    const newest = rows.at(-1);
    const current = this.epochs.list.at(-1);
    // What another connection has found meanwhile counts.
    if (newest === undefined || newest.no < (current?.no ?? 0)) {
      if (rows[0]?.isSettled === false) return false;
      throw new StorageUnavailable(
        "PostgreSQL: the server does not know of the failover after which it was left behind.",
      );
    }
    if (newest.isSettled) this.#lines.set(sql, newest.line);
    // A standby may be of a cluster that was left behind.
    if (newest.isSettled || current === undefined || rows.some(({ id }) => id === current.id)) this.#take(rows);
    return newest.isSettled;
  }

  #take(rows: Row[]): void {
    const before = this.epochs.list.at(-1);
    const newest = rows.at(-1)!;
    if (newest.id === before?.id) return;
    this.#changedAt = this.options.now();
    if (rows.some(({ broken, no }) => broken && no > (before?.no ?? 0))) this.witnesses.forget();
    // Whatever comes from the line of before is not of this epoch.
    for (const [sql, line] of this.#lines) if (line !== newest.line) dropConnection(sql);
    this.epochs.replace(rows.map(({ isSettled: _, ...epoch }) => epoch));
  }
}

/** As the server itself would say it. */
function readOnly(): Error {
  return Object.assign(new Error("cannot append in a read-only transaction, or to a standby"), { code: "25006" });
}
