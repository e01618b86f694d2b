/** Proves what the cluster does while Redis is away, silent, or back without what it held. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Redis } from "ioredis";
import type { Cluster } from "../../src/cluster/ports.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { withoutRun } from "../../src/presence/record.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { record } from "../contract/bus.ts";
import { isDown, isUp, startNodes, startPair } from "../support/cluster.ts";
import { exampleCall } from "../support/example-call.ts";
import { openSharedStorage, type PresenceNode, startPresence } from "../support/presence-node.ts";
import { add, idsOf } from "../support/records.ts";
import type { RedisServer } from "../support/redis.ts";
import { eventually, until } from "../support/until.ts";

let redis: RedisServer;
let one: Cluster;
let other: Cluster;
let storage: Storage;
let close: () => Promise<void>;
const presences: PresenceNode[] = [];
beforeEach(async () => {
  ({ redis, one, other, close } = await startPair());
  storage = await openSharedStorage();
});
afterEach(async () => {
  await Promise.all(presences.splice(0).map(({ tracker }) => tracker.stop()));
  await close();
  await storage.stop();
});

function openPresence(...nodes: Cluster[]): PresenceNode[] {
  const opened = nodes.map((node) => startPresence(node, { storage }));
  presences.push(...opened);
  return opened;
}
const devicesCount = ({ registry }: PresenceNode) =>
  registry.stats().then(
    ({ devices }) => devices,
    () => -1,
  );
/** Ids of the user's devices, once they are known: under load they may be unknown again for a moment. */
const knownIds = ({ registry }: PresenceNode, userId: string) =>
  eventually(
    () => idsOf(registry, userId),
    (ids) => ids !== null,
  );
const typing = (id: string) =>
  ({ kind: "ephemeral", topic: "typing:c1", id, type: "typing.start", payload: "{}", at: 1 }) as const;

test("[LOG3] [PRE1] [CALL5] after Redis comes back empty the nodes put back what they know", async () => {
  const call = exampleCall();
  const [here, there] = openPresence(one, other) as [PresenceNode, PresenceNode];
  await here.connect("ann", "d1");
  await here.connect("bob", "d1");
  await there.connect("ann", "d2");
  for (const userId of ["ann", "bob"]) await there.watch(userId);
  await one.calls.transact({ callId: call.callId, userIds: ["ann", "bob"] }, () => ({ put: [call], result: null }));
  await other.bus.watch("typing:c1");
  const heard = record(other.bus);
  const { promise: gap, resolve: noteGap } = Promise.withResolvers<void>();
  other.bus.onGap(() => noteGap());

  await redis.kill();
  await until(() => isDown(other));
  await redis.restart();
  await gap;
  await until(() => isUp(one));
  const counted = () => there.registry.stats().catch(() => null);
  expect(await eventually(counted, (stats) => stats?.devices === 3)).toEqual({ users: 2, devices: 3 });
  expect(await knownIds(there, "ann")).toEqual(["d1", "d2"]);
  await until(async () => (await other.calls.get(call.callId).catch(() => null)) !== null);
  expect(await other.calls.callsOf("bob")).toEqual([call]);
  expect(await other.calls.takeDue(call.deadline, 10)).toEqual([call.callId]);
  expect((await other.nodes.list()).map(({ nodeId }) => nodeId)).toEqual(["n1", "n2"]);
  one.bus.publish("typing:c1", typing("after"));
  expect(await heard.topic(() => true)).toEqual(typing("after"));
  // No user was seen to go.
  expect(there.shown).toEqual([]);
}, 30_000);

