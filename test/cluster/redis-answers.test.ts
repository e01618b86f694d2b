/** What the presence registry makes of answers of Redis that are lost: what was asked may have been done all the same. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { DevicePresence } from "../../src/cluster/ports.ts";
import { parseRedisUrl } from "../../src/cluster/redis/address.ts";
import { Commands, RedisUnavailable } from "../../src/cluster/redis/commands.ts";
import { openCommandClient } from "../../src/cluster/redis/connection.ts";
import { RedisPresenceRegistry } from "../../src/cluster/redis/presence.ts";
import { silent } from "../support/cluster.ts";
import { openEmptyRedis } from "../support/redis.ts";

let redis: Awaited<ReturnType<typeof openEmptyRedis>>;
let commands: Commands;
let registry: RedisPresenceRegistry;
/** So many scripts are run whose answers are lost. */
let losing: number;
beforeEach(async () => {
  redis = await openEmptyRedis();
  losing = 0;
  const client = openCommandClient(parseRedisUrl(redis.url), { commandTimeoutMs: 1_000 });
  commands = new Commands({ client, logger: silent, publishesMax: 10 });
  const run = commands.run.bind(commands);
  commands.run = async (...asked) => {
    const answer = await run(...asked);
    if (losing === 0) return answer;
    losing--;
    throw new RedisUnavailable("Command timed out");
  };
  const nodes = { dead: async () => [], remove: async () => {} };
  registry = new RedisPresenceRegistry({ commands, nodes, instance: "n1/1", now: Date.now, deadAfterMs: 15_000 });
  await commands.connect();
  await registry.restore();
});
afterEach(async () => {
  commands.stop();
  await redis.stop();
});

const device = (deviceId: string): DevicePresence => ({
  userId: "ann",
  deviceId,
  connectionId: `c-${deviceId}`,
  nodeId: "n1",
  status: "online",
  connectedAt: 1,
});

test("[PRE1] a device that Redis took out without saying so is known to be out at the next try", async () => {
  await registry.add(device("d1"), 10);
  losing = 1;
  await expect(registry.remove(device("d1"))).rejects.toThrow("not available");
  expect(await registry.remove(device("d1"))).toEqual({ removed: true, last: true });
  expect(await registry.remove(device("d1"))).toEqual({ removed: false, last: false });
});
