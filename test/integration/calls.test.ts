/** Proves call signaling over real sockets, from the first ring to the missed call that is seen later. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import { migrateStorage } from "../../src/storage/migrate.ts";
import type { Client } from "../support/client.ts";
import { createPeople, fresh, type People } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

const newCallId = () => crypto.randomUUID();
const breakOff = (client: Client) => {
  (client.socket as unknown as { terminate(): void }).terminate();
  return client.closed;
};
/** Finds what came of calls, in order, without the logged record of missed ones. */
const callsOf = (client: Client) =>
  client.received.filter(({ type, topic }) => type.startsWith("call.") && topic === undefined);
const typesOf = (client: Client) => callsOf(client).map(({ type }) => type);
const deviceOf = async (client: Client): Promise<string> => (await client.next("connected")).payload.device_id;
const codeOf = async (client: Client, type: string, payload: object) =>
  (await client.request(type, payload)).payload.code;
const ended = (client: Client, call_id: string) =>
  client.find(
    ({ type, topic, payload }) => type === "call.ended" && topic === undefined && payload.call_id === call_id,
  );

/** A caller, and somebody with two devices; they share a conversation. */
async function scene({ connect, gather }: People) {
  const c = fresh("c");
  const [anna, ben] = [fresh("anna"), fresh("ben")];
  const [caller, phone] = (await gather(c, [anna, ben])) as [Client, Client];
  const laptop = await connect(ben);
  const call_id = newCallId();
  const offer = (extra: object = {}) =>
    caller.ask("call.offer", { call_id, to_user_id: ben, media: "video", sdp: "offer", ...extra });
  return { c, anna, ben, caller, phone, laptop, call_id, offer };
}

/** A call that the phone has answered. */
async function answered(people: People, media = "video") {
  const it = await scene(people);
  await it.offer({ media });
  await it.phone.ask("call.answer", { call_id: it.call_id, sdp: "answer" });
  await it.caller.next("call.answer");
  return it;
}

