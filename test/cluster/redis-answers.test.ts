/** Proves what is made of answers of Redis that are lost, or say that it has lost something: what was asked may have been done. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { PresenceWord } from "../../src/cluster/ports.ts";
import { parseRedisUrl } from "../../src/cluster/redis/address.ts";
import { RedisCallRegistry } from "../../src/cluster/redis/call-registry.ts";
import { Commands } from "../../src/cluster/redis/commands.ts";
import { openCommandClient } from "../../src/cluster/redis/connection.ts";
import { bucketOf } from "../../src/cluster/redis/keys.ts";
import { RegistryMark } from "../../src/cluster/redis/mark.ts";
import { RedisNodeRegistry } from "../../src/cluster/redis/nodes.ts";
import { RedisPresenceRegistry } from "../../src/cluster/redis/presence-registry.ts";
import { callScripts } from "../../src/cluster/redis/scripts.ts";
import { RedisUnavailable } from "../../src/cluster/redis/unavailable.ts";
import { keys, silent } from "../support/cluster.ts";
import { exampleCall } from "../support/example-call.ts";
import { openSharedStorage, startPresence } from "../support/presence-node.ts";
import { add, idsOf, readOne, remove, say, saying } from "../support/records.ts";
import { openEmptyRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";

let redis: Awaited<ReturnType<typeof openEmptyRedis>>;
let commands: Commands;
let registry: RedisPresenceRegistry;
/** So many scripts are run whose answers are lost. */
let losing: number;
/** Brings the registry words, as the bus does. */
let hear: (word: PresenceWord) => void;
let losses: number;
/** How far this node's clock is off, ms. */
let offMs: number;

const open = (run: string) =>
  new RedisPresenceRegistry({
    commands,
    keys,
    bus: { onPresenceWord: (listener) => (hear = listener) },
    nodes: { dead: async () => [], remove: async () => {} },
    run,
    newMark: () => crypto.randomUUID(),
    settlingMs: 60_000,
    now: () => Date.now() + offMs,
  });

beforeEach(async () => {
  redis = await openEmptyRedis();
  [losing, losses, offMs] = [0, 0, 0];
  const client = openCommandClient(parseRedisUrl(redis.url), { commandTimeoutMs: 1_000 });
  commands = new Commands({ client, logger: silent, now: Date.now, publishesMax: 10, refusalLastsMs: 0 });
  const run = commands.run.bind(commands);
  commands.run = async (...asked) => {
    const answer = await run(...asked);
    if (losing === 0) return answer;
    losing--;
    throw new RedisUnavailable("Command timed out");
  };
  registry = open("n1/1");
  registry.onLoss(() => losses++);
  await commands.connect();
  await registry.look();
  await until(async () => losses === 1);
});
afterEach(async () => {
  commands.stop();
  await redis.stop();
});

test("[PRE1] a change that Redis made without saying so is found made at the next try, and made once", async () => {
  const words: number[] = [];
  registry.onWord(({ version }) => words.push(version));
  const { now: before } = await add(registry, "ann", { device: "d1" });
  losing = 1;
  const lost = registry.transact("ann", () => ({ put: saying("away"), result: null }), { known: before });
  await expect(lost).rejects.toThrow("not available");
  const there = (await readOne(registry, "ann"))!;
  expect(there.record).toEqual(saying("away"));
  // Made of what is known from before it, and then of what it has made.
  const known = { known: before };
  const { now } = await registry.transact(
    "ann",
    (record) => ({ put: record!.devices.length > 0 ? saying("away") : null, result: null }),
    known,
  );
  expect(now).toEqual(there);
  expect(words).toEqual([before.version]);
  expect(await registry.stats()).toEqual({ users: 0, devices: 0 });
});

test("[PRE1] what Redis has lost is told once; nothing is read of anybody until nodes have put it back, and versions begin anew", async () => {
  const before = new Map<string, number>();
  const users = Array.from({ length: 20 }, (_, at) => `u${at}`);
  for (const userId of users) before.set(userId, (await add(registry, userId, { device: "d1" })).now.version);
  const { mark } = (await readOne(registry, "u0"))!;
  await redis.empty();
  // Half of what there was may not be shown; what a node has may be put back meanwhile.
  expect(await registry.read(users)).toEqual(new Map());
  const words: PresenceWord[] = [];
  registry.onWord((word) => words.push(word));
  for (const userId of users) {
    const { now } = await add(registry, userId, { device: "d1" });
    expect(now.isPartial).toBe(true);
    expect(now.version).toBeGreaterThan(before.get(userId)!);
    expect(now.mark).not.toBe(mark);
  }
  expect(words.every(({ isPartial }) => isPartial)).toBe(true);
  await until(async () => losses === 2);
  expect(await registry.read(users)).toEqual(new Map());
  // As its time ends.
  await commands.call("del", keys.presence(0).settling);
  for (const userId of users) expect(await idsOf(registry, userId)).toEqual(["d1"]);
  await registry.look();
  expect(losses).toBe(2);
  expect(await registry.stats()).toEqual({ users: users.length, devices: users.length });
});

