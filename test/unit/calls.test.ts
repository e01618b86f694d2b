/** Proves the calls' rules one by one, on the real service and the in-process registry [CALL1–CALL6]. */
import { beforeEach, describe, expect, test } from "bun:test";
import { type CallWorld, createCallWorld, outcomeOf } from "../support/calls.ts";

const a1 = { userId: "ann", deviceId: "a1" };
const a2 = { userId: "ann", deviceId: "a2" };
const b1 = { userId: "bob", deviceId: "b1" };
const b2 = { userId: "bob", deviceId: "b2" };
const b3 = { userId: "bob", deviceId: "b3" };
const eve = { userId: "eve", deviceId: "e1" };
const callId = "00000000-0000-4000-8000-000000000005";
const lowerId = "00000000-0000-4000-8000-000000000001";
const higherId = "00000000-0000-4000-8000-000000000009";
const callBob = { call_id: callId, to_user_id: "bob", media: "audio", sdp: "offer" } as const;

let world: CallWorld;
beforeEach(() => {
  world = createCallWorld([a1, a2, b1, b2, eve]);
});

/** What has been delivered since the last look: `<device> <type without "call."> [reason]`, and empties it. */
function news(): string[] {
  return world.deliveries.splice(0).map(({ deviceId, type, payload }) => {
    const reason = "reason" in payload ? ` ${payload.reason}` : "";
    return `${deviceId} ${type.slice("call.".length)}${reason}`;
  });
}
const answer = (from = b1, sdp = "answer") => world.service.answer(from, { call_id: callId, sdp });
const ice = (from = a1, ...candidates: string[]) => world.service.ice(from, { call_id: callId, candidates });
const hangup = (from = a1, reason?: "hangup" | "busy" | "declined" | "cancelled" | "ice_failed" | "error") =>
  world.service.hangup(from, { call_id: callId, reason });
const ringing = () => world.service.offer(a1, callBob);
async function active() {
  await ringing();
  await answer();
  await ice(a1, "c");
  news();
}

describe("every state, request and device", () => {
  const states = {
    unknown: async () => {},
    ringing,
    connecting: async () => {
      await ringing();
      await answer();
    },
    active,
    ended: async () => {
      await ringing();
      await hangup();
    },
  };
  const requests = {
    offer: (from: typeof a1) => world.service.offer(from, { ...callBob, to_user_id: from === b1 ? "ann" : "bob" }),
    renegotiate: (from: typeof a1) => world.service.offer(from, { call_id: callId, sdp: "again" }),
    answer: (from: typeof a1) => answer(from, "another"),
    ice: (from: typeof a1) => ice(from, "c"),
    hangup: (from: typeof a1) => hangup(from),
  };
  const devices = { a1, a2, b1, b2, eve };
  const none = "call_not_found";
  const late = "call_already_answered";
  const alien = "not_a_party";
  const taken = "call_conflict";
  const over = "call_ended";
  type Row = Record<keyof typeof devices, string>;
  const answered: Record<keyof typeof requests, Row> = {
    offer: { a1: "ok", a2: taken, b1: taken, b2: taken, eve: taken },
    renegotiate: { a1: "ok", a2: alien, b1: "ok", b2: alien, eve: alien },
    answer: { a1: alien, a2: alien, b1: late, b2: late, eve: alien },
    ice: { a1: "ok", a2: alien, b1: "ok", b2: alien, eve: alien },
    hangup: { a1: "ok", a2: alien, b1: "ok", b2: alien, eve: alien },
  };
  const table: Record<keyof typeof states, Record<keyof typeof requests, Row>> = {
    unknown: {
      offer: { a1: "ok", a2: "ok", b1: "ok", b2: "invalid_payload", eve: "ok" },
      renegotiate: { a1: none, a2: none, b1: none, b2: none, eve: none },
      answer: { a1: none, a2: none, b1: none, b2: none, eve: none },
      ice: { a1: none, a2: none, b1: none, b2: none, eve: none },
      hangup: { a1: none, a2: none, b1: none, b2: none, eve: none },
    },
    ringing: {
      offer: { a1: "ok", a2: taken, b1: taken, b2: "invalid_payload", eve: taken },
      renegotiate: { a1: taken, a2: alien, b1: taken, b2: taken, eve: alien },
      answer: { a1: alien, a2: alien, b1: "ok", b2: "ok", eve: alien },
      ice: { a1: "ok", a2: alien, b1: "ok", b2: "ok", eve: alien },
      hangup: { a1: "ok", a2: alien, b1: "ok", b2: "ok", eve: alien },
    },
    connecting: { ...answered, offer: { ...answered.offer, b2: "invalid_payload" } },
    active: { ...answered, offer: { ...answered.offer, b2: "invalid_payload" } },
    ended: {
      offer: { a1: over, a2: taken, b1: taken, b2: "invalid_payload", eve: taken },
      renegotiate: { a1: over, a2: over, b1: over, b2: over, eve: alien },
      answer: { a1: over, a2: over, b1: over, b2: over, eve: alien },
      ice: { a1: over, a2: over, b1: over, b2: over, eve: alien },
      hangup: { a1: over, a2: over, b1: over, b2: over, eve: alien },
    },
  };
  for (const [state, rows] of Object.entries(table)) {
    test(`[CALL1] [CALL2] [CALL3] [CALL4] ${state}: every request of every device`, async () => {
      const found: typeof table.unknown = structuredClone(rows);
      for (const [name, request] of Object.entries(requests)) {
        for (const [device, from] of Object.entries(devices)) {
          world = createCallWorld([a1, a2, b1, b2, eve]);
          await states[state as keyof typeof states]();
          const before = await world.registry.get(callId);
          const outcome = await outcomeOf(request(from));
          found[name as keyof typeof requests][device as keyof typeof devices] = outcome;
          // What is refused has changed nothing.
          if (outcome !== "ok") expect(await world.registry.get(callId)).toEqual(before);
        }
      }
      expect(found).toEqual(rows);
    });
  }
});