describe("the usual times", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService();
  });
  afterAll(() => service.stop());
  const people = createPeople(() => service.url);
  const { connect } = people;

  test("[CALL1] [CALL2] [CALL3] [CALL4] ring, answer, candidates, renegotiation, hangup", async () => {
    const { c, anna, ben, caller, phone, laptop, call_id, offer } = await scene(people);
    const before = Date.now();
    expect(await offer({ conversation_id: c })).toEqual({});
    for (const device of [phone, laptop]) {
      const { payload } = await device.next("call.incoming");
      expect(payload).toEqual({
        call_id,
        from_user_id: anna,
        from_device_id: await deviceOf(caller),
        conversation_id: c,
        media: "video",
        sdp: "offer",
        expires_at: expect.any(String),
      });
      expect(Date.parse(payload.expires_at)).toBeGreaterThanOrEqual(before + 60_000);
    }
    // Candidates that come before the answer are kept for the device that answers, in order.
    await caller.ask("call.ice", { call_id, candidates: ["a1", { candidate: "a2", sdpMid: "0" }] });
    await phone.ask("call.ice", { call_id, candidates: ["b1"] });
    await laptop.ask("call.ice", { call_id, candidates: ["not of the one that answers"] });
    await phone.ask("call.answer", { call_id, sdp: "answer" });
    expect((await caller.next("call.answer")).payload).toEqual({
      call_id,
      from_user_id: ben,
      from_device_id: await deviceOf(phone),
      sdp: "answer",
    });
    expect((await caller.next("call.ice")).payload).toEqual({ call_id, from_user_id: ben, candidates: ["b1"] });
    expect((await phone.next("call.ice")).payload.candidates).toEqual(["a1", { candidate: "a2", sdpMid: "0" }]);
    expect((await laptop.next("call.ended")).payload).toEqual({ call_id, reason: "answered_elsewhere" });
    expect(await codeOf(laptop, "call.answer", { call_id, sdp: "late" })).toBe("call_already_answered");

    await caller.ask("call.ice", { call_id, candidates: null });
    await phone.ask("call.ice", { call_id, candidates: ["b2"] });
    await phone.next("call.ice", ({ candidates }) => candidates === null);
    await caller.ask("call.offer", { call_id, sdp: "offer 2" });
    expect((await phone.next("call.offer")).payload).toEqual({ call_id, from_user_id: anna, sdp: "offer 2" });
    await phone.ask("call.answer", { call_id, sdp: "answer 2" });
    await caller.next("call.answer", ({ sdp }) => sdp === "answer 2");
    await phone.ask("call.offer", { call_id, sdp: "offer 3" });
    await caller.next("call.offer", ({ sdp }) => sdp === "offer 3");

    await phone.ask("call.hangup", { call_id });
    for (const device of [caller, phone]) {
      const { payload } = await ended(device, call_id);
      expect(payload).toEqual({ call_id, reason: "hangup", ended_by: ben, duration_ms: expect.any(Number) });
    }
    for (const type of ["call.ice", "call.answer", "call.hangup", "call.offer"]) {
      const payload = { call_id, ...(type === "call.ice" ? { candidates: ["late"] } : { sdp: "late" }) };
      expect(await codeOf(caller, type, payload)).toBe("call_ended");
    }
    await Promise.all([caller, phone, laptop].map((device) => device.settled()));
    expect(typesOf(caller)).toEqual(["call.answer", "call.ice", "call.ice", "call.answer", "call.offer", "call.ended"]);
    expect(typesOf(phone)).toEqual(["call.incoming", "call.ice", "call.ice", "call.offer", "call.ended"]);
    expect(typesOf(laptop)).toEqual(["call.incoming", "call.ended"]);
  });

  test("[CALL1] only who shares a conversation may call, whoever does not exist is refused the same way", async () => {
    const [caller, stranger] = await Promise.all([connect(fresh("anna")), connect(fresh("stranger"))]);
    const to = (to_user_id: string, extra = {}) =>
      caller.request("call.offer", { call_id: newCallId(), to_user_id, media: "audio", sdp: "s", ...extra });
    const known = await to((await stranger.next("connected")).payload.user_id);
    const unknown = await to("nobody");
    expect(known.payload).toMatchObject({ code: "forbidden" });
    expect(unknown.payload).toEqual(known.payload);
    const { c, ben, call_id, offer } = await scene(people);
    void c;
    expect((await to(ben)).payload.code).toBe("forbidden");
    await expect(offer({ conversation_id: "another" })).rejects.toThrow("forbidden");
    await offer({ conversation_id: c });
    expect(call_id).toBeString();
    await stranger.settled();
    expect(callsOf(stranger)).toEqual([]);
  });

  test("[CALL1] [CALL6] each field is checked; SDP has a limit", async () => {
    const { anna, ben, caller } = await scene(people);
    const good = { call_id: newCallId(), to_user_id: ben, media: "audio", sdp: "s" };
    const refusal = async (change: object) => (await caller.request("call.offer", { ...good, ...change })).payload;
    expect(await refusal({ call_id: "no uuid" })).toMatchObject({ code: "invalid_payload", field: "payload.call_id" });
    expect(await refusal({ media: "smell" })).toMatchObject({ code: "invalid_payload", field: "payload.media" });
    expect(await refusal({ media: undefined })).toMatchObject({ code: "invalid_payload", field: "payload.media" });
    expect(await refusal({ sdp: "" })).toMatchObject({ code: "invalid_payload", field: "payload.sdp" });
    expect(await refusal({ to_user_id: anna })).toMatchObject({ code: "invalid_payload", field: "payload.to_user_id" });
    expect((await refusal({ sdp: "x".repeat(65_537) })).code).toBe("message_too_large");
    await caller.ask("call.offer", { ...good, sdp: "x".repeat(60_000) });
  });

  test("[CALL2] the first of two answers wins", async () => {
    const { caller, phone, laptop, call_id, offer } = await scene(people);
    await offer();
    const answers = await Promise.all(
      [phone, laptop].map((device) => device.request("call.answer", { call_id, sdp: "mine" })),
    );
    expect(answers.map(({ type, payload }) => payload.code ?? type).sort()).toEqual(["ack", "call_already_answered"]);
    await caller.next("call.answer");
    await caller.settled();
    expect(typesOf(caller)).toEqual(["call.answer"]);
    const loser = answers[0]!.type === "ack" ? laptop : phone;
    expect((await ended(loser, call_id)).payload.reason).toBe("answered_elsewhere");
  });

  test("[CALL2] [CALL3] [CALL4] who is no party, and what is no call", async () => {
    const { caller, phone, call_id, offer, anna, ben } = await scene(people);
    await offer();
    const [stranger, other] = await Promise.all([connect(fresh("stranger")), connect(anna)]);
    for (const [type, payload] of Object.entries({
      "call.answer": { sdp: "s" },
      "call.ice": { candidates: ["c"] },
      "call.hangup": {},
      "call.offer": { sdp: "s" },
    })) {
      expect(await codeOf(phone, type, { call_id: newCallId(), ...payload })).toBe("call_not_found");
      for (const client of [stranger, other])
        expect(await codeOf(client, type, { call_id, ...payload })).toBe("not_a_party");
    }
    // The same id for another call.
    const again = { call_id, to_user_id: ben, media: "audio", sdp: "other" };
    expect(await codeOf(caller, "call.offer", again)).toBe("call_conflict");
    // A repetition of the very same offer is acknowledged and rings nobody twice.
    await offer();
    await phone.settled();
    expect(typesOf(phone)).toEqual(["call.incoming"]);
  });

  test("[CALL3] up to 128 candidates a direction are kept, 32 a message", async () => {
    const { caller, phone, call_id, offer } = await scene(people);
    await offer();
    const candidates = Array.from({ length: 32 }, (_, n) => `c${n}`);
    for (let n = 0; n < 4; n++) await caller.ask("call.ice", { call_id, candidates });
    expect(await codeOf(caller, "call.ice", { call_id, candidates: ["one more"] })).toBe("limit_exceeded");
    expect(await codeOf(caller, "call.ice", { call_id, candidates: [...candidates, "33"] })).toBe("invalid_payload");
    expect(await codeOf(caller, "call.ice", { call_id, candidates: [] })).toBe("invalid_payload");
    await phone.ask("call.answer", { call_id, sdp: "answer" });
    await phone.settled();
    expect(phone.all("call.ice").flatMap(({ payload }) => payload.candidates)).toEqual(
      [1, 2, 3, 4].flatMap(() => candidates),
    );
  });

  test("[CALL4] declined or busy on one device ends it on all, each told once", async () => {
    for (const [asked, reason] of [
      [{}, "declined"],
      [{ reason: "busy" }, "busy"],
    ] as const) {
      const { ben, caller, phone, laptop, call_id, offer } = await scene(people);
      await offer();
      await phone.ask("call.hangup", { call_id, ...asked });
      for (const device of [caller, phone])
        expect((await ended(device, call_id)).payload).toEqual({ call_id, reason, ended_by: ben });
      expect((await ended(laptop, call_id)).payload).toMatchObject({ reason: "declined_elsewhere" });
      await Promise.all([caller, phone, laptop].map((device) => device.settled()));
      for (const device of [caller, phone, laptop]) {
        expect(typesOf(device).filter((type) => type === "call.ended")).toHaveLength(1);
      }
      expect(phone.received.filter(({ topic }) => topic?.startsWith("user:"))).toEqual([]);
    }
  });

  test("[CALL4] a reason of the media is passed on", async () => {
    const { anna, caller, phone, call_id } = await answered(people);
    await caller.ask("call.hangup", { call_id, reason: "ice_failed" });
    expect((await ended(phone, call_id)).payload).toMatchObject({ reason: "ice_failed", ended_by: anna });
  });

  test("[CALL4] [CALL6] cancelled: every device stops ringing, and the callee's user topic keeps it as missed", async () => {
    const { c, anna, ben, caller, phone, laptop, call_id, offer } = await scene(people);
    const { cursor } = await phone.ask("ping");
    await offer({ conversation_id: c });
    await caller.ask("call.hangup", { call_id });
    for (const device of [caller, phone, laptop])
      expect((await ended(device, call_id)).payload).toEqual({ call_id, reason: "cancelled", ended_by: anna });
    const missed = { call_id, reason: "cancelled", from_user_id: anna, conversation_id: c, media: "video" };
    const live = await phone.find(({ topic }) => topic === `user:${ben}`);
    expect(live).toMatchObject({ type: "call.ended", seq: 1, position: expect.any(Number), payload: missed });
    const later = await connect(ben, { since: cursor });
    expect(later.all("call.ended")).toEqual([live]);
  });

  test("[CALL5] glare: the lower call_id wins, the other ends replaced, whichever came first", async () => {
    for (const lowerFirst of [true, false]) {
      const { anna, ben, caller, phone, laptop } = await scene(people);
      const [lower, higher] = [newCallId(), newCallId()].sort() as [string, string];
      const offers = [
        () => caller.ask("call.offer", { call_id: lower, to_user_id: ben, media: "audio", sdp: "lower" }),
        () => phone.ask("call.offer", { call_id: higher, to_user_id: anna, media: "audio", sdp: "higher" }),
      ];
      for (const offer of lowerFirst ? offers : offers.reverse()) await offer();
      expect((await ended(phone, higher)).payload).toEqual({ call_id: higher, reason: "replaced" });
      for (const device of [phone, laptop]) await device.next("call.incoming", ({ call_id }) => call_id === lower);
      await phone.ask("call.answer", { call_id: lower, sdp: "answer" });
      expect((await caller.next("call.answer")).payload.call_id).toBe(lower);
      await caller.settled();
      expect(typesOf(caller)).toEqual(lowerFirst ? ["call.answer"] : ["call.incoming", "call.ended", "call.answer"]);
    }
  });

  test("[CALL5] a device that connects while its user is called rings too, and not once it is answered", async () => {
    const { ben, phone, laptop, call_id, offer } = await scene(people);
    await offer();
    const late = await connect(ben);
    expect((await late.next("call.incoming")).payload).toMatchObject({ call_id, sdp: "offer" });
    expect(typesOf(late)).toEqual(["call.incoming"]);
    await late.ask("call.answer", { call_id, sdp: "answer" });
    for (const device of [phone, laptop])
      expect((await ended(device, call_id)).payload.reason).toBe("answered_elsewhere");
    const tooLate = await connect(ben);
    await late.ask("call.hangup", { call_id });
    await tooLate.settled();
    expect(callsOf(tooLate)).toEqual([]);
  });

  test("[CALL5] a bound device that is back in time goes on, and gets what was sent meanwhile", async () => {
    const { ben, caller, phone, call_id } = await answered(people);
    const device_id = await deviceOf(phone);
    await breakOff(phone);
    await caller.ask("call.ice", { call_id, candidates: ["while away 1"] });
    await caller.ask("call.offer", { call_id, sdp: "restart" });
    const back = await connect(ben, { device_id });
    await back.next("call.offer", ({ sdp }) => sdp === "restart");
    await back.ask("call.answer", { call_id, sdp: "restarted" });
    await caller.next("call.answer", ({ sdp }) => sdp === "restarted");
    expect(typesOf(caller)).not.toContain("call.ended");
    expect(back.all("call.incoming")).toEqual([]);
    await back.ask("call.hangup", { call_id });
    await ended(caller, call_id);
  });
});

