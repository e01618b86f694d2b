/** Chooses the engines by the configuration: SQLite or PostgreSQL for what must survive, one process or Redis for what is shared. */
import { createLocalCluster } from "./cluster/local/cluster.ts";
import type { Cluster } from "./cluster/ports.ts";
import { createRedisCluster } from "./cluster/redis/cluster.ts";
import type { Config } from "./config/schema.ts";
import type { Storage } from "./storage/ports.ts";
import { createPostgresStorage } from "./storage/postgres/storage.ts";
import { createSqliteStorage } from "./storage/sqlite/storage.ts";
import type { Counts } from "./telemetry/counts.ts";
import type { Logger } from "./telemetry/logger.ts";
import { Outage } from "./telemetry/outage.ts";

export interface StorageTold {
  now: () => number;
  logger: Logger;
  /** Told of what the storage lacks and does not fail for; default: the log. */
  onNotice?: (sentence: string) => void;
}

export function createStorage(config: Config, { now, logger, ...given }: StorageTold): Storage {
  const { url, tls, query_timeout: timeoutMs, pool_size: poolSize } = config.storage;
  const onListenerError = (err: unknown) => logger.error({ err }, "a change of the directory was not followed");
  const writes = new Outage({
    level: "error",
    gone: "the storage refuses writes",
    back: "the storage takes writes again",
    logger,
  });
  const onNotice = given.onNotice ?? ((fault: string) => logger.warn({ fault }, "the storage lacks something"));
  const told = { onListenerError, onNotice, writes };
  if (url.startsWith("sqlite:")) {
    const path = url.slice("sqlite:".length);
    const isShared = config.cluster.url !== null;
    const onOpenFolder = (folder: string) =>
      logger.warn(
        { folder },
        "others of this machine may look into the folder of the storage: chmod 700 keeps them out",
      );
    return createSqliteStorage({ path, now, isShared, callTimeoutMs: timeoutMs, onOpenFolder, ...told });
  }
  const hearing = new Outage({
    level: "error",
    gone: "changes of the directory are not heard at once",
    back: "changes of the directory are heard at once again",
    logger,
  });
  const reads = new Outage({
    level: "error",
    gone: "the storage answers no reads",
    back: "the storage answers reads again",
    logger,
  });
  const filling = new Outage({
    level: "warn",
    gone: "PostgreSQL gives fewer connections than this node wants",
    back: "PostgreSQL gives connections again",
    // The outbox reads on one of its own and listens on another.
    details: { wanted: poolSize + (config.storage.outbox ? 2 : 0) },
    logger,
  });
  const { directory } = config;
  const outbox = config.storage.outbox ? { rejectedKeptMs: config.log.retention } : null;
  return createPostgresStorage({
    url,
    tls,
    poolSize,
    queryTimeoutMs: timeoutMs,
    directory,
    outbox,
    now,
    hearing,
    reads,
    filling,
    onStalled: (sessions) =>
      logger.warn({ sessions }, "sessions that stood still in the middle of an append were ended: cursors go on"),
    ...told,
  });
}

/** For the installation that the storage holds, which has to be started. */
export async function createCluster(
  config: Config,
  given: { storage: Storage; now: () => number; version: string; nodeId: string; counts: Counts; logger: Logger },
): Promise<Cluster> {
  const { storage, ...rest } = given;
  const installation = await storage.installation();
  watchInstallation(storage, { installation, logger: rest.logger });
  const options = { ...rest, installation };
  const { url, tls, heartbeat: heartbeatMs, dead_after: deadAfterMs, ingest_stream: stream } = config.cluster;
  const ingest = stream === null ? null : { stream, group: config.cluster.ingest_group };
  return url === null
    ? createLocalCluster({ ...options, store: storage.statuses })
    : createRedisCluster({ ...options, url, tls, natMap: config.cluster.nat_map, ingest, heartbeatMs, deadAfterMs });
}

/**
 * Says it as an error where the storage has become another installation under a running node, as after a restore into a new
 * database: this node goes on under the names of before in Redis, apart from those that start now.
 */
function watchInstallation(storage: Storage, { installation, logger }: { installation: string; logger: Logger }): void {
  storage.log.epochs.watch(() => {
    void storage
      .installation()
      .then((now) => {
        if (now !== installation)
          logger.error({ installation, now }, "the database is another installation now: restart this node");
      })
      .catch(() => {});
  });
}
