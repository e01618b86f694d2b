/** Looks at the server's line on each connection before anything is asked on it, and begins an epoch of the log where it is another one [LOG4]. */

import { Unavailable } from "../../ground/unavailable.ts";
import { type Epoch, Epochs } from "../epochs.ts";
import type { EventLog } from "../ports.ts";
import { type Witness, Witnesses } from "../witnesses.ts";
import {
  arrayOf,
  type ConnectionEvents,
  dropConnection,
  type Parameter,
  type PostgresConnection,
  type Sql,
} from "./connection.ts";

export interface EpochLookoutOptions {
  schema: string;
  /** Milliseconds since 1970. */
  now: () => number;
}

type Use = "reading" | "appending";
type Row = Epoch & { isSettled: boolean };
/** Runs a statement on some connection. */
type Query = <Found extends object>(text: string, parameters: Parameter[]) => Promise<Found[]>;

/** Says whether the log is what it was, in a statement that asks something else. */
interface Asked {
  /** Is worked out once, however many rows the statement has. */
  expression: string;
  parameters: Parameter[];
}

export interface LookBack extends Pick<EventLog, "epochs" | "note"> {
  /** @param first the number of its first parameter */
  isAsItWas(first: number): Asked;
  /** Finds what has become of the log, and tells it by `epochs`. */
  look(): Promise<void>;
}

/** For so long (ms) a server that does not know of the newest epoch and has not changed itself counts as one that a failover has left behind. */
const leftBehindMs = 30_000;

const witnessArrays = (witnesses: readonly Witness[]) => [
  arrayOf(witnesses.map(({ topic }) => topic)),
  arrayOf(witnesses.map(({ seq }) => seq)),
  arrayOf(witnesses.map(({ id }) => id)),
  arrayOf(witnesses.map(({ position }) => position)),
];

export class EpochLookout {
  readonly epochs = new Epochs();
  readonly witnesses = new Witnesses();
  /** The line of each connection that was looked at. */
  readonly #lines = new Map<Sql, string>();
  readonly #schema: string;
  readonly #now: () => number;
  #hasStarted = false;
  #changedAt = 0;

  constructor({ schema, now }: EpochLookoutOptions) {
    this.#schema = schema;
    this.#now = now;
  }

  /** Begins, now that the schema is known to be of this version: nothing is asked any more where nobody has looked. */
  start(): void {
    this.#hasStarted = true;
  }

  /** Opens a connection that looks at its server before the first statement, and before each until it can tell. */
  guard(
    open: (events: ConnectionEvents) => PostgresConnection,
    use: Use,
  ): (events: ConnectionEvents) => PostgresConnection {
    return ({ onClosed, ...events }) => {
      const connection = open({
        ...events,
        onClosed: () => {
          this.#lines.delete(connection.sql);
          onClosed?.();
        },
      });
      const { sql } = connection;
      const settle = () => (this.#lines.has(sql) || !this.#hasStarted ? undefined : this.#settle(sql, use));
      return { ...connection, settle };
    };
  }

  /** Offers of it what a log has to, and asks there. */
  over(pool: { query: Query }): LookBack {
    const query: Query = (text, parameters) => pool.query(text, parameters);
    return {
      epochs: this.epochs,
      note: (event) => this.witnesses.add(event),
      isAsItWas: (first) => this.#isAsItWas(first),
      look: async () => void (await this.#look(query)),
    };
  }

  /** Forgets epochs that were over before a moment (ms since 1970): what their cursors are of is gone. */
  async forget(overBefore: number, pool: { query: Query }): Promise<void> {
    const epochs = `${this.#schema}.epochs`;
    await pool.query(`DELETE FROM ${epochs} WHERE no < (SELECT max(no) FROM ${epochs} WHERE created_at < $1)`, [
      overBefore,
    ]);
  }

  async #settle(sql: Sql, use: Use): Promise<void> {
    const newest = await this.#look((text, parameters) => sql.unsafe(text, parameters));
    if (newest.isSettled) this.#lines.set(sql, newest.line);
    // Promoted between the look and the append it would begin a line that nobody has looked at.
    else if (use === "appending") throw readOnly();
  }

  /** Looks at the newest of everything; a standby tells nothing of what was lost. */
  #isAsItWas(first: number): Asked {
    const { id, line } = this.epochs.current;
    const { newest } = this.witnesses;
    const $ = (nth: number) => `$${first + nth}`;
    return {
      expression: `(SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean OR (
         (SELECT id FROM ${this.#schema}.epochs ORDER BY no DESC LIMIT 1) = ${$(0)} AND ${this.#schema}.line() = ${$(1)}
         AND ${this.#schema}.first_lost(${$(2)}, ${$(3)}, ${$(4)}, ${$(5)}) IS NULL))`,
      parameters: [id, line, ...witnessArrays(newest === undefined ? [] : [newest])],
    };
  }

  /** @returns the newest epoch; unsettled where the server cannot begin one */
  async #look(query: Query): Promise<Row> {
    const known = this.epochs.list.at(-1);
    const rows = await query<Row>(
      `SELECT no, id, began_at AS "beganAt", broken, line, created_at AS "createdAt", is_settled AS "isSettled"
       FROM ${this.#schema}.look($1, $2, $3, $4, $5, $6, $7) ORDER BY no`,
      [
        known?.no ?? 0,
        known?.id ?? "",
        ...witnessArrays(this.witnesses.all),
        this.#now() - this.#changedAt > leftBehindMs,
      ],
    );
    const newest = rows.at(-1);
    // Counts as well, where another connection has found it meanwhile.
    const current = this.epochs.list.at(-1);
    const isBehind = newest === undefined || newest.no < (current?.no ?? 0);
    if (newest === undefined || (isBehind && newest.isSettled)) throw new Unavailable("storage", leftBehind);
    // A standby may be of a cluster that was left behind.
    const leadsOn = current === undefined || rows.some(({ id }) => id === current.id);
    if (newest.isSettled || leadsOn) this.#take(rows, newest);
    return newest;
  }

  #take(rows: Row[], newest: Row): void {
    const before = this.epochs.list.at(-1);
    if (newest.id === before?.id) return;
    this.#changedAt = this.#now();
    if (rows.some(({ broken, no }) => broken && no > (before?.no ?? 0))) this.witnesses.forget();
    // Ends connections of the line of before: nothing of theirs is of this epoch.
    for (const [sql, line] of this.#lines) if (line !== newest.line) dropConnection(sql);
    this.epochs.replace(rows.map(({ isSettled: _, ...epoch }) => epoch));
  }
}

const leftBehind = "PostgreSQL: the server knows nothing of the failover by which it was left behind.";

/** Refuses as the server itself would. */
function readOnly(): Error {
  return Object.assign(new Error("cannot append in a read-only transaction, or to a standby"), { code: "25006" });
}