describe.each(["SQLite", "PostgreSQL"])("leaving and coming back on purpose, on %s", (engine) => {
  let postgres: PostgresServer | undefined;
  let settings: Record<string, string> = {};
  let service: Service;
  beforeAll(async () => {
    if (engine === "PostgreSQL") {
      postgres = await startPostgres();
      await migrateStorage({ url: postgres.url, lockTimeoutMs: 10_000 });
      settings = { STORAGE__URL: postgres.url };
    }
    service = await startService({ settings });
  });
  afterAll(async () => {
    await service?.stop();
    await postgres?.stop();
  });
  const people = createPeople(() => service.url);
  const { connect } = people;
  const snapshotOf = async (client: Client) => {
    const { topics } = (await client.next("subscribed")).payload;
    return topics.find(({ topic }: { topic: string }) => topic.startsWith("calls:")).snapshot.calls;
  };

  test("[CALL5] a party that closes with 1000 hangs up at once, whichever it is", async () => {
    const { ben, caller, phone, call_id } = await answered(people);
    await phone.close(1000);
    expect((await ended(caller, call_id)).payload).toMatchObject({ reason: "hangup", ended_by: ben });
    const other = await scene(people);
    await other.offer();
    await other.phone.next("call.incoming");
    await other.caller.close(1000);
    const cancelled = { call_id: other.call_id, reason: "cancelled", ended_by: other.anna };
    for (const device of [other.phone, other.laptop])
      expect((await ended(device, other.call_id)).payload).toEqual(cancelled);
    const missed = await other.phone.find(({ topic }) => topic === `user:${other.ben}`);
    expect(missed.payload).toMatchObject({ call_id: other.call_id, reason: "cancelled" });
  });

  test("[CALL5] [CALL7] a page that is loaded anew finds its call, offers anew and goes on", async () => {
    const { anna, ben, caller, phone, call_id } = await answered(people);
    const [device_id, peer_device_id] = [await deviceOf(phone), await deviceOf(caller)];
    await caller.ask("call.offer", { call_id, sdp: "lost with the page" });
    await phone.next("call.offer");
    await phone.close(1001);
    const back = await connect(ben, { device_id });
    expect(await snapshotOf(back)).toEqual([
      { call_id, state: "active", peer_user_id: anna, peer_device_id, media: "video" },
    ]);
    await back.settled();
    await back.ask("call.offer", { call_id, sdp: "anew" });
    await caller.next("call.offer", ({ sdp }) => sdp === "anew");
    expect(await codeOf(caller, "call.offer", { call_id, sdp: "at once" })).toBe("call_conflict");
    await caller.ask("call.answer", { call_id, sdp: "to anew" });
    await back.next("call.answer");
    expect(typesOf(caller)).not.toContain("call.ended");
    // Or it hangs up: a page that cannot go on leaves no orphan.
    await back.ask("call.hangup", { call_id });
    expect((await ended(caller, call_id)).payload).toMatchObject({ reason: "hangup", ended_by: ben });
    expect((await ended(back, call_id)).payload).toMatchObject({ reason: "hangup", ended_by: ben });
  });

  test("[CALL1] [CALL7] a camera that comes on is told, and a page that is loaded anew finds it on", async () => {
    const { anna, ben, caller, phone, call_id, laptop } = await answered(people, "audio");
    await phone.ask("call.offer", { call_id, media: "video", sdp: "with a camera" });
    expect((await caller.next("call.offer")).payload).toEqual({
      call_id,
      from_user_id: ben,
      media: "video",
      sdp: "with a camera",
    });
    await caller.ask("call.answer", { call_id, sdp: "seen" });
    const device_id = await deviceOf(caller);
    await caller.close(1001);
    const back = await connect(anna, { device_id }, { protocols: [subprotocols.protobuf] });
    expect(await snapshotOf(back)).toMatchObject([{ call_id, media: "video" }]);
    await back.ask("call.offer", { call_id, media: "audio", sdp: "without" });
    expect((await phone.next("call.offer")).payload).toMatchObject({ media: "audio", sdp: "without" });
    for (const media of ["smell", null, 7, {}, "video".repeat(14_000)])
      expect(["invalid_payload", "message_too_large"]).toContain(
        await codeOf(back, "call.offer", { call_id, media, sdp: "s" }),
      );
    // It names nobody: a first offer that has forgotten whom it calls, or no call of this device.
    const unknown = await back.request("call.offer", { call_id: newCallId(), media: "audio", sdp: "s" });
    expect(unknown.payload).toMatchObject({ code: "invalid_payload", field: "payload.to_user_id" });
    expect(await codeOf(laptop, "call.offer", { call_id, media: "video", sdp: "s" })).toBe("not_a_party");
    expect(await snapshotOf(await connect(anna, { device_id }))).toMatchObject([{ call_id, media: "audio" }]);
  });

  test("[CALL7] what rings is in the snapshot of whom it rings for, in protobuf too, and rings after it", async () => {
    const { c, anna, ben, caller, call_id, offer } = await scene(people);
    await offer({ conversation_id: c });
    const late = await connect(ben, {}, { protocols: [subprotocols.protobuf] });
    const peer_device_id = await deviceOf(caller);
    const ringing = { call_id, state: "ringing", peer_user_id: anna, peer_device_id, media: "video" };
    expect(await snapshotOf(late)).toEqual([{ ...ringing, conversation_id: c, expires_at: expect.any(String) }]);
    expect((await late.next("call.incoming")).payload.call_id).toBe(call_id);
    expect(await snapshotOf(await connect(fresh("eve")))).toEqual([]);
    await late.ask("call.hangup", { call_id });
  });

  test("[CALL5] [CALL6] [DRN] the only node is stopped: calls end for all, and who was called sees it later", async () => {
    const talking = await answered(people);
    const calling = await scene(people);
    await calling.offer();
    service.signal("SIGTERM");
    for (const device of [talking.caller, talking.phone])
      expect((await ended(device, talking.call_id)).payload.reason).toBe("connection_lost");
    for (const device of [calling.caller, calling.phone, calling.laptop])
      expect((await ended(device, calling.call_id)).payload.reason).toBe("connection_lost");
    await service.exited;
    service = await startService({ folder: service.folder, settings });
    const later = await connect(calling.ben, { since: "acked" });
    const missed = await later.find(({ topic }) => topic === `user:${calling.ben}`);
    expect(missed.payload).toMatchObject({ call_id: calling.call_id, reason: "cancelled", from_user_id: calling.anna });
  });
});

