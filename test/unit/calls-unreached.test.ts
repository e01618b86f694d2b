/** Proves that backends hear once of each callee without a device, in time to wake one, and what callers hear of the busy [BAK3] [CALL1]. */
import { beforeEach, describe, expect, test } from "bun:test";
import {
  a1,
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
  lowerId,
  news,
  ringing as offer,
  openWorld,
  world,
} from "../support/call-scene.ts";
import { outcomeOf } from "../support/calls.ts";

/** Offers, and lets what follows from it happen. */
async function ringing(): Promise<void> {
  await offer();
  await world.settled();
}

const told = () => world.unreached.map(({ call_id }) => call_id);

describe("a callee without a device", () => {
  beforeEach(() => openWorld([a1, eve]));

  test("[BAK3] it is told at once, with all that a push needs, and once", async () => {
    const { now } = world.turn;
    await ringing();
    const expires_at = new Date(now + 60_000).toISOString();
    expect(world.unreached).toEqual([
      { call_id: callId, from_user_id: "ann", to_user_id: "bob", media: "audio", expires_at },
    ]);
    expect((await world.registry.get(callId))!.unreached).toBe("told");
    expect(await outcomeOf(ringing())).toBe("ok");
    await world.pass(30_000);
    expect(told()).toEqual([callId]);
  });

  test("[BAK3] [CALL5] the device that is woken rings; when it goes again nothing more is told", async () => {
    await ringing();
    await world.connect(b1);
    expect(news()).toEqual(["b1 incoming"]);
    await world.disconnect(b1);
    await world.pass(5_000);
    expect(told()).toEqual([callId]);
    expect((await world.registry.get(callId))!.unreached).toBe("told");
  });

  test("[BAK3] nothing is told where a device is there, where nobody wants to know, and of what rings nowhere by itself", async () => {
    world.turn.wakes = false;
    await ringing();
    await world.pass(5_000);
    expect((await world.registry.get(callId))!.unreached).toBeUndefined();
    world.turn.wakes = true;
    // Glare: the one with the higher id never rings.
    world.connected.add("bob b1");
    await world.service.offer(b1, { ...callBob, call_id: higherId, to_user_id: "ann" });
    openWorld();
    await ringing();
    expect(told()).toEqual([]);
  });

  test("[BAK3] [CALL5] the caller is answered before the log has it, for nobody is to tell by that who is offline", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    world.turn.logStalls = promise;
    expect(await outcomeOf(offer())).toBe("ok");
    expect((await world.registry.get(callId))!.unreached).toBe("due");
    // Nor does an offer that comes again wait.
    expect(await outcomeOf(offer())).toBe("ok");
    expect(told()).toEqual([]);
    resolve();
    await world.settled();
    expect(told()).toEqual([callId]);
    expect((await world.registry.get(callId))!.unreached).toBe("told");
  });

  test("[BAK3] where nobody is left who was to tell it, whoever looks next does, once", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    world.turn.logStalls = promise;
    await offer();
    world.turn.logStalls = undefined;
    await world.pass(2_000);
    expect(told()).toEqual([callId]);
    resolve();
    await world.settled();
    await world.pass(10_000);
    expect(told()).toEqual([callId]);
  });

  test("[BAK3] while the log is away the caller is answered all the same, and it is told later, whoever looks, and once", async () => {
    world.turn.logAway = true;
    expect(await outcomeOf(ringing())).toBe("ok");
    expect(await outcomeOf(ringing())).toBe("ok");
    await world.pass(2_000);
    expect(told()).toEqual([]);
    world.turn.logAway = false;
    await world.pass(1_999);
    expect(told()).toEqual([]);
    await world.pass(1);
    expect(told()).toEqual([callId]);
    expect(await outcomeOf(ringing())).toBe("ok");
    await world.pass(10_000);
    expect(told()).toEqual([callId]);
  });

  test("[BAK3] while it is not known who is here nobody is said to be away, and nobody is forgotten", async () => {
    world.turn.partial = true;
    expect(await outcomeOf(ringing())).toBe("ok");
    await world.pass(2_000);
    expect(told()).toEqual([]);
    world.turn.partial = false;
    await world.pass(2_000);
    expect(told()).toEqual([callId]);
    // Devices that are put back ring, and are not told of.
    openWorld([a1]);
    world.turn.partial = true;
    await outcomeOf(ringing());
    await world.connect(b1);
    world.turn.partial = false;
    await world.pass(2_000);
    expect([news(), told()]).toEqual([["b1 incoming"], []]);
  });

  test("[BAK3] the same offer again tells what the first could not", async () => {
    world.turn.logAway = true;
    await outcomeOf(ringing());
    world.turn.logAway = false;
    expect(await outcomeOf(ringing())).toBe("ok");
    expect(told()).toEqual([callId]);
  });

  test("[BAK3] of what is over by the time that the log is back the missed call says enough", async () => {
    world.turn.logAway = true;
    await outcomeOf(ringing());
    await hangup();
    world.turn.logAway = false;
    await world.pass(10_000);
    expect([told(), world.missed.length]).toEqual([[], 1]);
  });

  test("[BAK3] [CALL1] a device that comes while the offer is on its way rings, and nothing is told", async () => {
    let looks = 0;
    world.onDevicesOf.hook = async () => {
      if (++looks === 1) await world.connect(b1);
    };
    await ringing();
    expect(news()).toEqual(["b1 incoming"]);
    await world.pass(5_000);
    expect(told()).toEqual([]);
  });
});

