/** Joins everything that nodes share, on Redis: one server, Sentinel or a Redis Cluster; it may be away or come back empty. */
import type { ClientTlsFiles } from "../../config/client-tls.ts";
import type { Counts } from "../../telemetry/counts.ts";
import type { Logger } from "../../telemetry/logger.ts";
import type { Cluster } from "../ports.ts";
import { parseRedisUrl, type RedisAddress } from "./address.ts";
import { RedisBus } from "./bus.ts";
import { RedisCallRegistry } from "./call-registry.ts";
import { Commands } from "./commands.ts";
import { openCommandClient } from "./connection.ts";
import { watchEviction } from "./eviction.ts";
import { Heartbeat } from "./heartbeat.ts";
import { createKeys } from "./keys.ts";
import { RegistryMark } from "./mark.ts";
import { RedisNodeRegistry } from "./nodes.ts";
import { RedisPresenceRegistry } from "./presence-registry.ts";
import { tryRights } from "./rights.ts";
import { RedisStream, streamKeys } from "./stream.ts";
import { RedisUnavailable } from "./unavailable.ts";

export interface RedisClusterOptions {
  /** `redis://`, `rediss://`, `redis+sentinel://` or `redis+cluster://`; see `parseRedisUrl`. */
  url: string;
  /** `host:port` as the servers announce themselves → `host:port` where this node reaches them. */
  natMap?: Readonly<Record<string, string>>;
  /** Files for encrypted connections; null: whom the system trusts, and no certificate of our own. */
  tls?: ClientTlsFiles | null;
  /** The identity of the installation, which every key and channel carries. */
  installation: string;
  nodeId: string;
  version: string;
  /** Milliseconds since 1970. */
  now: () => number;
  logger: Pick<Logger, "info" | "warn" | "error">;
  counts?: Counts;
  newId?: () => string;
  /** A stream that applications add to, and the consumer group that reads it, the installation's own where it is null [PUB2]; null: none. */
  ingest?: { stream: string; group: string | null } | null;
  /** How often this node says that it lives and looks whether Redis still has what it should, ms. */
  heartbeatMs?: number;
  /** A node that has said nothing for so long is dead, ms. */
  deadAfterMs?: number;
  /** Within so long once Redis is back every node puts back what it has lost: calls are refused until then, ms. */
  settlingMs?: number;
  /** How long one command may take, ms. */
  commandTimeoutMs?: number;
  /** How long somebody who subscribes waits for the bus, ms. */
  watchTimeoutMs?: number;
  publishesMax?: number;
  callsRememberedMax?: number;
}

const defaults = {
  natMap: {},
  tls: null,
  newId: () => Bun.randomUUIDv7(),
  ingest: null,
  heartbeatMs: 5_000,
  deadAfterMs: 15_000,
  commandTimeoutMs: 1_000,
  watchTimeoutMs: 1_000,
  publishesMax: 10_000,
  callsRememberedMax: 10_000,
} satisfies Partial<RedisClusterOptions>;

/**
 * Makes a cluster over a Redis that may be away when it starts, and come and go afterwards; `start` rejects only where Redis, or
 * the connection to it, refuses what only an operator can mend.
 */