describe("short times", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({ settings: { CALLS__RING_TIMEOUT: "600ms", CALLS__RECONNECT_TIMEOUT: "300ms" } });
  });
  afterAll(() => service.stop());
  const people = createPeople(() => service.url);
  const { connect } = people;

  test("[CALL5] [CALL6] nobody answers: timeout everywhere, and a missed call", async () => {
    const { anna, ben, caller, phone, laptop, call_id, offer } = await scene(people);
    await offer();
    for (const device of [caller, phone, laptop])
      expect((await ended(device, call_id)).payload).toEqual({ call_id, reason: "timeout" });
    const missed = await phone.find(({ topic }) => topic === `user:${ben}`);
    expect(missed.payload).toEqual({ call_id, reason: "timeout", from_user_id: anna, media: "video" });
    expect(await codeOf(phone, "call.answer", { call_id, sdp: "late" })).toBe("call_ended");
  });

  test("[CALL5] [CALL6] an offline callee rings until the timeout and finds the missed call later", async () => {
    const { anna, ben, caller, phone, laptop, call_id, offer } = await scene(people);
    const { cursor } = await phone.ask("ping");
    await caller.ask("subscribe", { topics: [`presence:${ben}`] });
    await Promise.all([phone.close(), laptop.close()]);
    await caller.next("presence.offline");
    expect(await offer()).toEqual({});
    expect((await ended(caller, call_id)).payload).toEqual({ call_id, reason: "timeout" });
    const later = await connect(ben, { since: cursor });
    const missed = { call_id, reason: "timeout", from_user_id: anna, media: "video" };
    // It may be logged a moment after the caller was told.
    expect(await later.find(({ topic }) => topic === `user:${ben}`)).toMatchObject({
      type: "call.ended",
      payload: missed,
    });
    expect(later.all("call.incoming")).toEqual([]);
  });

  test("[CALL5] a bound device that does not come back: connection_lost", async () => {
    for (const side of ["caller", "phone"] as const) {
      const scene = await answered(people);
      await breakOff(scene[side]);
      const left = side === "caller" ? scene.phone : scene.caller;
      const { payload } = await ended(left, scene.call_id);
      expect(payload).toMatchObject({ reason: "connection_lost", duration_ms: expect.any(Number) });
      expect(payload.ended_by).toBeUndefined();
    }
  });

  test("[CALL5] no other close than 1000 hangs up: whoever closed so has its time to come back", async () => {
    for (const code of [undefined, 1001, 3000, 4000]) {
      const talking = await answered(people);
      talking.phone.socket.close(code);
      const { payload } = await ended(talking.caller, talking.call_id);
      expect(payload).toEqual({ call_id: talking.call_id, reason: "connection_lost", duration_ms: expect.any(Number) });
      const calling = await scene(people);
      await calling.offer();
      await calling.phone.next("call.incoming");
      calling.caller.socket.close(code);
      expect((await ended(calling.phone, calling.call_id)).payload.reason).toBe("connection_lost");
      const missed = await calling.phone.find(({ topic }) => topic === `user:${calling.ben}`);
      expect(missed.payload).toMatchObject({ call_id: calling.call_id, reason: "cancelled" });
    }
  });

  test("[CALL5] [CALL4] a device that comes back too late is told how it ended, once", async () => {
    const { ben, caller, phone, call_id } = await answered(people);
    const device_id = await deviceOf(phone);
    await breakOff(phone);
    await ended(caller, call_id);
    const back = await connect(ben, { device_id });
    expect((await ended(back, call_id)).payload.reason).toBe("connection_lost");
    await back.close();
    const again = await connect(ben, { device_id });
    await again.settled();
    expect(callsOf(again)).toEqual([]);
  });
});

