/** Starts what several nodes stand on: PostgreSQL with the schema made, or one SQLite file, and a Redis, all of this test's own. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { startPostgres } from "./postgres.ts";
import { type RedisServer, startRedis } from "./redis.ts";
import { type Service, startClusterNode } from "./service.ts";

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

export interface SharedFile {
  redis: RedisServer;
  startNode(settings: Record<string, string>): Promise<Service>;
  stop(): Promise<void>;
}

/** The same with one SQLite file in the place of PostgreSQL: it has the log of all nodes that are started on it. */
export async function laySharedFile(): Promise<SharedFile> {
  const folder = mkdtempSync(join(tmpdir(), "ws-shared-"));
  const redis = await startRedis();
  const file = { STORAGE__URL: `sqlite:${join(folder, "log.db")}` };
  return {
    redis,
    startNode: (settings) => startClusterNode(redis.url, { settings: { ...file, ...settings } }),
    async stop() {
      await redis.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
