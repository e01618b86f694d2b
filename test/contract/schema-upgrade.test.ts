/** Proves that a schema that was upgraded from the first release is the one that is made anew. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { migrate as migrateFile } from "../../src/storage/sqlite/schema.ts";
import { firstFile, firstSchema } from "../support/first-release.ts";
import { dumpOf, type PostgresServer, runSql, startPostgres } from "../support/postgres.ts";

setDefaultTimeout(60_000);
let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

async function schemaFrom(before: string | null): Promise<string[]> {
  const url = await server.newDatabase();
  if (before !== null) await runSql(url, before);
  await migrate({ url, lockTimeoutMs: 10_000 });
  // Each dump of newer releases has a key of its own in its first and its last line.
  return dumpOf(url, ["--schema-only"])
    .split("\n")
    .filter((line) => !/^\\(un)?restrict /.test(line));
}

test("PostgreSQL: an upgraded schema is the same, to the last function, as one that is made anew", async () => {
  const fresh = await schemaFrom(null);
  expect(fresh).toContain("CREATE TABLE ws.reactions (");
  expect(await schemaFrom(firstSchema("ws"))).toEqual(fresh);
});

function fileFrom(before: string | null): unknown[] {
  const database = new Database(":memory:");
  try {
    if (before !== null) database.exec(before);
    migrateFile(database);
    return database.query("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").all();
  } finally {
    database.close();
  }
}

test("SQLite: an upgraded file has the same schema as one that is made anew", () => {
  const fresh = fileFrom(null);
  expect(fresh.length).toBeGreaterThan(30);
  expect(fileFrom(firstFile)).toEqual(fresh);
});