describe("devices that go while it rings", () => {
  beforeEach(() => openWorld([a1, b1, b2]));

  test.each([false, true])("[BAK3] the last one is told of, however it closed (with 1000: %p)", async (hangsUp) => {
    await ringing();
    await world.disconnect(b1, { hangsUp });
    expect(told()).toEqual([]);
    await world.disconnect(b2, { hangsUp });
    expect(told()).toEqual([callId]);
    await world.connect(b1);
    await world.disconnect(b1);
    expect(told()).toEqual([callId]);
  });

  test("[BAK3] where one has come of which the call does not know yet nothing is told", async () => {
    await ringing();
    await world.disconnect(b1);
    world.connected.add("bob b3");
    await world.disconnect(b2);
    await world.pass(5_000);
    expect(told()).toEqual([]);
    // It went before the call came to know of it.
    await world.disconnect(b3);
    expect(told()).toEqual([callId]);
  });

  test("[BAK3] those that went with their node are missed by whoever looks", async () => {
    await ringing();
    world.connected.delete("bob b1");
    await world.pass(10_000);
    expect(told()).toEqual([]);
    world.died.add("bob b2");
    world.turn.partial = true;
    await world.pass(10_000);
    expect(told()).toEqual([]);
    world.turn.partial = false;
    await world.pass(10_000);
    expect(told()).toEqual([callId]);
    // They rang, and are told of the end where they are after all.
    news();
    await hangup();
    expect(news()).toEqual(["a1 ended cancelled", "b1 ended cancelled", "b2 ended cancelled"]);
  });

  test("[BAK3] once it is answered nobody is woken", async () => {
    await ringing();
    await answer(b1);
    await world.disconnect(b2);
    await world.disconnect(b1);
    await world.pass(5_000);
    expect(told()).toEqual([]);
  });

  test("[BAK3] where the log is away then it is told once it is back", async () => {
    await ringing();
    world.turn.logAway = true;
    for (const device of [b1, b2]) expect(await outcomeOf(world.disconnect(device))).toBe("ok");
    world.turn.logAway = false;
    await world.pass(2_000);
    expect(told()).toEqual([callId]);
  });
});

describe("a callee in another call", () => {
  beforeEach(() => openWorld());
  const callFrom = (from: typeof a1, call_id: string) => world.service.offer(from, { ...callBob, call_id });

  test("[CALL1] it rings all the same, and the caller is told, again when it asks again", async () => {
    expect(await callFrom(a1, callId)).toEqual({ isBusy: false });
    await answer(b1);
    news();
    for (let at = 0; at < 2; at++) expect(await callFrom(eve, higherId)).toEqual({ isBusy: true });
    expect(news()).toEqual(["b1 incoming", "b2 incoming"]);
    await hangup();
    expect(await callFrom(eve, lowerId)).toEqual({ isBusy: false });
  });

  test("[CALL1] one who calls is as busy as one who was called, and one who rings is not", async () => {
    await callFrom(a1, callId);
    expect(await callFrom(eve, higherId)).toEqual({ isBusy: false });
    await answer(b1);
    const toAnn = await world.service.offer(eve, { ...callBob, call_id: lowerId, to_user_id: "ann" });
    expect(toAnn).toEqual({ isBusy: true });
  });

  test("[CALL1] [CALL2] [CALL7] one device may be in two calls at a time: each has its own peer, signals and end", async () => {
    await active();
    await callFrom(eve, higherId);
    await world.service.answer(b1, { call_id: higherId, sdp: "second" });
    await world.service.ice(eve, { call_id: higherId, candidates: ["of eve"] });
    await world.service.offer(b1, { call_id: callId, sdp: "hold" });
    expect(news()).toEqual([
      "b1 incoming",
      "b2 incoming",
      "e1 answer",
      "b2 ended answered_elsewhere",
      "b1 ice",
      "a1 offer",
    ]);
    const views = (await world.service.snapshotOf(b1))!;
    expect(views.map(({ call_id, peer_user_id, state }) => [call_id, peer_user_id, state])).toEqual([
      [callId, "ann", "active"],
      [higherId, "eve", "active"],
    ]);
    await world.service.hangup(b1, { call_id: higherId });
    expect(news()).toEqual(["e1 ended hangup", "b1 ended hangup"]);
    expect((await world.registry.get(callId))!.state).toBe("active");
    // The other call ends as it does alone.
    await world.disconnect(b1, { hangsUp: true });
    expect(news()).toEqual(["a1 ended hangup"]);
  });
});