describe("callers are told of the busy", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({ settings: { CALLS__BUSY: "true" } });
  });
  afterAll(() => service.stop());
  const people = createPeople(() => service.url);
  const { connect } = people;

  /** Somebody else who may call them, in the format of their own. */
  async function another(c: string, to_user_id: string) {
    const eve = await connect(fresh("eve"), {}, { protocols: [subprotocols.protobuf] });
    await eve.ask("subscribe", { topics: [`conversation:${c}`] });
    const call_id = newCallId();
    return { eve, call_id, offer: () => eve.ask("call.offer", { call_id, to_user_id, media: "audio", sdp: "second" }) };
  }

  test("[CALL1] a user in a call gets another one, its caller is told, and each call has its own end", async () => {
    const { c, ben, caller, phone, laptop, call_id } = await answered(people);
    const second = await another(c, ben);
    expect(await second.offer()).toEqual({ busy: true });
    expect(await second.offer()).toEqual({ busy: true });
    for (const device of [phone, laptop]) await device.next("call.incoming", (it) => it.call_id === second.call_id);
    await phone.ask("call.answer", { call_id: second.call_id, sdp: "answer" });
    await second.eve.next("call.answer");
    await caller.ask("call.ice", { call_id, candidates: ["of the first"] });
    await phone.next("call.ice", (it) => it.call_id === call_id);
    await second.eve.ask("call.hangup", { call_id: second.call_id });
    await ended(phone, second.call_id);
    await phone.ask("call.offer", { call_id, sdp: "back again" });
    await caller.next("call.offer");
    await phone.ask("call.hangup", { call_id });
    await ended(caller, call_id);
    expect(await (await another(c, ben)).offer()).toEqual({});
  });

  test("[CALL1] who rings, or calls somebody, is not in a call yet; nor is it told where it may not call", async () => {
    const { anna, ben, c, call_id, caller, phone, offer } = await scene(people);
    await offer();
    for (const user of [anna, ben]) expect(await (await another(c, user)).offer()).toEqual({});
    await phone.ask("call.answer", { call_id, sdp: "answer" });
    for (const user of [anna, ben]) expect(await (await another(c, user)).offer()).toEqual({ busy: true });
    await expect((await another(fresh("c"), ben)).offer()).rejects.toThrow("forbidden");
    await caller.ask("call.hangup", { call_id });
  });

  test("[CALL1] [CALL5] a device in two calls that closes with 1000 hangs up both", async () => {
    const { c, ben, caller, phone, call_id } = await answered(people);
    const second = await another(c, ben);
    await second.offer();
    await phone.ask("call.answer", { call_id: second.call_id, sdp: "answer" });
    await second.eve.next("call.answer");
    await phone.close(1000);
    for (const [client, id] of [
      [caller, call_id],
      [second.eve, second.call_id],
    ] as const)
      expect((await ended(client, id)).payload).toMatchObject({ reason: "hangup", ended_by: ben });
  });
});
