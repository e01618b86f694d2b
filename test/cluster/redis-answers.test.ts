/** What is made of answers of Redis that are lost, or that something has overtaken: what was asked may have been done all the same. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { DevicePresence } from "../../src/cluster/ports.ts";
import { parseRedisUrl } from "../../src/cluster/redis/address.ts";
import { Commands } from "../../src/cluster/redis/commands.ts";
import { openCommandClient } from "../../src/cluster/redis/connection.ts";
import { Epoch } from "../../src/cluster/redis/epoch.ts";
import { bucketOf } from "../../src/cluster/redis/keys.ts";
import { RedisNodeRegistry } from "../../src/cluster/redis/nodes.ts";
import { RedisPresenceRegistry } from "../../src/cluster/redis/presence.ts";
import { RedisUnavailable } from "../../src/cluster/redis/unavailable.ts";
import { keys, silent } from "../support/cluster.ts";
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
  commands = new Commands({ client, logger: silent, now: Date.now, publishesMax: 10, refusalLastsMs: 0 });
  const run = commands.run.bind(commands);
  commands.run = async (...asked) => {
    const answer = await run(...asked);
    if (losing === 0) return answer;
    losing--;
    throw new RedisUnavailable("Command timed out");
  };
  const nodes = { dead: async () => [], remove: async () => {}, areAllListed: true };
  registry = new RedisPresenceRegistry({ commands, keys, nodes, instance: "n1/1", now: Date.now, deadAfterMs: 15_000 });
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

test("[PRE1] a device that leaves when Redis has lost it, before it is put back, is its node's to tell of", async () => {
  await registry.add(device("d1"), 10);
  await redis.empty();
  expect(await registry.remove(device("d1"))).toEqual({ removed: true, last: true });
  expect(await registry.remove(device("d1"))).toEqual({ removed: false, last: false });
});

test("[PRE1] a device under a node's name that the node does not have, as a new master may still hold it, is taken out and told of", async () => {
  const restored: string[][] = [];
  registry.onRestored((userIds) => restored.push(userIds));
  // What the new master has not heard of before it became one: that the device left.
  async function comeBackWith(devices: DevicePresence[]): Promise<void> {
    for (const of of devices) {
      await commands.call("hset", keys.devices(of.userId), of.deviceId, JSON.stringify({ ...of, owner: "n1/1" }));
      await commands.call("sadd", keys.owned(bucketOf(of.userId), "n1/1"), of.userId);
      await commands.call("hincrby", keys.counts(bucketOf(of.userId)), "devices", 1);
    }
  }
  await registry.add(device("d1"), 10);
  await registry.add(device("d2"), 10);
  await registry.remove(device("d1"));
  const bob = { ...device("d1"), userId: "bob" };
  await comeBackWith([device("d1"), bob]);
  await commands.call("hincrby", keys.counts(bucketOf("bob")), "users", 1);
  expect(await registry.stats()).toEqual({ users: 2, devices: 3 });
  // Of a user who has no other device here the number alone says it; else it is looked for where Redis may be another one.
  await registry.restore();
  expect((await registry.devicesOf(["bob"])).size).toBe(0);
  registry.recheck();
  await registry.restore();
  expect([...(await registry.devicesOf(["ann", "bob"])).values()]).toEqual([[device("d2")]]);
  expect(restored).toEqual([["bob"], ["ann"]]);
  expect(await registry.stats()).toEqual({ users: 1, devices: 1 });
  expect(await commands.call("exists", keys.owned(bucketOf("bob"), "n1/1"))).toBe(0);
});

test("[PRE1] what a device of another node has, and one that is just coming or leaving, is not taken for a stranger's", async () => {
  const elsewhere = { ...device("d2"), nodeId: "n2" };
  await registry.add(device("d1"), 10);
  await commands.call("hset", keys.devices("ann"), "d2", JSON.stringify({ ...elsewhere, owner: "n2/1" }));
  losing = 1;
  await expect(registry.remove(device("d1"))).rejects.toThrow("not available");
  const coming = registry.add(device("d3"), 10);
  registry.recheck();
  await Promise.all([coming, registry.restore()]);
  expect(
    (await registry.devicesOf(["ann"]))
      .get("ann")!
      .map(({ deviceId }) => deviceId)
      .sort(),
  ).toEqual(["d1", "d2", "d3"]);
});

test("[PRE1] a node that is not listed any more has gone; one that is not yet again where Redis was emptied has not", async () => {
  let at = 1;
  const options = { commands, keys, version: "1", now: () => at, deadAfterMs: 15_000, goneAfterMs: 100 };
  const one = new RedisNodeRegistry({ ...options, nodeId: "n1", instance: "n1/1" });
  const other = new RedisNodeRegistry({ ...options, nodeId: "n2", instance: "n2/1" });
  let gone = 0;
  one.onGone(() => gone++);
  await other.sayAlive();
  await one.sayAlive();
  await redis.empty();
  await one.sayAlive();
  expect(one.areAllListed).toBe(false);
  await other.sayAlive();
  at += 100;
  await one.sayAlive();
  expect(one.areAllListed).toBe(true);
  await one.remove("n2/1");
  await one.sayAlive();
  at += 99;
  await one.sayAlive();
  expect(gone).toBe(0);
  at += 1;
  await one.sayAlive();
  at += 100;
  await one.sayAlive();
  expect([gone, one.areAllListed]).toEqual([1, true]);
});

test("[PRE2] what a device says of itself is not lost with what Redis held, though it is not back there yet", async () => {
  await registry.add(device("d1"), 10);
  const back = Promise.withResolvers<void>();
  commands.onReady(back.resolve);
  await commands.call("client", "kill", "type", "normal", "skipme", "no").catch(() => {});
  await back.promise;
  await redis.empty();
  expect(await registry.update({ ...device("d1"), status: "busy" })).toBe(true);
  await registry.restore();
  expect((await registry.devicesOf(["ann"])).get("ann")).toEqual([{ ...device("d1"), status: "busy" }]);
  expect(await registry.update({ ...device("d2"), status: "busy" })).toBe(false);
});

test("[PRE4] of users in a part of Redis that cannot be read it is known that not all is known, of others nothing changes", async () => {
  const call = commands.call.bind(commands);
  commands.call = async (command, ...given) => {
    if (command === "hvals" && String(given[0]).endsWith(":ann")) throw new RedisUnavailable("CLUSTERDOWN");
    return call(command, ...given);
  };
  await registry.devicesOf(["ann", "bob"]);
  expect([registry.isWhole(["ann", "bob"]), registry.isWhole(["ann"]), registry.isWhole(["bob"])]).toEqual([
    false,
    false,
    true,
  ]);
  commands.call = call;
  await registry.devicesOf(["ann"]);
  expect(registry.isWhole(["ann", "bob"])).toBe(true);
});

test("[CALL2] a node that starts on an emptied Redis before the others have looked does not keep them from putting back in peace", async () => {
  const startNode = () => new Epoch({ commands, keys, newMark: () => crypto.randomUUID(), settlingMs: 60_000 });
  const isSettling = () => commands.call("exists", keys.callsSettling);
  const [one, other] = [startNode(), startNode()];
  for (const epoch of [one, other]) expect((await epoch.look()).lost).toBe(false);
  expect(await isSettling()).toBe(0);
  await redis.empty();
  const fresh = startNode();
  await fresh.look();
  for (const epoch of [one, other, fresh]) {
    const { lost, mark } = await epoch.look();
    expect(lost).toBe(true);
    epoch.accept(mark);
  }
  // Nobody decides on a call until then.
  expect(await isSettling()).toBe(1);
  expect((await fresh.look()).lost).toBe(false);
});