export function createRedisCluster(options: RedisClusterOptions): Cluster {
  const { nodeId, now, logger } = options;
  const { address, run, commands, rights, bus, nodes, presence, calls, stream, heartbeatMs } = createParts(options);
  const heartbeat = new Heartbeat({
    commands,
    work: () => [nodes.sayAlive(), presence.look(), calls.restore(), bus.probe()],
    intervalMs: heartbeatMs,
    now,
    logger,
  });

  return {
    nodeId,
    bus,
    presence,
    calls,
    nodes,
    ...(stream === null ? {} : { stream }),
    async start() {
      watchEviction(commands, logger);
      try {
        await unlessAway(address, async () => {
          await commands.connect();
          await tryRights({ commands, ...rights });
          commands.noteServed();
        });
        await bus.start();
        await unlessAway(address, () =>
          allServed(commands, [nodes.sayAlive(), presence.look(), calls.restore(), bus.probe()]),
        );
      } catch (error) {
        bus.stop();
        commands.stop();
        throw error;
      }
      heartbeat.start();
    },
    async ping() {
      // A write and a word to itself: a Redis that is full, or not the master any more, still answers a ping.
      await allServed(commands, [nodes.sayAlive(), bus.probe()]);
      commands.noteServed();
    },
    async stop() {
      await heartbeat.stop();
      // Devices in their grace stay: whoever does not come back elsewhere is swept with this node [DRN].
      const left = await presence.ownUsers().catch(() => null);
      if (left?.length === 0) await nodes.remove(run).catch(() => {});
      bus.stop();
      commands.stop();
    },
  };
}

function createParts(options: RedisClusterOptions) {
  const { url, natMap, tls, installation, nodeId, version, now, logger, newId, ingest, ...settings } = {
    ...defaults,
    ...options,
  };
  const { heartbeatMs, deadAfterMs, commandTimeoutMs, watchTimeoutMs, publishesMax, callsRememberedMax } = settings;
  // Some hear of the loss at a heartbeat, and may have to connect again first.
  const settlingMs = settings.settlingMs ?? heartbeatMs + 2_000;
  const address = parseRedisUrl(url, { natMap, tls });
  const run = `${nodeId}/${newId()}`;
  const client = openCommandClient(address, { commandTimeoutMs });
  const commands = new Commands({ client, logger, now, publishesMax, refusalLastsMs: heartbeatMs });
  const keys = createKeys(installation);
  const bus = new RedisBus({
    address,
    client,
    commands,
    keys,
    run,
    commandTimeoutMs,
    watchTimeoutMs,
    echoTimeoutMs: commandTimeoutMs,
    now,
    logger,
  });
  const nodes = new RedisNodeRegistry({
    commands,
    keys,
    nodeId,
    run,
    version,
    now,
    deadAfterMs,
  });
  const marks = { newMark: newId, settlingMs };
  const presence = new RedisPresenceRegistry({
    ...{ commands, keys, bus, nodes, now },
    ...marks,
    run,
  });
  const calls = new RedisCallRegistry({
    commands,
    keys,
    registryMark: new RegistryMark({ commands, keys: keys.calls, ...marks }),
    rememberedMax: callsRememberedMax,
    counts: options.counts,
    logger,
  });
  const group = ingest?.group ?? `ws-service:${installation}`;
  const stream = ingest === null ? null : new RedisStream({ url, natMap, tls, keys, ...ingest, group, newId, now });
  const rights = { key: keys.probe(run), stream: ingest === null ? null : streamKeys(keys, { ...ingest, group }) };
  return { address, run, commands, rights, bus, nodes, presence, calls, stream, heartbeatMs };
}

/** @throws RedisUnavailable with the refusal that a connection has ended upon, where it has: that tells more than its end */
async function allServed(commands: Pick<Commands, "refusal">, work: Promise<unknown>[]): Promise<void> {
  try {
    await Promise.all(work);
  } catch (error) {
    const isEnd = error instanceof RedisUnavailable && error.isEnd;
    throw (isEnd ? commands.refusal : null) ?? error;
  }
}

/** @throws RedisUnavailable where Redis is not away but refuses, for what only an operator can mend */
async function unlessAway(address: RedisAddress, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof RedisUnavailable && passes(error, address)) return;
    throw error;
  }
}

/** Says whether it passes by itself: under a Sentinel or in a Redis Cluster who is not the master, or not of a slot, is found to be that. */
function passes({ isOfSettings, reply }: RedisUnavailable, { kind }: RedisAddress): boolean {
  return !isOfSettings && !(kind === "single" && (reply === "READONLY" || reply === "MOVED"));
}
