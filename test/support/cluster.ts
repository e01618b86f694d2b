/** Nodes of a cluster on one Redis, in this process. */
import { createRedisCluster, type RedisClusterOptions } from "../../src/cluster/redis/cluster.ts";

export const silent = { info() {}, warn() {} };

/** A node that is not started yet; heartbeats are rare unless the options say otherwise. */
export function redisNode(url: string, nodeId: string, options: Partial<RedisClusterOptions> = {}) {
  return createRedisCluster({ url, nodeId, version: "1.2.3", now: Date.now, logger: silent, ...options });
}

/** Started nodes; `close` stops them. */
export async function startNodes(url: string, nodeIds: string[], options: Partial<RedisClusterOptions> = {}) {
  const nodes = nodeIds.map((nodeId) => redisNode(url, nodeId, options));
  await Promise.all(nodes.map((node) => node.start()));
  return { nodes, close: async () => void (await Promise.all(nodes.map((node) => node.stop()))) };
}
