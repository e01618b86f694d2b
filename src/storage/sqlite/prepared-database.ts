/** Opens a connection to a SQLite file that plans each statement once, and closes it when it is told. */
import { Database } from "bun:sqlite";

/**
 * SQLite plans a statement anew, for 3 to 20 µs, whenever it is given a value that might speak for another plan: in many of those
 * with ORDER BY, LIMIT or a join, and each time. Behind a `+`, which changes nothing, it does not look at the value.
 */
const unseen = (sql: string) => sql.replaceAll("?", "+?");

export class PreparedDatabase extends Database {
  readonly #statements: { finalize(): void }[] = [];

  override prepare: Database["prepare"] = (sql, ...rest) => {
    const statement = super.prepare(unseen(sql), ...rest);
    this.#statements.push(statement);
    return statement as never;
  };

  /** Ends its statements first: a connection with statements keeps the file until the last of them is collected. */
  override close(): void {
    for (const statement of this.#statements.splice(0)) statement.finalize();
    super.close();
  }
}
