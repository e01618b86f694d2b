/** Every statement of SQLite reaches its rows by an index: what one request asks is bounded by what it names. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEngine } from "../../src/storage/sqlite/engine.ts";
import { PreparedDatabase } from "../../src/storage/sqlite/prepared-database.ts";

/** Tables of one row or of a bounded number, what administrators have asked for, and what is a part of a statement itself. */
const mayBeScanned =
  /^SCAN (log_state|push|epochs|write_proof|blocks|erasures|directory_changes|newer|json_each|named|CONSTANT)\b/;

/** All that are prepared, and the file that they are for. */
function withStatements(use: (statements: Set<string>, database: Database) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "ws-plans-"));
  const path = join(folder, "plans.db");
  const { prepare } = Database.prototype;
  const { prepare: prepareLate } = PreparedDatabase.prototype;
  const statements = new Set<string>();
  const late: { toString(): string }[] = [];
  Database.prototype.prepare = function (this: Database, sql: string, ...rest: never[]) {
    statements.add(sql);
    return prepare.call(this, sql, ...rest);
  } as typeof prepare;
  PreparedDatabase.prototype.prepare = function (this: PreparedDatabase, ...given) {
    const statement = prepareLate.call(this, ...given);
    late.push(statement);
    return statement;
  };
  try {
    const engine = openEngine({ path, durability: "process", busyTimeoutMs: 1_000 });
    // Each is planned when it is first run, or asked for its text.
    for (const statement of late) statement.toString();
    engine.close();
  } finally {
    Database.prototype.prepare = prepare;
    PreparedDatabase.prototype.prepare = prepareLate;
  }
  {
    using database = new Database(path);
    use(statements, database);
  }
  rmSync(folder, { recursive: true });
}

test("[SUB1] no statement reads a whole table", () =>
  withStatements((statements, database) => {
    const scanning = [...statements].flatMap((sql) => {
      if (!/^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)/i.test(sql)) return [];
      const plan = database.query<{ detail: string }, []>(`EXPLAIN QUERY PLAN ${sql}`).all();
      const isScan = (detail: string) => /^SCAN (?!\(|\w+ VIRTUAL)/.test(detail) && !mayBeScanned.test(detail);
      const scans = plan.filter(({ detail }) => isScan(detail));
      return scans.map(({ detail }) => `${detail}: ${sql.replace(/\s+/g, " ").slice(0, 160)}`);
    });
    expect(statements.size).toBeGreaterThan(40);
    expect(scanning).toEqual([]);
  }));

test("[REC3] no statement is planned anew for the value of a parameter", () =>
  withStatements((statements) => {
    const seen = [...statements].filter((sql) => /(?<!\+)\?/.test(sql));
    expect(statements.size).toBeGreaterThan(40);
    expect(seen).toEqual([]);
  }));
