/** Proves what calls know of devices that come, go and move, and that they hear of it however late [CALL5]. */
import { beforeEach, expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import {
  a1,
  active,
  b1,
  b2,
  b3,
  callBob,
  callId,
  hangup,
  ice,
  news,
  openWorld,
  ringing,
  world,
} from "../support/call-scene.ts";
import { outcomeOf } from "../support/calls.ts";

beforeEach(() => openWorld());

const isAway = async (deviceId: string) =>
  (await world.registry.get(callId))!.told.find((device) => device.deviceId === deviceId)!.awaySince !== null;

/** Calls cannot be reached until the end of it. */
async function whileAway(during: () => Promise<void>): Promise<void> {
  const { callsOf } = world.registry;
  world.registry.callsOf = () => Promise.reject(new Unavailable("cluster", "Calls are away."));
  await during();
  world.registry.callsOf = callsOf;
}

test("[CALL5] a device that has moved to another node is not away, however late the old one says that it left", async () => {
  await active();
  await world.connect(a1);
  await world.service.deviceDisconnected(a1);
  expect(await isAway("a1")).toBe(false);
  await ice(b1, "c");
  expect(news()).toEqual(["a1 ice"]);
});

test("[CALL5] a device that moves while its old node says that it left is back at once", async () => {
  await active();
  world.connected.delete("ann a1");
  world.onDevicesOf.hook = async () => void world.connected.add("ann a1");
  await world.service.deviceDisconnected(a1);
  expect(await isAway("a1")).toBe(false);
});

test("[CALL5] a device that connects while calls are away rings once they are back", async () => {
  await ringing();
  news();
  await whileAway(async () => {
    expect(await outcomeOf(world.connect(b3))).toBe("unavailable");
    await world.pass(500);
    expect(news()).toEqual([]);
  });
  await world.pass(500);
  await world.pass(500);
  expect(news()).toEqual(["b3 incoming"]);
});

test("[CALL5] a call that is offered before a device which has come is told what is on rings there once", async () => {
  const callsOf = world.registry.callsOf.bind(world.registry);
  const read = Promise.withResolvers<void>();
  world.registry.callsOf = async (userId) => {
    read.resolve();
    return callsOf(userId);
  };
  const subscribed = Promise.withResolvers<void>();
  const connected = world.service.deviceConnected(b2, () => subscribed.promise);
  await read.promise;
  await ringing();
  subscribed.resolve();
  await connected;
  expect(news()).toEqual(["b1 incoming", "b2 incoming"]);
});

test("[CALL4] [CALL5] a device that left while calls were away is told of the end when it is back", async () => {
  await active();
  await whileAway(async () => {
    expect(await outcomeOf(world.disconnect(b1))).toBe("unavailable");
  });
  await world.pass(500);
  await hangup();
  expect(news()).toEqual(["a1 ended hangup"]);
  await world.connect(b1);
  expect(news()).toEqual(["b1 ended hangup"]);
});

test("[CALL5] of what calls could not be told, only the newest of a device is told afterwards", async () => {
  await active();
  await whileAway(async () => {
    expect(await outcomeOf(world.disconnect(a1))).toBe("unavailable");
    expect(await outcomeOf(world.connect(a1))).toBe("unavailable");
    expect(await outcomeOf(world.connect(b1))).toBe("unavailable");
    expect(await outcomeOf(world.disconnect(b1))).toBe("unavailable");
  });
  await world.pass(500);
  expect([await isAway("a1"), await isAway("b1")]).toEqual([false, true]);
});

test("[CALL5] an offer whose connection has gone before its turn calls nobody, and an answer answers nothing", async () => {
  expect(await outcomeOf(world.service.offer({ ...a1, isClosed: true }, callBob))).toBe("call_ended");
  expect(news()).toEqual([]);
  await ringing();
  news();
  const late = { ...b1, isClosed: true };
  expect(await outcomeOf(world.service.answer(late, { call_id: callId, sdp: "answer" }))).toBe("call_ended");
  expect(news()).toEqual([]);
});

test("[CALL5] a device whose connection goes while it answers has the usual time to come back, and then the call ends", async () => {
  await ringing();
  news();
  const seen = [false];
  const answering = {
    ...b1,
    get isClosed() {
      return seen.pop() ?? true;
    },
  };
  world.connected.delete("bob b1");
  await world.service.answer(answering, { call_id: callId, sdp: "answer" });
  expect(news()).toContain("a1 answer");
  await world.pass(30_000);
  expect(news()).toContain("a1 ended connection_lost");
});