test("[PRE1] nobody is shown as gone because a device elsewhere has not been put back yet", async () => {
  const storage = await openSharedStorage();
  const bus = { onGap() {}, watch: async () => {} };
  const here = startPresence({ nodeId: "n1", presence: registry, bus }, { storage });
  await here.connect("ann", "d1");
  await add(open("n2/1"), "ann", { device: "d2" });
  await here.watch("ann");
  await redis.empty();
  await here.disconnect("ann", "d1");
  expect(here.shown).toEqual([]);
  // Ends the time for putting it back, which nobody has done.
  await commands.call("del", keys.presence(0).settling);
  await until(async () => here.shown.length > 0);
  expect(here.shown).toEqual(["offline ann"]);
  await here.tracker.stop();
  await storage.stop();
});

test("[PRE1] a loss is noticed by a look, and by the word of a node that has seen it", async () => {
  const other = open("n2/1");
  await other.look();
  await redis.empty();
  await registry.look();
  await until(async () => losses === 2);
  // Hears the word here, where nobody has looked and its mark is not known.
  let heard = 0;
  other.onLoss(() => heard++);
  other.onWord(() => heard++);
  const { now } = await say(registry, "ann", "first");
  hear({ userId: "ann", ...now, record: now.record! });
  await until(async () => heard === 2);
  expect((await other.transact("ann", (record) => ({ put: null, result: record }))).result).toEqual(saying("first"));
});

test("[PRE1] a node that starts on an emptied Redis before the others have looked does not keep them from putting back in peace", async () => {
  await add(registry, "ann", { device: "d1" });
  await redis.empty();
  const fresh = open("n2/1");
  expect((await readOne(fresh, "ann"))!.record).toBeNull();
  await registry.look();
  await until(async () => losses === 2);
  expect([await readOne(fresh, "ann"), await readOne(registry, "ann")]).toEqual([undefined, undefined]);
});

test("[PRE1] what stands under a node's name that it has not, as a new master may hold it, is named to the node", async () => {
  await add(registry, "ann", { device: "d1" });
  await add(registry, "bob", { device: "d1" });
  // Kept for the new master, which has not heard before it became one that the device left.
  const dumped = await commands.call("get", keys.record("bob"));
  await remove(registry, "bob", "d1");
  expect(await registry.ownUsers()).toEqual(["ann"]);
  await commands.call("set", keys.record("bob"), String(dumped));
  await commands.call("sadd", keys.usersOf(bucketOf("bob"), "n1/1"), "bob");
  expect((await registry.ownUsers()).sort()).toEqual(["ann", "bob"]);
  await remove(registry, "bob", "d1");
  expect(await registry.ownUsers()).toEqual(["ann"]);
});

test("[PRE4] of users in a part of Redis that cannot be read nothing is known, of others all is", async () => {
  // As on a Redis Cluster, where each bucket may be on a server of its own.
  Object.assign(commands, { isCluster: true });
  registry = open("n1/2");
  await say(registry, "ann", "ann");
  await say(registry, "bob", "bob");
  const run = commands.run.bind(commands);
  commands.run = async (script, of, given) => {
    if (of.includes(keys.record("ann"))) throw new RedisUnavailable("CLUSTERDOWN");
    return run(script, of, given);
  };
  expect([...(await registry.read(["ann", "bob", "eve"])).keys()].sort()).toEqual(["bob", "eve"]);
  await expect(registry.transact("ann", () => ({ put: saying("new"), result: null }))).rejects.toThrow("not available");
  commands.run = run;
  expect((await registry.read(["ann", "bob"])).size).toBe(2);
});

test("[SUB5] a record that nobody has a device in goes by itself, one with a device stays", async () => {
  await say(registry, "ann", "soon gone");
  expect(Number(await commands.call("pttl", keys.record("ann")))).toBeWithin(100_000, 120_001);
  await add(registry, "ann", { device: "d1" });
  expect(await commands.call("pttl", keys.record("ann"))).toBe(-1);
  await remove(registry, "ann", "d1");
  const { version } = (await readOne(registry, "ann"))!;
  await commands.call("del", keys.record("ann"));
  // Versions go on growing all the same, also where Redis's clock has been put back.
  await commands.call("hset", keys.totals(bucketOf("ann")), "version", version + 1e12);
  expect((await say(registry, "ann", "back")).now.version).toBe(version + 1e12 + 1);
});

