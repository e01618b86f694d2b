/** Opens ioredis connections: one for commands, and those that hear channels. */
import { type TracingChannel, tracingChannel } from "node:diagnostics_channel";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import type { Endpoint } from "../../config/redis-url.ts";
import type { RedisAddress } from "./address.ts";
import { connectorThrough } from "./nat.ts";
import { replyOf } from "./unavailable.ts";

export interface ConnectionLimits {
  /** How long a command may go unanswered, ms. */
  commandTimeoutMs: number;
}

// Node has it and the platform does not: without it ioredis takes every command for one that somebody traces.
const channels = Object.getPrototypeOf(tracingChannel("ioredis:command")) as TracingChannel;
if (!("hasSubscribers" in channels)) {
  Object.defineProperty(channels, "hasSubscribers", {
    get(this: TracingChannel) {
      const { start, end, asyncStart, asyncEnd, error } = this;
      return [start, end, asyncStart, asyncEnd, error].some((channel) => channel.hasSubscribers);
    },
  });
}

/** Back at once after a blink, and never more than a second late after an outage. */
const retryDelayMs = (attempt: number) => Math.min(1_000, 25 * 2 ** Math.min(attempt, 6));
const connectTimeoutMs = 2_000;

function common(address: RedisAddress, { commandTimeoutMs }: ConnectionLimits): RedisOptions {
  return {
    username: address.username,
    password: address.password,
    ...(address.tls === null ? {} : { tls: address.tls }),
    // Sentinels are asked by a connector of ioredis' own; `openOne` tells it of the map.
    ...(address.kind === "cluster" && address.natMap.size > 0 ? { Connector: connectorThrough(address.natMap) } : {}),
    connectTimeout: connectTimeoutMs,
    commandTimeout: commandTimeoutMs,
    // While Redis is away everything fails at once: nothing queues up without a bound, nobody waits in vain.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    // Each user of a channel subscribes by itself, and so knows when it may have missed something.
    autoResubscribe: false,
    retryStrategy: retryDelayMs,
    // A master that was demoted still answers; the new one is found by connecting again.
    reconnectOnError: (error) => replyOf(error) === "READONLY",
    lazyConnect: true,
  };
}

function openOne(address: RedisAddress, options: RedisOptions): Redis {
  switch (address.kind) {
    case "single":
      return new Redis({ ...options, ...address.endpoint, db: address.database });
    case "sentinel":
      return new Redis({
        ...options,
        sentinels: address.sentinels,
        name: address.masterName,
        db: address.database,
        sentinelPassword: address.sentinelPassword,
        sentinelRetryStrategy: retryDelayMs,
        enableTLSForSentinelMode: address.tls !== null,
        ...(address.tls === null ? {} : { sentinelTLS: address.tls }),
        failoverDetector: true,
        natMap: (announced) => address.natMap.get(announced) ?? null,
      });
    case "cluster":
      throw new Error("A Redis Cluster is not one server.");
  }
}

/**
 * The connection for everything but hearing channels. Commands of one turn of the loop are written together, once those
 * before them are answered; what is gathered already, scripts and what is published, goes to one server at once.
 */
export function openCommandClient(address: RedisAddress, limits: ConnectionLimits): Redis | Cluster {
  const pipelining = { enableAutoPipelining: true, autoPipeliningIgnoredCommands: ["publish", "evalsha"] };
  const options: RedisOptions = { ...common(address, limits), ...pipelining };
  if (address.kind !== "cluster") return openOne(address, options);
  const { enableOfflineQueue: _, retryStrategy: __, lazyConnect: ___, ...nodeOptions } = options;
  return new Cluster(address.endpoints, {
    lazyConnect: true,
    enableOfflineQueue: false,
    enableAutoPipelining: true,
    clusterRetryStrategy: retryDelayMs,
    clusterNodeRetryStrategy: retryDelayMs,
    // Enough to follow a slot that moves; a master that is down fails the command within half a second.
    maxRedirections: 5,
    slotsRefreshInterval: 2_000,
    redisOptions: nodeOptions,
  });
}

/** A connection that hears channels: of the one master, or of the master of a Redis Cluster at `endpoint`. */
export function openSubscriber(
  address: RedisAddress,
  { endpoint, ...limits }: ConnectionLimits & { endpoint: Endpoint | null },
): Redis {
  const options = common(address, limits);
  return endpoint === null ? openOne(address, options) : new Redis({ ...options, ...endpoint });
}

/** After a connection has ended for good, ms. */
const comebackDelayMs = 500;

/**
 * Connects again where ioredis has given up: told of a new master while it still asks the Sentinels for it, it ends for
 * good, though nobody has ended it [END2]. @returns to be called before the connection is ended on purpose
 */
export function keepConnecting(client: Redis | Cluster): () => void {
  let timer: Timer | null = null;
  const comeBack = () => {
    timer = setTimeout(() => client.connect().catch(() => {}), comebackDelayMs);
  };
  client.on("end", comeBack);
  return () => {
    client.off("end", comeBack);
    if (timer !== null) clearTimeout(timer);
  };
}
