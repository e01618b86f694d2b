/** A whole cluster to break: nodes as processes, PostgreSQL and Redis, and a proxy on every link between them and to clients. */
import { Redis } from "ioredis";
import { migrate } from "../../../src/storage/postgres/migrate.ts";
import { checkedSettings } from "../checker/settings.ts";
import { freePorts } from "../free-ports.ts";
import { type PostgresServer, runSql, startPostgres } from "../postgres.ts";
import { type PostgresPair, type Replication, startPostgresPair } from "../postgres-pair.ts";
import { type LinkProxy, startProxy } from "../proxy.ts";
import { type RedisServer, startRedis, startRedisCluster, startSentinelPair } from "../redis.ts";
import { type Service, startService } from "../service.ts";
import { until } from "../until.ts";

/** How Redis is there. Clients of the last two learn the servers' own addresses, and a map leads them to the proxies. */
export const engines = ["redis", "cluster", "sentinel"] as const;
export type Engine = (typeof engines)[number];

export interface StageOptions {
  engine?: Engine;
  nodes?: number;
  /** Of every node, as `startService` takes them. */
  settings?: Record<string, string>;
  /** Two servers instead of one, so that there can be failovers. */
  replication?: Replication | undefined;
  /** Run in the database before the nodes start: the application's own tables. */
  sql?: string;
}

/** A node's own way to one of the servers. */
export interface RedisLink {
  /** For people. */
  name: string;
  server: RedisServer;
  link: LinkProxy;
}

export interface StageNode {
  name: string;
  /** Through its proxy, as clients come. */
  url: string;
  toClients: LinkProxy;
  toPostgres: LinkProxy;
  /** One for each server, in the order of `Stage.redis`; then that to the Sentinel. */
  toRedis: RedisLink[];
  /** As it is now: another one after a restart. */
  service(): Service;
  isWhole(): Promise<boolean>;
  kill(): Promise<void>;
  /** Tries until what it needs to start is there. */
  restart(): Promise<void>;
}

export interface Failover {
  replication: Replication;
  /** The standby hears no more of its primary: what is committed from now on is lost with it. */
  fallBehind(): void;
  /** The primary goes, the standby is promoted after a while, and every node's link leads to it; then it has a standby. */
  run(options: { how: "at once" | "orderly"; pause: () => Promise<void> }): Promise<void>;
}

export interface Stage {
  nodes: StageNode[];
  postgres: Pick<PostgresServer, "isOwn" | "halt" | "resume">;
  /** Null: there is but one server. */
  failover: Failover | null;
  redis: RedisServer[];
  /** Runs SQL in the nodes' database, as the application would. */
  sql(text: string): Promise<Record<string, unknown>[]>;
  /** Of the nodes' database, as it is reached just now. */
  databaseUrl(): string;
  flushRedis(): Promise<void>;
  /** Resolves once every node can serve. */
  whole(): Promise<void>;
  /** Ends every process and removes every folder, however broken it all is. */
  stop(): Promise<void>;
}

const usual: Record<string, string> = {
  CLUSTER__HEARTBEAT: "400ms",
  CLUSTER__DEAD_AFTER: "2s",
  ...checkedSettings,
  PRESENCE__OFFLINE_GRACE: "500ms",
  STORAGE__POOL_SIZE: "4",
  STORAGE__QUERY_TIMEOUT: "2s",
  TYPING__TIMEOUT: "4s",
  TYPING__RELAY_INTERVAL: "1s",
};
const wholePatienceMs = 45_000;
/** A node starts within a second or two, or ends; longest outage included it hangs if it does neither. */
const startPatienceMs = 20_000;

export async function openStage(options: StageOptions = {}): Promise<Stage> {
  const { engine = "redis", nodes: count = 3, settings, replication, sql: first } = options;
  /** Collects what ends it all, last made first. */
  const endings: (() => unknown)[] = [];
  async function stop(): Promise<void> {
    const faults: unknown[] = [];
    for (const end of endings.splice(0).reverse()) {
      try {
        await end();
      } catch (error) {
        faults.push(error);
      }
    }
    if (faults.length > 0) throw new AggregateError(faults, "not everything could be ended");
  }
  try {
    return await build();
  } catch (error) {
    await stop();
    throw error;
  }

  async function build(): Promise<Stage> {
    const pair = replication === undefined ? null : await startPostgresPair(replication);
    const server = pair ?? (await startPostgres());
    endings.push(() => server.stop());
    const database = await server.newDatabase();
    await migrate({ url: database, lockTimeoutMs: 5_000 });
    const databaseUrl = () => (pair === null ? database : onPort(database, pair.port));
    const sql = (text: string) => runSql(databaseUrl(), text);
    if (first !== undefined) await sql(first);
    const redis = await startEngine(engine);
    endings.push(() => redis.stop());
    const nodes = await Promise.all(
      Array.from({ length: count }, (_, index) => openNode(`n${index + 1}`, { database, redis, settings, endings })),
    );
    return {
      nodes,
      postgres: server,
      failover: pair === null ? null : failoverOf(pair, { replication: replication!, nodes }),
      redis: redis.servers,
      sql,
      databaseUrl,
      flushRedis: async () => void (await Promise.all(redis.servers.map(flush))),
      whole: () =>
        until(async () => (await Promise.all(nodes.map((node) => node.isWhole()))).every(Boolean), wholePatienceMs),
      stop,
    };
  }
}

