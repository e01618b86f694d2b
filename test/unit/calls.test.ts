/** Proves the rules of offers, answers and candidates on the real service and the in-process registry [CALL1–CALL3]. */
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
  ice,
  news,
  openWorld,
  ringing,
  world,
} from "../support/call-scene.ts";
import { outcomeOf } from "../support/calls.ts";

beforeEach(() => openWorld());

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
    // Says when there is room again: each that is over is kept for a minute.
    await world.service.hangup(a1, { call_id: ids[0]! });
    const refusal = await world.service.offer(a1, { ...callBob, call_id: crypto.randomUUID() }).catch((error) => error);
    expect(refusal).toMatchObject({ code: "rate_limited", details: { retryAfterMs: 60_000 } });
  });

  test("[CALL1] renegotiation goes to the bound peer from either side, and so does its answer", async () => {
    await active();
    await world.service.offer(b1, { call_id: callId, sdp: "more" });
    expect(world.deliveries.at(-1)?.payload).toEqual({ call_id: callId, from_user_id: "bob", sdp: "more" });
    await answer(a1, "yes");
    await world.service.offer(a1, { call_id: callId, sdp: "less" });
    await answer(b1, "fine");
    expect(news()).toEqual(["a1 offer", "b1 answer", "b1 offer", "a1 answer"]);
    // Sent again it is known; where nothing was offered there is nothing to answer.
    for (const [device, sdp] of [
      [b1, "fine"],
      [a1, "yes"],
    ] as const)
      expect([await outcomeOf(answer(device, sdp)), await outcomeOf(answer(device, "other"))]).toEqual([
        "ok",
        "call_conflict",
      ]);
    expect(news()).toEqual([]);
  });

  test("[CALL1] [CALL7] a renegotiation may ask for another kind of media: the other side is told, and who comes back", async () => {
    await active();
    await world.service.offer(a1, { call_id: callId, media: "video", sdp: "with a camera" });
    const told = { call_id: callId, from_user_id: "ann", media: "video", sdp: "with a camera" } as const;
    expect(world.deliveries.at(-1)?.payload).toEqual(told);
    expect(await outcomeOf(world.service.offer(b1, { call_id: callId, media: "audio", sdp: "refused" }))).toBe(
      "call_conflict",
    );
    await answer(b1, "yes");
    await world.service.offer(b1, { call_id: callId, sdp: "more" });
    for (const device of [a1, b1])
      expect(await world.service.snapshotOf(device)).toMatchObject([{ call_id: callId, media: "video" }]);
  });

  test("[CALL7] of two renegotiations at once the later one is a conflict, and the first goes on", async () => {
    await active();
    const offerOf = (device: typeof a1, sdp: string) => world.service.offer(device, { call_id: callId, sdp });
    await offerOf(a1, "x");
    expect(await outcomeOf(offerOf(b1, "y"))).toBe("call_conflict");
    await offerOf(a1, "x again");
    await answer(b1, "to x");
    await offerOf(b1, "y");
    expect(await outcomeOf(offerOf(a1, "z"))).toBe("call_conflict");
    await answer(a1, "to y");
    expect(news()).toEqual(["b1 offer", "b1 offer", "a1 answer", "a1 offer", "b1 answer"]);
  });

  test("[CALL7] a page that was loaded anew may offer, whatever was offered to the page before it", async () => {
    await active();
    await world.service.offer(a1, { call_id: callId, sdp: "lost with the old page" });
    const loadedAnew = { ...b1, connectedAt: world.turn.now + 1 };
    await world.service.offer(loadedAnew, { call_id: callId, sdp: "anew" });
    await answer(a1, "to anew");
    expect(news()).toEqual(["b1 offer", "a1 offer", "b1 answer"]);
  });

  test("[CALL7] an offer that waited for a device is not lost when it is back", async () => {
    await active();
    await world.disconnect(b1);
    await world.service.offer(a1, { call_id: callId, sdp: "waits" });
    const back = { ...b1, connectedAt: world.turn.now + 1_000 };
    world.turn.now += 1_001;
    await world.connect(b1);
    expect(await outcomeOf(world.service.offer(back, { call_id: callId, sdp: "later" }))).toBe("call_conflict");
    await answer(b1, "to waits");
    expect(news()).toEqual(["b1 offer", "a1 answer"]);
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

  test("[CALL2] a device that was never told may answer, and is told of the end", async () => {
    await ringing();
    world.connected.add("bob b3");
    await answer(b3);
    news();
    await hangup();
    expect(news()).toEqual(["a1 ended hangup", "b3 ended hangup"]);
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