describe("offer", () => {
  test("[CALL1] an offer rings every device of the callee, with all it needs to answer", async () => {
    await world.service.offer(a1, { ...callBob, conversation_id: "c1", media: "video" });
    expect(world.deliveries[0]).toEqual({
      ...b1,
      type: "call.incoming",
      payload: {
        call_id: callId,
        from_user_id: "ann",
        from_device_id: "a1",
        conversation_id: "c1",
        media: "video",
        sdp: "offer",
        expires_at: new Date(world.turn.now + 60_000).toISOString(),
      },
    });
    expect(news()).toEqual(["b1 incoming", "b2 incoming"]);
  });

  test("[CALL1] a first offer without its fields, or to oneself, is invalid by the field's name", async () => {
    const { to_user_id: _, ...nobody } = callBob;
    const { media: __, ...noMedia } = callBob;
    for (const [payload, field] of [
      [nobody, "payload.to_user_id"],
      [noMedia, "payload.media"],
      [{ ...callBob, to_user_id: "ann" }, "payload.to_user_id"],
    ] as const) {
      const error = await world.service.offer(a1, payload).catch((refusal) => refusal);
      expect(error).toMatchObject({ code: "invalid_payload", details: { field } });
    }
  });

  test("[CALL1] one whom the caller may not call is forbidden, and nothing rings", async () => {
    world.turn.mayCall = false;
    expect(await outcomeOf(ringing())).toBe("forbidden");
    expect(news()).toEqual([]);
    expect(await world.service.stats()).toMatchObject({ calls: 0, offered: 0 });
  });

  test("[CALL1] the same offer again does nothing; another one under its id is a conflict", async () => {
    await ringing();
    news();
    expect(await outcomeOf(ringing())).toBe("ok");
    expect(await outcomeOf(world.service.offer(a1, { ...callBob, sdp: "other" }))).toBe("call_conflict");
    expect(news()).toEqual([]);
  });

  test("[CALL1] a device that comes while the offer is on its way rings once", async () => {
    let looks = 0;
    world.onDevicesOf.hook = async () => {
      if (++looks === 1) await world.connect(b3);
    };
    await ringing();
    expect(news()).toEqual(["b1 incoming", "b2 incoming", "b3 incoming"]);
  });

  test("[CALL1] a user may not pile up calls without end", async () => {
    const ids = Array.from({ length: 64 }, () => crypto.randomUUID());
    for (const id of ids) await world.service.offer(a1, { ...callBob, call_id: id });
    expect(await outcomeOf(ringing())).toBe("limit_exceeded");
    expect(await outcomeOf(world.service.offer(eve, callBob))).toBe("ok");
  });

  test("[CALL1] renegotiation goes to the bound peer from either side, and so does its answer", async () => {
    await active();
    await world.service.offer(b1, { call_id: callId, sdp: "more" });
    expect(world.deliveries.at(-1)?.payload).toEqual({ call_id: callId, from_user_id: "bob", sdp: "more" });
    await answer(a1, "yes");
    await world.service.offer(a1, { call_id: callId, sdp: "less" });
    await answer(b1, "fine");
    expect(news()).toEqual(["a1 offer", "b1 answer", "b1 offer", "a1 answer"]);
    expect(await outcomeOf(answer(b1, "fine"))).toBe("call_already_answered");
  });

  test("[CALL1] when both offer at once each may answer the other", async () => {
    await active();
    await world.service.offer(a1, { call_id: callId, sdp: "x" });
    await world.service.offer(b1, { call_id: callId, sdp: "y" });
    await answer(b1, "to x");
    await answer(a1, "to y");
    expect(news()).toEqual(["b1 offer", "a1 offer", "a1 answer", "b1 answer"]);
  });
});