function onPort(url: string, port: number): string {
  const moved = new URL(url);
  moved.port = String(port);
  return moved.href;
}

function failoverOf(pair: PostgresPair, { replication, nodes }: Pick<Failover, "replication"> & Pick<Stage, "nodes">) {
  return {
    replication,
    fallBehind: () => pair.link.freeze(),
    async run({ how, pause }: Parameters<Failover["run"]>[0]) {
      await pair.lose(how);
      await pause();
      const port = await pair.promote();
      for (const { toPostgres } of nodes) toPostgres.lead(port);
      await pair.refill();
    },
  };
}

interface RunningEngine {
  servers: RedisServer[];
  /** Everything that a node connects to. */
  reached: { name: string; server: RedisServer }[];
  /** Gives what a node is told that has these links, and no other way. */
  settingsOf(links: RedisLink[]): Record<string, string>;
  stop(): Promise<void>;
}

const hostOf = ({ link }: RedisLink) => `127.0.0.1:${link.port}`;
const mapOf = (links: RedisLink[]) => links.map((it) => `${it.server.announced}=${hostOf(it)}`).join(",");
const numbered = (servers: RedisServer[]) => servers.map((server, at) => ({ name: `Redis at ${at}`, server }));

async function startEngine(engine: Engine): Promise<RunningEngine> {
  switch (engine) {
    case "redis": {
      const server = await startRedis();
      return {
        servers: [server],
        reached: [{ name: "Redis", server }],
        settingsOf: ([link]) => ({ CLUSTER__URL: `redis://${hostOf(link!)}` }),
        stop: () => server.stop(),
      };
    }
    case "cluster": {
      const group = await startRedisCluster({ elsewhere: true });
      return {
        ...group,
        reached: numbered(group.servers),
        settingsOf: (links) => ({
          CLUSTER__URL: `redis+cluster://${links.map(hostOf).join(",")}`,
          CLUSTER__NAT_MAP: mapOf(links),
        }),
      };
    }
    case "sentinel": {
      const group = await startSentinelPair();
      return {
        ...group,
        reached: [...numbered(group.servers), { name: "the Sentinel", server: group.sentinel }],
        settingsOf: (links) => ({
          CLUSTER__URL: `redis+sentinel://${hostOf(links.at(-1)!)}/${group.masterName}`,
          CLUSTER__NAT_MAP: mapOf(links),
        }),
      };
    }
  }
}

interface NodeOptions {
  database: string;
  redis: RunningEngine;
  settings: Record<string, string> | undefined;
  endings: (() => unknown)[];
}

async function openNode(name: string, { database, redis, settings, endings }: NodeOptions): Promise<StageNode> {
  const proxy = async (port: number) => {
    const made = await startProxy(port);
    endings.push(() => made.stop());
    return made;
  };
  const [port] = await freePorts(1);
  const databaseUrl = new URL(database);
  const toPostgres = await proxy(Number(databaseUrl.port || 5432));
  const toRedis = await Promise.all(
    redis.reached.map(async ({ name, server }) => ({ name, server, link: await proxy(server.port) })),
  );
  const toClients = await proxy(port!);
  databaseUrl.hostname = "127.0.0.1";
  databaseUrl.port = String(toPostgres.port);
  const options = {
    patienceMs: startPatienceMs,
    settings: {
      ...usual,
      ...settings,
      SERVER__PORT: String(port),
      STORAGE__URL: databaseUrl.href,
      ...redis.settingsOf(toRedis),
      CLUSTER__NODE_ID: name,
    },
  };
  let service = await startService(options);
  endings.push(() => service.stop());
  return {
    name,
    url: `ws://127.0.0.1:${toClients.port}/ws`,
    toClients,
    toPostgres,
    toRedis,
    service: () => service,
    isWhole: () =>
      fetch(`${service.http}/health`)
        .then((answer) => answer.json())
        .then(
          ({ status }: any) => status === "up",
          () => false,
        ),
    kill: () => service.kill(),
    async restart() {
      const { folder } = service;
      for (const endsAt = performance.now() + wholePatienceMs; ; ) {
        try {
          service = await startService({ ...options, folder });
          return;
        } catch (error) {
          // As its supervisor would: what it needs may be away just now.
          if (performance.now() > endsAt || String(error).includes("It was killed")) throw error;
        }
      }
    },
  };
}

async function flush({ port }: RedisServer): Promise<void> {
  const client = new Redis({ port, lazyConnect: true, maxRetriesPerRequest: 0, retryStrategy: () => null });
  client.on("error", () => {});
  // A replica takes no writes, and one that is away has nothing to lose.
  await client.connect().then(
    () => client.flushall().catch(() => {}),
    () => {},
  );
  client.disconnect();
}
