/** Proves that the end of a call is told by the node that has the device, once, whatever the bus between the nodes loses or doubles [CALL4]. */
import { beforeEach, expect, test } from "bun:test";
import { a1, active, answer, b1, b2, callId, hangup, news, openWorld, ringing, world } from "../support/call-scene.ts";
import { deviceKey } from "../support/calls.ts";

beforeEach(() => openWorld());

/** The ends since the last look, and how often what another node is to tell was offered to it. */
const ends = () =>
  world.deliveries
    .splice(0)
    .flatMap(({ deviceId, type, payload, owed = "" }) =>
      type === "call.ended" ? [`${deviceId} ${payload.reason} ${owed}`.trim()] : [],
    );

test("[CALL4] the end is claimed by the node that has the device by then: what comes late or twice is told once", async () => {
  await active();
  world.elsewhere.add(deviceKey(a1));
  await hangup(b1);
  expect(ends()).toEqual(["a1 hangup first", "b1 hangup"]);
  // Heard by the node that it is on.
  world.elsewhere.delete(deviceKey(a1));
  await world.service.tellOwed(a1, callId);
  await world.service.tellOwed(a1, callId);
  await world.service.tellOwed(b1, callId);
  expect(ends()).toEqual(["a1 hangup"]);
  await world.pass(59_999);
  expect(ends()).toEqual([]);
});

test("[CALL4] what another node did not hear of is offered again, ever more rarely, and not once the device is away", async () => {
  await ringing();
  world.elsewhere.add(deviceKey(b1)).add(deviceKey(b2));
  news();
  await answer(b1);
  expect(ends()).toEqual(["b2 answered_elsewhere first"]);
  await world.pass(2_000);
  expect(ends()).toEqual(["b2 answered_elsewhere again"]);
  await world.service.hangup(a1, { call_id: callId });
  expect(ends()).toEqual(["a1 hangup", "b1 hangup first"]);
  let offered = 0;
  for (let at = 0; at < 59; at++) {
    await world.pass(1_000);
    offered += ends().filter((it) => it === "b1 hangup again").length;
  }
  expect(offered).toBe(5);
});

test("[CALL4] a node that says of another one's device that it is there does not say that it is on this one", async () => {
  await active();
  const toldOn = async () => (await world.registry.get(callId))!.told.map(({ nodeId }) => nodeId);
  world.elsewhere.add(deviceKey(a1));
  for (const device of [a1, b1]) await world.connect(device);
  expect(await toldOn()).toEqual([undefined, "n1", undefined]);
});

test("[CALL4] what was written of an end may be lost with the master that had it: whoever was told is not told another one", async () => {
  await active();
  const before = await world.registry.get(callId);
  const lose = () => world.registry.transact({ callId, userIds: [] }, () => ({ put: [before!], result: null }));
  await hangup(a1);
  expect(ends()).toEqual(["a1 hangup", "b1 hangup"]);
  await lose();
  await hangup(b1, "ice_failed");
  expect(ends()).toEqual([]);
  // The id of a call that is forgotten is another call's.
  await world.pass(60_000);
  await lose();
  await hangup(b1, "ice_failed");
  expect(ends()).toEqual(["a1 ice_failed", "b1 ice_failed"]);
});

test("[CALL4] a device that has come to another node is told there, though its old connection is not known to be gone", async () => {
  await active();
  // The other node has said so, this one has not heard that its own is the older one.
  await world.registry.transact({ callId, userIds: [] }, (calls) => {
    const moved = structuredClone(calls);
    moved[0]!.told.find((it) => it.deviceId === "a1")!.nodeId = "n2";
    return { put: moved, result: null };
  });
  await hangup(b1);
  expect(ends()).toEqual(["a1 hangup first", "b1 hangup"]);
  // Claimed by nobody: where the device is here all the same, it is told here.
  await world.pass(2_000);
  expect(ends()).toEqual(["a1 hangup"]);
});
