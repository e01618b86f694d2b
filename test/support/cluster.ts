/** Nodes of a cluster on one Redis, in this process. */
import type { Cluster } from "../../src/cluster/ports.ts";
import { createRedisCluster, type RedisClusterOptions } from "../../src/cluster/redis/cluster.ts";
import { createKeys } from "../../src/cluster/redis/keys.ts";
import { startRedis } from "./redis.ts";
import { until } from "./until.ts";

const installation = "test";
/** The names in Redis of what these nodes share. */
export const keys = createKeys(installation);

export const silent = { info() {}, warn() {}, error() {} };

/** A node that is not started yet; heartbeats are rare unless the options say otherwise. */
export function redisNode(url: string, nodeId: string, options: Partial<RedisClusterOptions> = {}) {
  return createRedisCluster({ url, installation, nodeId, version: "1.2.3", now: Date.now, logger: silent, ...options });
}

/** A node starts while Redis is away, too: here it is to be there. */
async function isWhole(node: Cluster): Promise<boolean> {
  return (
    (await isUp(node)) &&
    (await node.calls.get("nobody's").then(
      () => true,
      () => false,
    ))
  );
}

/** Started nodes that reach each other; `close` stops them. */
export async function startNodes(url: string, nodeIds: string[], options: Partial<RedisClusterOptions> = {}) {
  const nodes = nodeIds.map((nodeId) => redisNode(url, nodeId, options));
  await Promise.all(nodes.map((node) => node.start()));
  await Promise.all(nodes.map((node) => until(() => isWhole(node))));
  return { nodes, close: async () => void (await Promise.all(nodes.map((node) => node.stop()))) };
}

/** Two nodes that notice quickly, on a Redis of their own; `close` stops all three. */
export async function startPair() {
  const redis = await startRedis();
  const { nodes, close } = await startNodes(redis.url, ["n1", "n2"], {
    heartbeatMs: 100,
    deadAfterMs: 600,
    commandTimeoutMs: 300,
    watchTimeoutMs: 300,
  });
  const [one, other] = nodes as [Cluster, Cluster];
  return {
    redis,
    one,
    other,
    async close() {
      await close();
      await redis.stop();
    },
  };
}

/** Whether the node can reach the others. */
export const isUp = (node: Cluster): Promise<boolean> =>
  node.ping().then(
    () => true,
    () => false,
  );
export const isDown = async (node: Cluster): Promise<boolean> => !(await isUp(node));