test("[PRE1] [CALL] while Redis is away people connect and leave here, calls are refused, and nobody waits", async () => {
  const [here, there] = openPresence(one, other) as [PresenceNode, PresenceNode];
  await here.connect("ann", "d1");
  await here.watch("bob");
  await there.watch("bob");
  const listed = (await one.nodes.list()).map(({ nodeId }) => nodeId);
  await redis.kill();
  await until(() => isDown(one));
  for (const deviceId of ["d2", "d3"]) expect(await here.connect("ann", deviceId)).toMatchObject({ accepted: true });
  expect(await here.connect("ann", "d4")).toMatchObject({ accepted: false });
  expect(await here.connect("bob", "d1")).toMatchObject({ accepted: true });
  expect(here.shown).toEqual(["online bob"]);
  expect((await here.tracker.devicesOf("ann")).map(({ deviceId }) => deviceId).sort()).toEqual(["d1", "d2", "d3"]);
  await here.tracker.update(
    { userId: "bob", deviceId: "d1", connectionId: "bob/d1/n1" },
    { status: "busy", automatic: true },
  );
  expect(await here.tracker.stats()).toMatchObject({ users: 2, devices: 4 });
  expect(await here.registry.sweep(async () => expect.unreachable())).toBe(false);
  await one.bus.watch("typing:c1");
  one.bus.publish("typing:c1", typing("lost"));
  one.bus.broadcast({ kind: "replaced", userId: "ann", deviceId: "d1", connectionId: "c1" });
  expect((await one.nodes.list()).map(({ nodeId }) => nodeId)).toEqual(listed);
  await expect(one.calls.callsOf("ann")).rejects.toBeInstanceOf(Unavailable);
  await here.disconnect("ann", "d1");

  await redis.restart();
  await until(async () => (await devicesCount(there)) === 3);
  expect(await knownIds(there, "ann")).toEqual(["d2", "d3"]);
  expect((await there.registry.read(["bob"])).get("bob")!.record!.devices).toMatchObject([{ status: "busy" }]);
  await until(async () => there.shown.length > 0);
  expect(there.shown).toEqual(["online bob"]);
  const heard = record(one.bus);
  await until(() => isUp(one));
  other.bus.publish("typing:c1", typing("heard"));
  await heard.topic(() => true);
}, 30_000);

test("[END2] a Redis that takes packets and answers nothing is noticed, and so is its return", async () => {
  const [here, there] = openPresence(one, other) as [PresenceNode, PresenceNode];
  await one.bus.watch("typing:c1");
  redis.pause();
  await until(() => isDown(one));
  await one.bus.watch("typing:c2");
  expect(await here.connect("ann", "d1")).toMatchObject({ accepted: true });
  redis.resume();
  await until(() => isUp(one));
  await until(async () => (await idsOf(there.registry, "ann"))?.length === 1);
  const heard = record(one.bus);
  await until(() => isUp(other));
  other.bus.publish("typing:c2", { ...typing("heard"), topic: "typing:c2" });
  await heard.topic(() => true);
}, 30_000);

test("[LOG3] [PRE1] that words were dropped, though the connection stood, is noticed with the next sign of health", async () => {
  const { nodes, close: end } = await startNodes(redis.url, ["n3"], { publishesMax: 1 });
  const talker = nodes[0]!;
  let gaps = 0;
  talker.bus.onGap(() => gaps++);
  for (const id of ["kept", "dropped"]) talker.bus.publish("typing:c1", typing(id));
  await talker.ping();
  await talker.ping();
  expect([talker.bus.stats!().dropped, gaps]).toEqual([1, 1]);
  await end();
});

test("[PRE1] nobody goes offline because Redis was away for longer than a node may be silent", async () => {
  const [here, there] = openPresence(one, other) as [PresenceNode, PresenceNode];
  await here.connect("ann", "d1");
  await there.connect("bob", "d1");
  await here.watch("bob");
  await there.watch("ann");
  redis.pause();
  await until(() => isDown(one));
  const silentSince = performance.now();
  await until(async () => performance.now() - silentSince > 1_200);
  redis.resume();
  await until(async () => (await isUp(one)) && (await isUp(other)));
  for (const { registry } of [here, there]) await registry.sweep(async () => expect.unreachable());
  expect([await idsOf(here.registry, "bob"), await idsOf(there.registry, "ann")]).toEqual([["d1"], ["d1"]]);
  expect([...here.shown, ...there.shown]).toEqual([]);
}, 30_000);

