/** Starts what several nodes stand on: a PostgreSQL with the schema made, and a Redis, both of this test's own. */
import { migrateStorage } from "../../src/storage/migrate.ts";
import { startPostgres } from "./postgres.ts";
import { startRedis } from "./redis.ts";

export interface Ground {
  /** For `startService`: both URLs, and intervals short enough for a test. */
  settings: Record<string, string>;
  /** Makes another database, an empty one. @returns its URL */
  newDatabase(): Promise<string>;
  stop(): Promise<void>;
}

export async function layGround(): Promise<Ground> {
  const [database, redis] = await Promise.all([startPostgres(), startRedis()]);
  await migrateStorage({ url: database.url, lockTimeoutMs: 10_000 });
  return {
    settings: {
      STORAGE__URL: database.url,
      STORAGE__POOL_SIZE: "4",
      CLUSTER__URL: redis.url,
      CLUSTER__HEARTBEAT: "500ms",
      CLUSTER__DEAD_AFTER: "5s",
    },
    newDatabase: () => database.newDatabase(),
    stop: async () => void (await Promise.all([database.stop(), redis.stop()])),
  };
}
