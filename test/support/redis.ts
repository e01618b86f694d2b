/** Real Redis servers for tests: one, a pair that a Sentinel watches, or a Redis Cluster of three masters. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { debianProgram } from "./debian.ts";
import { freePorts } from "./free-ports.ts";
import { until } from "./until.ts";

export interface RedisServer {
  /** `redis://127.0.0.1:<port>` */
  url: string;
  port: number;
  /** `host:port` as clients of its group are told. */
  announced: string;
  /** `kill -9`; what it held is gone, as it keeps nothing on disk. */
  kill(): Promise<void>;
  /** Starts it again on the same port, empty. */
  restart(): Promise<void>;
  /** Halts it as a network does that loses packets: connections stay open, nothing is answered. */
  pause(): void;
  resume(): void;
  stop(): Promise<void>;
}

export interface RedisGroup {
  /** Given to `cluster.url`. */
  url: string;
  servers: RedisServer[];
  stop(): Promise<void>;
}

export const findServer = () =>
  debianProgram("redis-server", { package: "redis-server", otherwise: "set TEST_REDIS_URL" });

export interface RedisOptions {
  /** Further settings, as on the command line. */
  settings?: string[];
  configFile?: string;
  port?: number;
  /** Told to clients by a server of a Redis Cluster in the place of its address. */
  announcedHost?: string;
}

/** Starts a server that keeps everything in memory. */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const { settings = [], configFile, port, announcedHost } = options;
  const server = findServer();
  const at = port ?? (await freePorts(1))[0]!;
  const folder = mkdtempSync(join(tmpdir(), "ws-redis-"));
  const fixed = ["--port", String(at), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"];
  fixed.push("--repl-diskless-sync-delay", "0");
  if (announcedHost !== undefined)
    fixed.push("--cluster-announce-hostname", announcedHost, "--cluster-preferred-endpoint-type", "hostname");
  const run = async () => {
    const child = Bun.spawn([server, ...(configFile === undefined ? [] : [configFile]), ...fixed, ...settings], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "ignore",
    });
    await said(child.stdout, /Ready to accept connections|Sentinel ID is/);
    return child;
  };
  let child = await run();
  const kill = async () => {
    child.kill("SIGKILL");
    await child.exited;
  };
  return {
    url: `redis://127.0.0.1:${at}`,
    port: at,
    announced: `${announcedHost ?? "127.0.0.1"}:${at}`,
    kill,
    async restart() {
      child = await run();
    },
    pause: () => child.kill("SIGSTOP"),
    resume: () => child.kill("SIGCONT"),
    async stop() {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** An empty Redis: one of its own, or the one that `TEST_REDIS_URL` names, emptied. */
export async function openEmptyRedis(): Promise<{ url: string; empty(): Promise<void>; stop(): Promise<void> }> {
  const given = process.env.TEST_REDIS_URL;
  const server = given === undefined ? await startRedis() : null;
  const url = given ?? server!.url;
  const empty = async () => {
    const redis = new Redis(url, { lazyConnect: true });
    await redis.connect();
    await redis.flushall();
    redis.disconnect();
  };
  await empty();
  return { url, empty, stop: async () => void (await server?.stop()) };
}

/** A master, its replica and a Sentinel that fails over within seconds. */
export async function startSentinelPair(): Promise<RedisGroup & { masterName: string; sentinel: RedisServer }> {
  const masterName = "main";
  const master = await startRedis();
  const replica = await startRedis({ settings: ["--replicaof", "127.0.0.1", String(master.port)] });
  const folder = mkdtempSync(join(tmpdir(), "ws-sentinel-"));
  const file = join(folder, "sentinel.conf");
  await Bun.write(
    file,
    [
      `sentinel monitor ${masterName} 127.0.0.1 ${master.port} 1`,
      `sentinel down-after-milliseconds ${masterName} 500`,
      `sentinel failover-timeout ${masterName} 3000`,
    ].join("\n"),
  );
  const sentinel = await startRedis({ configFile: file, settings: ["--sentinel"] });
  const redis = new Redis(sentinel.port);
  const atReplica = new Redis(replica.port);
  // A replica that never had the data is not made master.
  await until(async () => (await atReplica.info("replication")).includes("master_link_status:up"));
  atReplica.disconnect();
  await until(async () => {
    const replicas = (await redis.call("sentinel", "replicas", masterName)) as unknown[];
    return replicas.length === 1 && !JSON.stringify(replicas).includes("disconnected");
  });
  redis.disconnect();
  const servers = [master, replica];
  return {
    url: `redis+sentinel://127.0.0.1:${sentinel.port}/${masterName}`,
    masterName,
    sentinel,
    servers,
    async stop() {
      await Promise.all([sentinel, ...servers].map((server) => server.stop()));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export interface RedisClusterOptions {
  /** They announce names that lead nowhere. */
  elsewhere?: boolean;
  /** Given at their start besides, where they speak TLS too; clients that do are told of ports for it. */
  tls?: readonly string[];
}

/** Three masters that share the slots. */
export async function startRedisCluster({ elsewhere = false, tls }: RedisClusterOptions = {}): Promise<RedisGroup> {
  const ports = await freePorts(6);
  const tlsPorts = tls === undefined ? null : await freePorts(3);
  const servers = await Promise.all(
    [0, 1, 2].map((at) =>
      startRedis({
        port: ports[at],
        ...(elsewhere ? { announcedHost: `redis-${at + 1}.invalid` } : {}),
        settings: [
          ...["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"],
          ...["--cluster-port", String(ports[at + 3])],
          ...(tlsPorts === null ? [] : ["--tls-port", String(tlsPorts[at]), "--tls-cluster", "yes", ...tls!]),
        ],
      }),
    ),
  );
  const clients = servers.map(({ port }) => new Redis(port));
  const bounds = [0, 5_461, 10_923, 16_384];
  for (const [at, client] of clients.entries()) {
    await client.call("cluster", "addslotsrange", bounds[at]!, bounds[at + 1]! - 1);
    await client.call("cluster", "set-config-epoch", at + 1);
    if (at > 0) await clients[0]!.call("cluster", "meet", "127.0.0.1", (tlsPorts ?? ports)[at]!, ports[at + 3]!);
  }
  await until(async () => {
    const infos = await Promise.all(clients.map((client) => client.call("cluster", "info")));
    return infos.every(
      (info) => String(info).includes("cluster_state:ok") && String(info).includes("cluster_known_nodes:3"),
    );
  });
  for (const client of clients) client.disconnect();
  return {
    url: `redis+cluster://${(tlsPorts ?? ports.slice(0, 3)).map((port) => `127.0.0.1:${port}`).join(",")}${tls === undefined ? "" : "?tls=true"}`,
    servers,
    stop: async () => void (await Promise.all(servers.map((server) => server.stop()))),
  };
}

/** Resolves once the program has said it; what it says afterwards is read and dropped, so that it never blocks. */
async function said(stream: ReadableStream<Uint8Array>, what: RegExp): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  void (async () => {
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      if (text.length < 1 << 16) text += decoder.decode(chunk, { stream: true });
      if (what.test(text)) resolve();
    }
    reject(new Error(`redis-server ended: ${text}`));
  })();
  await promise;
}