test("[PRE1] the users of a node that died are swept once, whoever looks; who has a device elsewhere stays", async () => {
  const { nodes } = await startNodes(redis.url, ["n3"], { heartbeatMs: 100 });
  const dying = nodes[0]!;
  for (let at = 0; at < 250; at++) await add(dying.presence, `u${at}`, { device: "d1" });
  await add(one.presence, "u0", { device: "d2" });
  const before = one.presence.now();
  // A node with devices leaves them behind, as one that is killed does.
  await dying.stop();
  const lost: string[] = [];
  const sweep = ({ presence }: Cluster) =>
    presence.sweep(async ({ userId, run, seenAt }) => {
      expect(seenAt).toBeWithin(before - 5_000, before + 1_000);
      const { result } = await presence.transact(userId, (found) => {
        const put = withoutRun(found!, run, seenAt);
        return { put, result: put !== null && put.devices.length === 0 };
      });
      if (result) lost.push(userId);
    });
  await until(async () => {
    // One that fails on a busy machine is done again.
    await Promise.allSettled([sweep(one), sweep(other), sweep(one)]);
    return lost.length >= 249 && (await one.nodes.list()).length === 2;
  });
  for (const node of [one, other, one]) await sweep(node);
  expect(lost.sort()).toEqual(Array.from({ length: 249 }, (_, at) => `u${at + 1}`).sort());
  expect(await one.presence.stats()).toEqual({ users: 1, devices: 1 });
  expect((await one.nodes.list()).map(({ nodeId }) => nodeId)).toEqual(["n1", "n2"]);
}, 30_000);

test("[PRE1] who was on a node that died is shown offline once, whoever notices; a device that came back elsewhere stays", async () => {
  const { nodes } = await startNodes(redis.url, ["n3"], { heartbeatMs: 100 });
  const dying = startPresence(nodes[0]!, { storage });
  for (const userId of ["ann", "bob"]) await dying.connect(userId, "d1");
  const watching = openPresence(one, other);
  for (const node of watching) for (const userId of ["ann", "bob"]) await node.watch(userId);
  // As one that is killed: it says nothing more.
  await nodes[0]!.stop();
  expect(await watching[0]!.connect("ann", "d1", "newer")).toMatchObject({ accepted: true });
  await until(async () => watching.every(({ shown }) => shown.length > 0));
  await until(async () => (await other.nodes.list()).length === 2);
  expect(watching.map(({ shown }) => shown)).toEqual([["offline bob"], ["offline bob"]]);
  expect(await idsOf(other.presence, "ann")).toEqual(["d1"]);
  await dying.tracker.stop();
}, 30_000);

test("[PRE2] a status that is set where Redis has just lost the record is set all the same", async () => {
  const [here] = openPresence(one) as [PresenceNode];
  await here.connect("ann", "d1");
  const ref = { userId: "ann", deviceId: "d1", connectionId: "ann/d1/n1" };
  await here.tracker.update(ref, { status: "away", automatic: false });
  const operator = new Redis(redis.url);
  await operator.flushall();
  operator.disconnect();
  await here.tracker.update(ref, { status: "busy", status_text: "a text", automatic: false });
  const { result } = await here.registry.transact("ann", (found) => ({ put: null, result: found }));
  expect(result).toMatchObject({ byHand: { status: "busy", text: "a text" }, devices: [{ deviceId: "d1" }] });
}, 30_000);

test("[CON3] a node learns which of its devices have a newer connection elsewhere, also where Redis had lost the old", async () => {
  const [here, there] = openPresence(one, other) as [PresenceNode, PresenceNode];
  await here.connect("ann", "d1", "old");
  await redis.kill();
  await until(() => isDown(other));
  await redis.restart();
  await there.connect("ann", "d1", "newer");
  await until(async () => here.superseded.length > 0);
  expect(here.superseded).toEqual([{ userId: "ann", deviceId: "d1", connectionId: "old" }]);
  await until(async () => (await idsOf(here.registry, "ann"))?.length === 1);
  expect((await here.registry.read(["ann"])).get("ann")!.record!.devices).toMatchObject([{ connectionId: "newer" }]);
  await here.disconnect("ann", "d1", "old");
  expect(await idsOf(here.registry, "ann")).toEqual(["d1"]);
}, 30_000);

test("[CON3] a node whose other devices are all there looks for newer connections when it may have missed word", async () => {
  const [here, there] = openPresence(one, other) as [PresenceNode, PresenceNode];
  here.registry.onWord(() => {});
  await here.connect("ann", "d1", "old");
  await here.connect("ann", "d2");
  await there.connect("ann", "d1", "newer");
  here.tracker.recheckAll();
  await until(async () => here.superseded.length > 0);
  expect(here.superseded).toEqual([{ userId: "ann", deviceId: "d1", connectionId: "old" }]);
  expect(await idsOf(here.registry, "ann")).toEqual(["d1", "d2"]);
}, 30_000);
