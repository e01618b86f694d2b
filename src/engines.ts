/** Chooses and loads the engines by the configuration: SQLite or PostgreSQL for what must survive, one process or Redis for what is shared. */
import type { Cluster } from "./cluster/ports.ts";
import type { Config } from "./config/schema.ts";
import type { Storage } from "./storage/ports.ts";
import type { Counts } from "./telemetry/counts.ts";
import type { Logger } from "./telemetry/logger.ts";
import { createStorageLog } from "./telemetry/storage-log.ts";

export interface StorageOptions {
  now: () => number;
  logger: Logger;
  /** Told of what the storage lacks and does not fail for; default: the log. */
  onNotice?: (sentence: string) => void;
}

/** Starts what the storage takes longest for, before the rest of the program is read. */
export async function readyStorage({ storage }: Pick<Config, "storage">): Promise<void> {
  if (storage.url.startsWith("sqlite:")) (await import("./storage/sqlite/thread.ts")).startAhead();
}

/** Makes what must survive; it opens nothing before it is started. The other engines stay unloaded: a driver takes its time, and memory from then on. */
export async function createStorage(config: Config, { logger, ...given }: StorageOptions): Promise<Storage> {
  const { url, tls, query_timeout: timeoutMs, pool_size: poolSize, outbox: hasOutbox } = config.storage;
  // The outbox reads on a connection of its own and listens on another.
  const told = { ...createStorageLog(logger, { wanted: poolSize + (hasOutbox ? 2 : 0) }), ...given };
  if (url.startsWith("sqlite:")) {
    const { createSqliteStorage } = await import("./storage/sqlite/storage.ts");
    const path = url.slice("sqlite:".length);
    return createSqliteStorage({ ...told, path, isShared: config.cluster.url !== null, callTimeoutMs: timeoutMs });
  }
  const { createPostgresStorage } = await import("./storage/postgres/storage.ts");
  const outbox = hasOutbox ? { rejectedKeptMs: config.log.retention } : null;
  const { directory } = config;
  return createPostgresStorage({ ...told, url, tls, poolSize, queryTimeoutMs: timeoutMs, directory, outbox });
}

/** Opens while the service is composed on it. */
export interface BegunStorage {
  storage: Storage;
  /** Resolves once it can be asked. */
  opened: Promise<void>;
}

/** Makes the storage and has it open; what keeps it from that is thrown where it is waited for. */
export async function beginStorage(config: Config, options: StorageOptions): Promise<BegunStorage> {
  const storage = await createStorage(config, options);
  const opened = storage.start();
  opened.catch(() => {});
  return { storage, opened };
}

export interface ClusterOptions extends BegunStorage {
  now: () => number;
  version: string;
  nodeId: string;
  counts: Counts;
  logger: Logger;
}

/** Makes what nodes share, for the installation that the storage holds; a node that is alone need not know which that is. */
export async function createCluster(config: Config, { storage, opened, ...options }: ClusterOptions): Promise<Cluster> {
  const installation = opened.then(() => storage.installation());
  installation.then(
    (first) => watchInstallation(storage, { installation: first, logger: options.logger }),
    () => {},
  );
  const { url, tls, heartbeat: heartbeatMs, dead_after: deadAfterMs, ingest_stream: stream } = config.cluster;
  if (url === null) {
    const { createLocalCluster } = await import("./cluster/local/cluster.ts");
    return createLocalCluster({ ...options, store: storage.statuses });
  }
  const { createRedisCluster } = await import("./cluster/redis/cluster.ts");
  const ingest = stream === null ? null : { stream, group: config.cluster.ingest_group };
  return createRedisCluster({
    ...options,
    installation: await installation,
    url,
    tls,
    natMap: config.cluster.nat_map,
    ingest,
    heartbeatMs,
    deadAfterMs,
  });
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
