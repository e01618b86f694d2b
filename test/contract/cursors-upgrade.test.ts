/** Devices that acknowledged before their ages were kept are forgotten no sooner than the others. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Storage } from "../../src/storage/ports.ts";
import { migrate, steps } from "../../src/storage/postgres/migrate.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { migrations } from "../../src/storage/sqlite/schema.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";

let server: PostgresServer;
let folder: string;
beforeAll(async () => {
  server = await startPostgres();
  folder = mkdtempSync(join(tmpdir(), "ws-cursors-"));
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await server?.stop();
});

async function expectKept(storage: Storage, upgradedAt: number): Promise<void> {
  await storage.start();
  // A second of grace: one engine counts in whole ones.
  expect(await storage.cursors.forget(upgradedAt - 1_000, 10)).toBe(0);
  expect(await storage.cursors.acknowledged("ann", "phone")).toBe(7);
  expect(await storage.cursors.forget(Date.now() + 1_000, 10)).toBe(1);
  await storage.stop();
}

test("[LOG6] SQLite: the devices of the first version count from the upgrade on", async () => {
  const path = join(folder, "log.db");
  const database = new Database(path);
  for (const step of migrations.slice(0, 2)) database.exec(step);
  database.exec("PRAGMA user_version = 2; INSERT INTO cursors (user_id, device_id, cursor) VALUES ('ann', 'phone', 7)");
  database.close();
  await expectKept(createSqliteStorage({ path }), Date.now());
});

test("[LOG6] PostgreSQL: the devices of the first version count from the upgrade on", async () => {
  const schema = server.newSchema();
  const before = steps.slice(0, 4).map((step) => step(schema));
  await server.run(`CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.schema_version (version integer NOT NULL);
    INSERT INTO ${schema}.schema_version VALUES (4); ${before.join("\n")};
    INSERT INTO ${schema}.cursors (user_id, device_id, cursor) VALUES ('ann', 'phone', 7)`);
  const upgradedAt = Date.now();
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
  await expectKept(createPostgresStorage({ url: server.url, schema }), upgradedAt);
});
