/** Fills a storage before anybody connects: how what is there came into being is not what is measured. */
import { migrateStorage } from "../../src/storage/migrate.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";

/** Of a statement, ms: the machine may be busy. */
const timeoutMs = 60_000;

/** Makes the tables as well. @returns what `fill` does */
export async function fillStorage<Result>(url: string, fill: (storage: Storage) => Promise<Result>): Promise<Result> {
  await migrateStorage({ url, lockTimeoutMs: 5_000 });
  const storage = url.startsWith("sqlite:")
    ? createSqliteStorage({ path: url.slice("sqlite:".length), callTimeoutMs: timeoutMs })
    : createPostgresStorage({ url, queryTimeoutMs: timeoutMs });
  await storage.start();
  try {
    return await fill(storage);
  } finally {
    await storage.stop();
  }
}
