/** Opens a connection to a SQLite file that plans each statement once, when it is first run, and closes it when it is told. */
import { Database, type SQLQueryBindings, type Statement } from "bun:sqlite";

/**
 * SQLite plans a statement anew, for 3 to 20 µs, whenever it is given a value that might speak for another plan: in many of those
 * with ORDER BY, LIMIT or a join, and each time. Behind a `+`, which changes nothing, it does not look at the value.
 */
const unseen = (sql: string) => sql.replaceAll("?", "+?");

export class PreparedDatabase extends Database {
  readonly #statements: Statement[] = [];

  override prepare(...[sql, ...rest]: Parameters<Database["prepare"]>): never {
    const plan = () => {
      const statement = super.prepare(unseen(sql), ...rest) as unknown as Statement;
      this.#statements.push(statement);
      return statement;
    };
    return new LateStatement(plan) as never;
  }

  /** Ends its statements first: a connection with statements keeps the file until the last of them is collected. */
  override close(): void {
    for (const statement of this.#statements.splice(0)) statement.finalize();
    super.close();
  }
}

type Values = SQLQueryBindings[];

/**
 * Is planned when it is first run. Tables have more than a hundred statements, a connection that only reads needs a few of them, and
 * to plan all took a fifth of a start.
 */
class LateStatement implements Pick<Statement, "all" | "get" | "iterate" | "run" | "values"> {
  #planned: Statement | null = null;

  constructor(private readonly plan: () => Statement) {}

  all(...values: Values) {
    return this.#statement().all(...values);
  }

  get(...values: Values) {
    return this.#statement().get(...values);
  }

  iterate(...values: Values) {
    return this.#statement().iterate(...values);
  }

  run(...values: Values) {
    return this.#statement().run(...values);
  }

  values(...values: Values) {
    return this.#statement().values(...values);
  }

  /** @returns its SQL */
  toString(): string {
    return this.#statement().toString();
  }

  #statement(): Statement {
    this.#planned ??= this.plan();
    return this.#planned;
  }
}
