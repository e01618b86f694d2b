/** Gives a test what a service stores, in SQLite or PostgreSQL, to be looked into and changed as an operator would. */
import { Database } from "bun:sqlite";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { dumpOf, type PostgresServer } from "./postgres.ts";

export interface Stored {
  /** The value of `storage.url`. */
  url: string;
  /** Runs one statement, in which `ws.` stands before each table. @returns its rows */
  run(sql: string): Promise<Record<string, unknown>[]>;
  /** All that is stored, as whoever has a copy of it could search it; the service may run on. */
  copy(): Promise<Buffer>;
  close(): Promise<void>;
}

/** A file of its own, whether or not a service is on it. */
export function storedInSqlite(): Stored {
  const folder = mkdtempSync(join(tmpdir(), "ws-stored-"));
  const path = join(folder, "log.db");
  const opened = <Result>(work: (database: Database) => Result): Result => {
    using database = new Database(path);
    database.exec("PRAGMA busy_timeout = 5000");
    return work(database);
  };
  return {
    url: `sqlite:${path}`,
    run: async (sql) =>
      opened((database) => database.query(sql.replaceAll("ws.", "")).all() as Record<string, unknown>[]),
    async copy() {
      opened((database) => database.exec("PRAGMA wal_checkpoint(TRUNCATE)"));
      const files = [...new Bun.Glob("log.db*").scanSync({ cwd: folder })].filter((name) => !name.endsWith("-reserve"));
      return Buffer.concat(
        await Promise.all(files.map(async (name) => Buffer.from(await Bun.file(join(folder, name)).bytes()))),
      );
    },
    async close() {
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A database of its own, with the schema of this version. */
export async function storedInPostgres(server: PostgresServer): Promise<Stored> {
  const url = await server.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  return {
    url,
    run: async (text) => [...(await sql.unsafe(text))],
    copy: async () => Buffer.from(dumpOf(url)),
    close: () => sql.end({ timeout: 1 }),
  };
}
