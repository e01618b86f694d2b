/** Closes a connection to a SQLite file when it is told: one with statements keeps the file until the last of them is collected. */
import { Database } from "bun:sqlite";

export class ClosableDatabase extends Database {
  readonly #statements: { finalize(): void }[] = [];

  override prepare: Database["prepare"] = (...given) => {
    const statement = super.prepare(...given);
    this.#statements.push(statement);
    return statement as never;
  };

  override close(): void {
    for (const statement of this.#statements.splice(0)) statement.finalize();
    super.close();
  }
}
