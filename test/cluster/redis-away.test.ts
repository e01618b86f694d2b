/** What the cluster does while Redis is away, silent, or back without what it held. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { Cluster, DevicePresence } from "../../src/cluster/ports.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { record } from "../contract/bus.ts";
import { isDown, isUp, startNodes, startPair } from "../support/cluster.ts";
import { exampleCall } from "../support/example-call.ts";
import { type RedisServer, until } from "../support/redis.ts";

let redis: RedisServer;
let one: Cluster;
let other: Cluster;
let close: () => Promise<void>;
beforeEach(async () => {
  ({ redis, one, other, close } = await startPair());
});
afterEach(() => close());

const device = (userId: string, nodeId: string, deviceId = "d1"): DevicePresence => ({
  userId,
  deviceId,
  connectionId: `c-${userId}-${deviceId}`,
  nodeId,
  status: "online",
  connectedAt: Date.now(),
});
const idsOf = async (node: Cluster, userId: string) =>
  ((await node.presence.devicesOf([userId])).get(userId) ?? []).map(({ deviceId }) => deviceId).sort();
const typing = (id: string) =>
  ({ kind: "ephemeral", topic: "typing:c1", id, type: "typing.start", payload: "{}", at: 1 }) as const;

test("[LOG3] [PRE1] [CALL5] after Redis comes back empty the nodes put back what they know", async () => {
  const call = exampleCall();
  await one.presence.add(device("ann", "n1"), 10);
  await one.presence.add(device("bob", "n1"), 10);
  await other.presence.add(device("ann", "n2", "d2"), 10);
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
  await until(async () => (await other.presence.stats()).devices === 3);
  expect(await other.presence.stats()).toEqual({ users: 2, devices: 3 });
  expect(await idsOf(other, "ann")).toEqual(["d1", "d2"]);
  await until(async () => (await other.calls.get(call.callId).catch(() => null)) !== null);
  expect(await other.calls.callsOf("bob")).toEqual([call]);
  expect(await other.calls.takeDue(call.deadline, 10)).toEqual([call.callId]);
  expect((await other.nodes.list()).map(({ nodeId }) => nodeId)).toEqual(["n1", "n2"]);
  one.bus.publish("typing:c1", typing("after"));
  expect(await heard.topic(() => true)).toEqual(typing("after"));
}, 30_000);

test("[PRE1] [CALL] while Redis is away people connect and leave here, calls are refused, and nobody waits", async () => {
  await one.presence.add(device("ann", "n1"), 10);
  const listed = (await one.nodes.list()).map(({ nodeId }) => nodeId);
  await redis.kill();
  await until(() => isDown(one));
  expect(await one.presence.add(device("ann", "n1", "d2"), 2)).toEqual({ added: true, first: false, replaced: null });
  expect(await one.presence.add(device("ann", "n1", "d3"), 2)).toMatchObject({ added: false });
  expect(await one.presence.add(device("bob", "n1"), 2)).toMatchObject({ added: true, first: true });
  expect(await idsOf(one, "ann")).toEqual(["d1", "d2"]);
  expect(await one.presence.update({ ...device("bob", "n1"), status: "busy" })).toBe(true);
  expect(await one.presence.sweep()).toEqual([]);
  await one.bus.watch("typing:c1");
  one.bus.publish("typing:c1", typing("lost"));
  one.bus.broadcast({ kind: "replaced", userId: "ann", deviceId: "d1", connectionId: "c1" });
  expect((await one.nodes.list()).map(({ nodeId }) => nodeId)).toEqual(listed);
  await expect(one.calls.callsOf("ann")).rejects.toBeInstanceOf(Unavailable);
  await expect(one.presence.remove(device("ann", "n1"))).rejects.toThrow("not available");

  await redis.restart();
  await until(async () => (await other.presence.stats()).devices === 3);
  expect((await other.presence.devicesOf(["bob"])).get("bob")).toMatchObject([{ status: "busy" }]);
  expect(await one.presence.remove(device("bob", "n1"))).toEqual({ removed: true, last: true });
  const heard = record(one.bus);
  await until(() => isUp(one));
  other.bus.publish("typing:c1", typing("heard"));
  await heard.topic(() => true);
}, 30_000);

test("[END2] a Redis that takes packets and answers nothing is noticed, and so is its return", async () => {
  await one.bus.watch("typing:c1");
  redis.pause();
  await until(() => isDown(one));
  await one.bus.watch("typing:c2");
  expect(await one.presence.add(device("ann", "n1"), 10)).toMatchObject({ added: true, first: true });
  redis.resume();
  await until(() => isUp(one));
  await until(async () => (await idsOf(other, "ann")).length === 1);
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
  await one.presence.add(device("ann", "n1"), 10);
  await other.presence.add(device("bob", "n2"), 10);
  redis.pause();
  await until(() => isDown(one));
  const silentSince = performance.now();
  await until(async () => performance.now() - silentSince > 1_200);
  redis.resume();
  await until(async () => (await isUp(one)) && (await isUp(other)));
  expect([...(await one.presence.sweep()), ...(await other.presence.sweep())]).toEqual([]);
  expect([await idsOf(one, "bob"), await idsOf(other, "ann")]).toEqual([["d1"], ["d1"]]);
}, 30_000);

test("[PRE1] the users of a node that died are swept once, whoever looks; who has a device elsewhere stays", async () => {
  const { nodes } = await startNodes(redis.url, ["n3"], { heartbeatMs: 100 });
  const dying = nodes[0]!;
  for (let at = 0; at < 250; at++) await dying.presence.add(device(`u${at}`, "n3"), 10);
  await one.presence.add(device("u0", "n1", "d2"), 10);
  // A node with devices leaves them behind, as one that is killed does.
  await dying.stop();
  const lost: string[] = [];
  await until(async () => {
    lost.push(...(await Promise.all([one.presence.sweep(), other.presence.sweep(), one.presence.sweep()])).flat());
    return lost.length >= 249;
  });
  lost.push(...(await one.presence.sweep()), ...(await other.presence.sweep()));
  expect(lost.sort()).toEqual(Array.from({ length: 249 }, (_, at) => `u${at + 1}`).sort());
  expect(await one.presence.stats()).toEqual({ users: 1, devices: 1 });
  expect((await one.nodes.list()).map(({ nodeId }) => nodeId)).toEqual(["n1", "n2"]);
}, 30_000);

test("[PRE1] a device that came back on another node is not swept with the one that died", async () => {
  const { nodes } = await startNodes(redis.url, ["n3"], { heartbeatMs: 100 });
  await nodes[0]!.presence.add(device("ann", "n3"), 10);
  await nodes[0]!.stop();
  const back = { ...device("ann", "n1"), connectionId: "newer" };
  expect(await one.presence.add(back, 10)).toMatchObject({ added: true, first: false });
  await until(async () => {
    expect(await other.presence.sweep()).toEqual([]);
    return (await other.nodes.list()).length === 2;
  });
  expect(await idsOf(other, "ann")).toEqual(["d1"]);
}, 30_000);

test("[CON3] a node learns which of its devices have a newer connection elsewhere, also where Redis had lost the old", async () => {
  const old = device("ann", "n1");
  const newer = { ...device("ann", "n2"), connectionId: "newer", connectedAt: old.connectedAt + 1 };
  await one.presence.add(old, 10);
  const { promise: superseded, resolve } = Promise.withResolvers<DevicePresence[]>();
  one.presence.onSuperseded!(resolve);
  await redis.kill();
  await until(() => isDown(other));
  await redis.restart();
  await other.presence.add(newer, 10);
  expect(await superseded).toEqual([old]);
  await until(async () => (await one.presence.stats()).devices === 1);
  expect((await one.presence.devicesOf(["ann"])).get("ann")).toEqual([newer]);
  expect(await one.presence.remove(old)).toEqual({ removed: false, last: false });
}, 30_000);

test("[CON3] a node whose other devices are all there looks for newer connections when it may have missed word", async () => {
  const old = device("ann", "n1");
  await one.presence.add(old, 10);
  await one.presence.add(device("ann", "n1", "d2"), 10);
  const { promise: superseded, resolve } = Promise.withResolvers<DevicePresence[]>();
  one.presence.onSuperseded!(resolve);
  await other.presence.add({ ...old, nodeId: "n2", connectionId: "newer", connectedAt: old.connectedAt + 1 }, 10);
  one.presence.recheck!();
  expect(await superseded).toEqual([old]);
  expect(await idsOf(one, "ann")).toEqual(["d1", "d2"]);
}, 30_000);
