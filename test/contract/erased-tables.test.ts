/** Holds the page for operators to the real schema of both engines: it says of each table and each column what erasing a user does [BAK4]. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { startPostgres } from "../support/postgres.ts";
import { type Stored, storedInPostgres, storedInSqlite } from "../support/stored.ts";
import { tablesOf } from "../support/traces.ts";

type Engine = "SQLite" | "PostgreSQL";

/** `events.payload`, of all tables. */
async function columnsOf(stored: Stored, engine: Engine): Promise<string[]> {
  const columns: string[] = [];
  for (const table of await tablesOf(stored, engine)) {
    const rows =
      engine === "SQLite"
        ? await stored.run(`SELECT name FROM pragma_table_info('${table}')`)
        : await stored.run(`SELECT column_name AS name FROM information_schema.columns
            WHERE table_schema = 'ws' AND table_name = '${table}'`);
    columns.push(...rows.map(({ name }) => `${table}.${name}`));
  }
  return columns;
}

/** The same, as the page has them. */
function columnsOfPage(): string[] {
  const page = readFileSync(resolve(import.meta.dir, "../../docs/operating.md"), "utf8");
  const start = page.indexOf("\n### Erasing a user\n");
  const section = page.slice(start, page.indexOf("\n### ", start + 1));
  return [...section.matchAll(/^\| \*\*(\w+)\*\*[^|]* \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$/gm)].flatMap(
    ([, table, columns]) => [...columns!.matchAll(/`(\w+)`/g)].map(([, column]) => `${table}.${column}`),
  );
}

test("the page for operators names every table and column of both engines, and none that there is not", async () => {
  const server = await startPostgres();
  const engines: [Engine, Stored][] = [
    ["SQLite", storedInSqlite()],
    ["PostgreSQL", await storedInPostgres(server)],
  ];
  await migrateStorage({ url: engines[0]![1].url, lockTimeoutMs: 10_000 });
  const found = new Set<string>();
  for (const [engine, stored] of engines) {
    for (const column of await columnsOf(stored, engine)) found.add(column);
    await stored.close();
  }
  await server.stop();
  const named = new Set(columnsOfPage());
  expect(found.size).toBeGreaterThan(80);
  expect([...found].filter((column) => !named.has(column))).toEqual([]);
  expect([...named].filter((column) => !found.has(column))).toEqual([]);
}, 60_000);
