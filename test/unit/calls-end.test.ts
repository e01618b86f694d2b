/** Proves how calls end, what becomes of devices that vanish, and glare, on the real service [CALL4–CALL6]. */
import { beforeEach, describe, expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import {
  a1,
  a2,
  active,
  answer,
  b1,
  b2,
  b3,
  callBob,
  callId,
  eve,
  hangup,
  higherId,
  ice,
  lowerId,
  news,
  openWorld,
  ringing,
  world,
} from "../support/call-scene.ts";
import { outcomeOf } from "../support/calls.ts";

beforeEach(() => openWorld());

describe("the end", () => {
  const everyone = (reason: string) => [`a1 ended ${reason}`, `b1 ended ${reason}`, `b2 ended ${reason}`];

  test("[CALL4] [CALL6] the caller hangs up while it rings: cancelled for all, and logged as missed", async () => {
    await ringing();
    news();
    await hangup(a1, "error");
    expect(world.deliveries[0]?.payload).toEqual({ call_id: callId, reason: "cancelled", ended_by: "ann" });
    expect(news()).toEqual(everyone("cancelled"));
    const payload = { call_id: callId, reason: "cancelled", from_user_id: "ann", media: "audio" };
    expect(world.missed).toEqual([{ userId: "bob", callId, payload } as never]);
  });

  test("[CALL4] a device declines: the others of the callee are told that it was elsewhere; not missed", async () => {
    await ringing();
    news();
    await hangup(b2);
    expect(news()).toEqual(["a1 ended declined", "b1 ended declined_elsewhere", "b2 ended declined"]);
    expect(world.missed).toEqual([]);
  });

  test("[CALL4] a device is busy", async () => {
    await ringing();
    news();
    await hangup(b1, "busy");
    expect(news()).toEqual(["a1 ended busy", "b1 ended busy", "b2 ended declined_elsewhere"]);
  });

  test("[CALL4] after the answer either side hangs up, and the duration counts from the answer", async () => {
    for (const [from, given, reason] of [
      [a1, undefined, "hangup"],
      [b1, "declined", "hangup"],
      [b1, "ice_failed", "ice_failed"],
    ] as const) {
      openWorld([a1, a2, b1, b2]);
      await ringing();
      world.turn.now += 5_000;
      await answer();
      world.turn.now += 7_500;
      news();
      await hangup(from, given);
      expect(world.deliveries[0]?.payload).toEqual({
        call_id: callId,
        reason,
        ended_by: from.userId,
        duration_ms: 7_500,
      });
      expect(news()).toEqual([`a1 ended ${reason}`, `b1 ended ${reason}`]);
    }
    expect(world.missed).toEqual([]);
  });

  test("[CALL5] [CALL6] nobody answers: timeout for all, logged once", async () => {
    await ringing();
    news();
    await world.pass(59_999);
    expect(news()).toEqual([]);
    await world.pass(1);
    expect(news()).toEqual(everyone("timeout"));
    await world.pass(10_000);
    expect(world.missed.map(({ payload }) => payload.reason)).toEqual(["timeout"]);
  });

  test("[CALL5] an offline callee rings until the timeout; a device that comes meanwhile rings", async () => {
    openWorld([a1]);
    expect(await outcomeOf(ringing())).toBe("ok");
    await world.pass(30_000);
    expect(news()).toEqual([]);
    await world.connect(b1);
    expect(news()).toEqual(["b1 incoming"]);
    await world.pass(30_000);
    expect(news()).toEqual(["a1 ended timeout", "b1 ended timeout"]);
  });

  test("[CALL5] a device that comes after the answer does not ring", async () => {
    await active();
    await world.connect(b3);
    expect(news()).toEqual([]);
  });

  test("[CALL6] a missed call is logged in the end, though the log was away at first", async () => {
    world.turn.logAway = true;
    await ringing();
    expect(await outcomeOf(hangup())).toBe("ok");
    await world.pass(100_000);
    expect(world.missed).toEqual([]);
    // It is kept beyond its time for this.
    expect(await world.registry.stats()).toEqual({ calls: 1 });
    world.turn.logAway = false;
    await world.pass(10_000);
    expect(world.missed).toHaveLength(1);
    await world.pass(10_000);
    expect(await world.registry.stats()).toEqual({ calls: 0 });
  });

  test("[CALL4] a device that was away at the end is told when it is back, once", async () => {
    await ringing();
    await world.disconnect(b2);
    news();
    await answer(b1);
    await hangup(b1);
    expect(news()).toEqual(["a1 answer", "a1 ended hangup", "b1 ended hangup"]);
    await world.connect(b2);
    await world.connect(b2);
    expect(news()).toEqual(["b2 ended answered_elsewhere"]);
  });

  test("[CALL4] an ended call is known for a minute, then forgotten", async () => {
    await active();
    await hangup();
    await world.pass(59_999);
    expect(await outcomeOf(hangup())).toBe("call_ended");
    await world.pass(1);
    expect(await outcomeOf(hangup())).toBe("call_not_found");
  });
});

describe("glare and devices that vanish", () => {
  test("[CALL5] glare: a higher call_id comes into being replaced, and the lower one rings on", async () => {
    await ringing();
    news();
    await world.service.offer(b1, { ...callBob, call_id: higherId, to_user_id: "ann" });
    expect(world.deliveries[0]?.payload).toEqual({ call_id: higherId, reason: "replaced" });
    expect(news()).toEqual(["b1 ended replaced"]);
    expect(await outcomeOf(answer(b1))).toBe("ok");
    expect(world.missed).toEqual([]);
  });

  test("[CALL5] glare: a lower call_id replaces the call that rings", async () => {
    await ringing();
    news();
    await world.service.offer(b1, { ...callBob, call_id: lowerId, to_user_id: "ann" });
    expect(news()).toEqual([
      "a1 ended replaced",
      "b1 ended replaced",
      "b2 ended replaced",
      "a1 incoming",
      "a2 incoming",
    ]);
    expect(await outcomeOf(answer(b1))).toBe("call_ended");
  });

  test("[CALL5] a call that has been answered is not glare", async () => {
    await active();
    await world.service.offer(b1, { ...callBob, call_id: lowerId, to_user_id: "ann" });
    expect(news()).toEqual(["a1 incoming", "a2 incoming"]);
  });

  test("[CALL5] a bound device that stays away ends the call; the other is told now, itself when it is back", async () => {
    await active();
    await world.disconnect(a1);
    await world.pass(29_999);
    expect(news()).toEqual([]);
    await world.pass(1);
    expect(news()).toEqual(["b1 ended connection_lost"]);
    await world.connect(a1);
    expect(news()).toEqual(["a1 ended connection_lost"]);
    expect(world.missed).toEqual([]);
  });

  test("[CALL5] who closes cleanly hangs up: cancelled while it rings and missed, hangup once it is answered", async () => {
    await ringing();
    news();
    await world.disconnect(a1, { hangsUp: true });
    expect(news()).toEqual(["b1 ended cancelled", "b2 ended cancelled"]);
    await world.pass(500);
    expect(world.missed.map(({ payload }) => payload.reason)).toEqual(["cancelled"]);
    for (const [one, other] of [
      [a1, b1],
      [b1, a1],
    ] as const) {
      openWorld();
      await active();
      await world.disconnect(one, { hangsUp: true });
      expect(world.deliveries.map(({ payload }) => payload)).toMatchObject([{ ended_by: one.userId }]);
      expect(news()).toEqual([`${other.deviceId} ended hangup`]);
      await world.connect(one);
      expect(news()).toEqual([`${one.deviceId} ended hangup`]);
    }
  });

  test("[CALL5] a device that only rings takes nothing with it when it closes", async () => {
    await ringing();
    for (const device of [b1, b2]) await world.disconnect(device, { hangsUp: true });
    await world.disconnect(a2, { hangsUp: true });
    await world.connect(b3);
    expect(news()).toEqual(["b1 incoming", "b2 incoming", "b3 incoming"]);
  });

  test("[CALL5] a device that has closed here and is there already has not hung up", async () => {
    await active();
    await world.connect(a1);
    await world.service.deviceDisconnected(a1, { hangsUp: true });
    expect(news()).toEqual([]);
  });

  test("[CALL5] [CALL6] the only node stops: calls end for all, and those that rang are missed", async () => {
    await ringing();
    await world.service.offer(a1, { ...callBob, call_id: higherId });
    await answer(b1);
    news();
    await world.service.endAll();
    expect(news().sort()).toEqual(
      ["a1", "b1", "a1", "b1", "b2"].map((device) => `${device} ended connection_lost`).sort(),
    );
    expect(world.missed).toMatchObject([{ callId: higherId, payload: { reason: "cancelled" } }]);
    await world.service.endAll();
    expect(news()).toEqual([]);
  });

  test("[CALL7] a device sees what it is in or rings for, and nothing else", async () => {
    const callsAt = (device: typeof a1) => world.service.snapshotOf(device);
    const rings = { call_id: callId, state: "ringing", media: "audio", expires_at: expect.any(String) } as const;
    expect(await callsAt(a1)).toEqual([]);
    await ringing();
    expect(await callsAt(a1)).toEqual([{ ...rings, peer_user_id: "bob" }]);
    for (const device of [b1, b2, b3])
      expect(await callsAt(device)).toEqual([{ ...rings, peer_user_id: "ann", peer_device_id: "a1" }]);
    expect([await callsAt(a2), await callsAt(eve)]).toEqual([[], []]);
    await answer(b1);
    await ice(a1, "c");
    const goesOn = { call_id: callId, state: "active", media: "audio" } as const;
    expect(await callsAt(a1)).toEqual([{ ...goesOn, peer_user_id: "bob", peer_device_id: "b1" }]);
    expect(await callsAt(b1)).toEqual([{ ...goesOn, peer_user_id: "ann", peer_device_id: "a1" }]);
    expect([await callsAt(b2), await callsAt(b3)]).toEqual([[], []]);
    await hangup();
    expect([await callsAt(a1), await callsAt(b1)]).toEqual([[], []]);
    world.registry.callsOf = () => Promise.reject(new Unavailable("cluster", "Calls are away."));
    expect(await callsAt(a1)).toBeNull();
  });

  test("[CALL5] a caller who drops during the answer comes back to all of it, in order", async () => {
    await ringing();
    await world.disconnect(a1);
    news();
    await answer(b1);
    await ice(b1, "c");
    await world.service.offer(b1, { call_id: callId, sdp: "first" });
    await world.service.offer(b1, { call_id: callId, sdp: "second" });
    expect(news()).toEqual(["b2 ended answered_elsewhere"]);
    world.turn.now += 29_999;
    await world.connect(a1);
    expect(world.deliveries.at(-1)?.payload).toMatchObject({ sdp: "second" });
    expect(news()).toEqual(["a1 answer", "a1 ice", "a1 offer"]);
    await world.pass(60_000);
    expect((await world.registry.get(callId))!.state).toBe("active");
  });

  test("[CALL5] [CALL6] a caller who vanishes while it rings: connection_lost, and a missed call", async () => {
    await ringing();
    await world.disconnect(a1);
    news();
    await world.pass(30_000);
    expect(news()).toEqual(["b1 ended connection_lost", "b2 ended connection_lost"]);
    expect(world.missed.map(({ payload }) => payload.reason)).toEqual(["cancelled"]);
  });

  test("[CALL5] devices that went with their node are noticed, and the call ends", async () => {
    await active();
    world.connected.clear();
    for (let second = 0; second < 125; second++) await world.pass(1_000);
    expect(await world.registry.stats()).toEqual({ calls: 0 });
  });

  test("[CALL5] what is known of a device follows the order of what happened", async () => {
    await active();
    // The first look at the user's calls is slow, the second is not.
    const callsOf = world.registry.callsOf.bind(world.registry);
    const slow = Promise.withResolvers<void>();
    world.registry.callsOf = (userId) => {
      world.registry.callsOf = callsOf;
      setImmediate(slow.resolve);
      return slow.promise.then(() => callsOf(userId));
    };
    await Promise.all([world.disconnect(a1), world.connect(a1)]);
    expect((await world.registry.get(callId))!.told[0]!.awaySince).toBeNull();
  });
});

test("[CALL5] the service works on deadlines from start to stop, and leaves no timer behind", async () => {
  await ringing();
  news();
  world.service.start();
  world.service.start();
  expect(world.timers()).toBe(1);
  world.turn.now += 60_000;
  world.fireTimer();
  await world.service.stop();
  expect(news()).toContain("a1 ended timeout");
  expect(world.timers()).toBe(0);
});