test("[PRE1] the time is Redis's, whatever the node's own clock says", async () => {
  for (const off of [0, 3_600_000, -7_200_000]) {
    offMs = off;
    const before = Date.now();
    await registry.read(["ann"]);
    const tookMs = Date.now() - before;
    // When in between Redis has read its clock it does not say.
    expect(registry.now()).toBeWithin(before - 1, Date.now() + tookMs + 2);
  }
});

test("[PRE1] no node is found dead before it could say that it lives, where it was the part of Redis with the nodes that was away", async () => {
  let at = 0;
  const options = { commands, keys, version: "1", now: () => at, deadAfterMs: 1 };
  const [one, other] = ["n1", "n2"].map(
    (nodeId) => new RedisNodeRegistry({ ...options, nodeId, run: `${nodeId}/1` }),
  ) as [RedisNodeRegistry, RedisNodeRegistry];
  for (const node of [other, one]) await node.sayAlive();
  const isFound = async () => (await one.dead()).length === 1;
  expect(await isFound()).toBe(false);
  at++;
  await until(isFound);
  losing = 1;
  await expect(one.dead()).rejects.toThrow("not available");
  at++;
  expect(await isFound()).toBe(false);
  await one.sayAlive();
  expect(await isFound()).toBe(false);
  at++;
  await until(isFound);
});

test("[PRE1] a run of a node that has given a sign of life since it was found dead stays on the list", async () => {
  const options = { commands, keys, version: "1", now: Date.now, deadAfterMs: 0 };
  const one = new RedisNodeRegistry({ ...options, nodeId: "n1", run: "n1/1" });
  const other = new RedisNodeRegistry({ ...options, nodeId: "n2", run: "n2/1" });
  for (const node of [one, other]) await node.sayAlive();
  await until(async () => (await one.dead()).length === 1);
  const [{ run, seenAt }] = (await one.dead()) as [{ run: string; seenAt: number }];
  expect(run).toBe("n2/1");
  expect(seenAt).toBeWithin(Date.now() - 60_000, Date.now() + 1);
  await other.sayAlive();
  await one.remove(run, seenAt);
  expect((await one.list()).map(({ nodeId }) => nodeId)).toEqual(["n1", "n2"]);
  await one.remove(run);
  expect((await one.list()).map(({ nodeId }) => nodeId)).toEqual(["n1"]);
});

test("[CALL2] a write that says what stood there, and has not come to Redis at first, makes a new version all the same", async () => {
  const registryMark = new RegistryMark({
    commands,
    keys: keys.calls,
    newMark: () => crypto.randomUUID(),
    settlingMs: 0,
  });
  const broken: unknown[] = [];
  const logger = { error: (...told: unknown[]) => broken.push(told) };
  const calls = new RedisCallRegistry({ commands, keys, registryMark, rememberedMax: 10, logger });
  await calls.restore();
  const call = exampleCall();
  const put = () => calls.transact({ callId: call.callId, userIds: [] }, () => ({ put: [call], result: null }));
  const versionOf = () => commands.call("hget", `${keys.callsPrefix}call:${call.callId}`, "version");
  await put();
  const before = await versionOf();
  const run = commands.run.bind(commands);
  commands.run = async (script, ...given) => {
    if (script !== callScripts.write) return run(script, ...given);
    commands.run = run;
    throw new RedisUnavailable("Command timed out");
  };
  await put();
  expect(Number(await versionOf())).toBeGreaterThan(Number(before));
  expect(broken).toEqual([]);
});

test("[CALL2] a node that starts on an emptied Redis before the others have looked does not keep them from putting calls back in peace", async () => {
  const startNode = () =>
    new RegistryMark({ commands, keys: keys.calls, newMark: () => crypto.randomUUID(), settlingMs: 60_000 });
  const isSettling = () => commands.call("exists", keys.calls.settling);
  const [one, other] = [startNode(), startNode()];
  for (const registryMark of [one, other]) expect((await registryMark.look()).lost).toBe(false);
  expect(await isSettling()).toBe(0);
  await redis.empty();
  const fresh = startNode();
  await fresh.look();
  for (const registryMark of [one, other, fresh]) {
    const { lost, mark } = await registryMark.look();
    expect(lost).toBe(true);
    registryMark.accept(mark);
  }
  // No call is decided on until then.
  expect(await isSettling()).toBe(1);
  expect((await fresh.look()).lost).toBe(false);
});
