/** Keeps the table of epochs: one begins whenever the file is taken into use, for it may be another one than it was; runs in the worker only [LOG4]. */
import type { Database } from "bun:sqlite";
import type { Epoch } from "../epochs.ts";

type Row = Omit<Epoch, "broken"> & { broken: number };

/** So many are kept; cursors of earlier ones are of no log that is known. */
const keptMax = 1_000;

export class EpochTable {
  readonly #begin: (now: number) => void;
  readonly #list: () => Row[];

  constructor(database: Database) {
    const insert = database.prepare<null, [number]>(
      `INSERT INTO epochs SELECT coalesce((SELECT max(no) FROM epochs), 0) + 1, lower(hex(randomblob(4))), position, 0, 'start', ?
       FROM log_end`,
    );
    const forget = database.prepare<null, [number]>("DELETE FROM epochs WHERE no <= (SELECT max(no) FROM epochs) - ?");
    const list = database.prepare<Row, []>(
      "SELECT no, id, began_at AS beganAt, broken, line, created_at AS createdAt FROM epochs WHERE no > 0 ORDER BY no",
    );
    const begin = database.transaction((now: number) => {
      insert.run(Math.round(now));
      forget.run(keptMax);
    });
    this.#begin = (now) => begin.immediate(now);
    this.#list = () => list.all();
  }

  /** Oldest first. */
  list(): Epoch[] {
    return this.#list().map((row) => ({ ...row, broken: row.broken === 1 }));
  }

  /** @returns all of them with the new one */
  begin(now: number): Epoch[] {
    this.#begin(now);
    return this.list();
  }
}
