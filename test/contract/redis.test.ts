/** Runs the cluster's contracts on Redis: one server, and a Redis Cluster of three masters. */
import { afterAll, beforeAll, describe } from "bun:test";
import { Redis } from "ioredis";
import type { Cluster } from "../../src/cluster/ports.ts";
import { startNodes } from "../support/cluster.ts";
import { openEmptyRedis, startRedisCluster } from "../support/redis.ts";
import { describeBusContract } from "./bus.ts";
import { callRegistryContract } from "./call-registry.ts";
import { describeNodesContract } from "./nodes.ts";
import { describePresenceRegistryContract } from "./presence-registry.ts";

interface Place {
  url: string;
  empty(): Promise<void>;
  stop(): Promise<void>;
}

async function openEmptyRedisCluster(): Promise<Place> {
  const group = await startRedisCluster();
  return {
    url: group.url,
    stop: () => group.stop(),
    async empty() {
      for (const { port } of group.servers) {
        const redis = new Redis(port);
        await redis.flushall();
        redis.disconnect();
      }
    },
  };
}

for (const [name, openPlace] of [
  ["Redis", openEmptyRedis],
  ["Redis Cluster", openEmptyRedisCluster],
] as const) {
  describe(name, () => {
    let place: Place;
    beforeAll(async () => {
      place = await openPlace();
    });
    afterAll(() => place.stop());

    const open = async () => {
      await place.empty();
      const { nodes, close } = await startNodes(place.url, ["n1", "n2", "n3"]);
      return { one: nodes[0]!, other: nodes[1]!, third: nodes[2]!, close };
    };

    describePresenceRegistryContract(name, async () => {
      const { one, other, close } = await open();
      const node = ({ presence: registry, bus }: Cluster) => ({
        registry,
        watch: async (topic: string) => bus.watch(topic) ?? undefined,
      });
      return { nodes: { one: node(one), other: node(other) }, close };
    });
    callRegistryContract(name, async () => {
      const { one, other, close } = await open();
      return { one: one.calls, other: other.calls, close };
    });
    describeBusContract(name, async () => {
      const { one, other, third, close } = await open();
      return { nodes: { one: one.bus, other: other.bus, third: third.bus }, close };
    });
    describeNodesContract(name, async () => {
      await place.empty();
      const { nodes, close } = await startNodes(place.url, ["n1", "n2"]);
      return { one: nodes[0]!, other: nodes[1]!, close };
    });
  });
}