describe("answer and candidates", () => {
  test("[CALL2] the first answer wins: the caller gets it, other devices are told, a late one is refused", async () => {
    await ringing();
    news();
    const outcomes = await Promise.all([outcomeOf(answer(b2)), outcomeOf(answer(b1))]);
    expect(outcomes.sort()).toEqual(["call_already_answered", "ok"]);
    const winner = (await world.registry.get(callId))!.callee.deviceId!;
    expect(world.deliveries[0]?.payload).toEqual({
      call_id: callId,
      from_user_id: "bob",
      from_device_id: winner,
      sdp: "answer",
    });
    expect(news()).toEqual(["a1 answer", `${winner === "b1" ? "b2" : "b1"} ended answered_elsewhere`]);
  });

  test("[CALL2] the winner may repeat its answer, which is passed on once", async () => {
    await ringing();
    await answer();
    news();
    expect(await outcomeOf(answer())).toBe("ok");
    expect(news()).toEqual([]);
  });

  test("[CALL2] the call is connecting at the answer and active at the first signal after it", async () => {
    await ringing();
    await answer();
    expect((await world.registry.get(callId))!.state).toBe("connecting");
    await ice(a1, "c");
    expect((await world.registry.get(callId))!.state).toBe("active");
  });

  test("[CALL3] candidates are kept until the binding, then delivered in order, their end included", async () => {
    await ringing();
    news();
    await ice(a1, "a-first");
    await world.service.ice(a1, { call_id: callId, candidates: null });
    await ice(b2, "b2-early");
    await ice(b1, "b1-early");
    expect(news()).toEqual([]);
    await answer(b1);
    const candidates = world.deliveries.map(({ payload }) => ("candidates" in payload ? payload.candidates : "–"));
    expect(candidates).toEqual(["–", ["b1-early"], ["a-first"], null, "–"]);
    expect(news()).toEqual(["a1 answer", "a1 ice", "b1 ice", "b1 ice", "b2 ended answered_elsewhere"]);
    expect((await world.registry.get(callId))!.caller.kept).toEqual([]);
  });

  test("[CALL3] 128 candidates a direction are kept; more are refused, and the answer still works", async () => {
    await ringing();
    const some = Array.from({ length: 32 }, (_, index) => `c${index}`);
    for (let round = 0; round < 4; round++) await ice(a1, ...some);
    expect(await outcomeOf(ice(a1, "one more"))).toBe("limit_exceeded");
    for (let round = 0; round < 4; round++) await ice(b1, ...some);
    expect(await outcomeOf(ice(b1, "one more"))).toBe("limit_exceeded");
    expect(await outcomeOf(ice(b2, "room of its own"))).toBe("ok");
    await answer(b1);
    expect(news().filter((line) => line.endsWith("ice"))).toHaveLength(8);
  });

  test("[CALL3] candidates that are too long together are refused", async () => {
    await ringing();
    const long = "x".repeat(4_096);
    let outcome = "ok";
    for (let round = 0; round < 127 && outcome === "ok"; round++) {
      outcome = await outcomeOf(
        world.service.ice(a1, { call_id: callId, candidates: [{ candidate: long, also: long }] }),
      );
    }
    expect(outcome).toBe("limit_exceeded");
  });
});

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
      world = createCallWorld([a1, a2, b1, b2]);
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
    world = createCallWorld([a1]);
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
