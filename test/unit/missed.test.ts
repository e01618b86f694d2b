/** Decides who has missed an event, and proves how that comes into the log: once for each, whoever begins anew [BAK3]. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { PresenceRecord, SignsOfLife, VersionedRecord } from "../../src/cluster/ports.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { ServerPayload } from "../../src/protocol/server.ts";
import { missedTopic } from "../../src/protocol/topic.ts";
import { outcomeOf, type Standing, toCandidate } from "../../src/push/candidate.ts";
import { type Missed, MissedTopic } from "../../src/push/missed-topic.ts";
import { Whereabouts } from "../../src/push/whereabouts.ts";
import { isKeyOf, keyPart } from "../../src/storage/erasure-store.ts";
import type { AppendedEvent, LoggedEvent, NewEvent, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";

const logged = (type: string, payload: object, topic = "conversation:c1"): LoggedEvent => ({
  id: "e1",
  topic,
  seq: 4,
  position: 40,
  type,
  payload: JSON.stringify(payload),
  createdAt: 1_000,
});

describe("which events", () => {
  test.each([
    ["a message", logged("message.new", { sender_id: "ann" }), "ann"],
    ["a message on somebody's own topic", logged("message.new", { sender_id: "ann" }, "user:bob"), "ann"],
    ["a notification", logged("notification", { sender_id: "x" }, "notifications:bob"), null],
    ["a missed call", logged("call.ended", { from_user_id: "ann", reason: "timeout" }, "user:bob"), "ann"],
  ])("[BAK3] %s may be missed", (_, event, senderId) => {
    expect(toCandidate(event)).toMatchObject({ event: { id: "e1", seq: 4, position: 40 }, at: 1_000, senderId });
  });

  test.each([
    ["a receipt", logged("message.read", { user_id: "ann" })],
    ["an edit", logged("message.edited", { message_id: "m1" })],
    ["an application's own event", logged("poll.closed", { sender_id: "ann" })],
    ["the end of a call without a caller", logged("call.ended", { reason: "hangup" }, "user:bob")],
    ["what was missed itself", logged("delivery.missed", {}, "missed")],
    ["what is on no logged topic", logged("message.new", { sender_id: "ann" }, "presence:bob")],
  ])("[BAK3] %s may not", (_, event) => {
    expect(toCandidate(event)).toBeNull();
  });
});

describe("who", () => {
  const candidate = toCandidate(logged("message.new", { sender_id: "ann" }))!;
  const away: Standing = { seenAt: null, receivedThrough: 0, acknowledgedThrough: 0 };
  const outcome = (userId: string, standing: Partial<Standing>) =>
    outcomeOf(candidate, { userId, standing: { ...away, ...standing }, eventAt: 1_000 });

  test("[BAK3] a member without a device has missed it, the sender never", () => {
    expect(outcome("bob", {})).toBe("missed");
    expect(outcome("ann", {})).toBe("reached");
  });

  test("[BAK3] whoever has received, read or acknowledged it, or joined after it, has not; of what was before it that says nothing", () => {
    expect(outcome("bob", { receivedThrough: 4 })).toBe("reached");
    expect(outcome("bob", { receivedThrough: 3 })).toBe("missed");
    expect(outcome("bob", { acknowledgedThrough: 40 })).toBe("reached");
    expect(outcome("bob", { acknowledgedThrough: 39 })).toBe("missed");
  });

  test("[BAK3] a device counts once its node has said that it lives since the event", () => {
    expect(outcome("bob", { seenAt: 1_000 })).toBe("reached");
    expect(outcome("bob", { seenAt: Number.POSITIVE_INFINITY })).toBe("reached");
    expect(outcome("bob", { seenAt: 999 })).toBe("unsure");
    expect(outcome("bob", { seenAt: 999, receivedThrough: 4 })).toBe("reached");
  });
});

describe("where", () => {
  const device = (run: string, leaving?: { since: number; until: number }) => ({
    deviceId: `d-${run}`,
    connectionId: "x",
    run,
    status: "online" as const,
    connectedAt: 1,
    ...(leaving === undefined ? {} : { leaving }),
  });
  const record = (...devices: PresenceRecord["devices"]): VersionedRecord => ({
    mark: "m",
    version: 1,
    record: { devices, byHand: null, lastSeenAt: null },
  });
  function whereaboutsOf(records: Record<string, VersionedRecord>, signs: SignsOfLife, clock = { now: 100_000 }) {
    return new Whereabouts({
      presence: {
        run: "own",
        now: () => clock.now,
        read: async (userIds) => new Map(userIds.flatMap((id) => (records[id] ? [[id, records[id]]] : []))),
      },
      nodes: { signs: async () => signs },
      deadAfterMs: 15_000,
    });
  }
  const signs = (at: Record<string, number>, isSettled = true) => ({ at: new Map(Object.entries(at)), isSettled });

  test("[BAK3] devices in their grace, and those of a node that is dead, are none; the one heard from last counts", async () => {
    const records = {
      ann: record(device("own")),
      bob: record(device("own", { since: 1, until: 1e9 })),
      cleo: record(device("n2"), device("n3")),
      dan: record(device("n4")),
      eve: record(),
    };
    const here = await whereaboutsOf(records, signs({ n2: 90_000, n3: 99_000, n4: 84_000 })).seenAt(
      Object.keys(records),
    );
    expect(Object.fromEntries(here)).toEqual({ ann: Number.POSITIVE_INFINITY, cleo: 99_000 });
  });

  test("[BAK3] nobody is dead while nodes had no way to say that they live, and one that is unknown only after a while", async () => {
    const records = { ann: record(device("n2")), bob: record(device("stranger")) };
    const clock = { now: 100_000 };
    const unsettled = await whereaboutsOf(records, signs({ n2: 1 }, false), clock).seenAt(["ann", "bob"]);
    expect([...unsettled.keys()]).toEqual(["ann", "bob"]);
    const settled = whereaboutsOf(records, signs({ n2: 100_000 }), clock);
    expect([...(await settled.seenAt(["ann", "bob"])).keys()]).toEqual(["ann", "bob"]);
    clock.now += 15_001;
    expect([...(await settled.seenAt(["bob"])).keys()]).toEqual([]);
  });

  test("[BAK3] where the registry is away, or records are being put back, nothing is known", async () => {
    const partial = { ...record(), isPartial: true };
    for (const [records, userId] of [
      [{}, "ann"],
      [{ ann: partial }, "ann"],
    ] as const) {
      const asked = whereaboutsOf(records, signs({})).seenAt([userId]);
      expect(await asked.catch((error: unknown) => error)).toBeInstanceOf(Unavailable);
    }
  });
});

describe("telling", () => {
  let storage: Storage;
  beforeEach(async () => {
    storage = createSqliteStorage({ path: ":memory:", now: () => 1 });
    await storage.start();
  });
  afterEach(() => storage.stop());

  /** A node that tells; what `before` throws the log has thrown. */
  function teller(before: (events: NewEvent[]) => void = () => {}): MissedTopic {
    const appendAll = async (events: NewEvent[]): Promise<AppendedEvent[]> => {
      before(events);
      return (await storage.log.append(events)).appended;
    };
    return new MissedTopic({
      publisher: {
        appendAll,
        append: async ({ payload, ...event }) =>
          (await appendAll([{ ...event, payload: JSON.stringify(payload) }]))[0]!,
      },
      log: storage.log,
      now: () => 5,
      newId: () => crypto.randomUUID(),
    });
  }
  const users = (count: number, from = 0) =>
    Array.from({ length: count }, (_, at) => `u${String(at + from).padStart(6, "0")}`);
  const missed = (userIds: string[], id = "e1"): Missed => ({
    event: { id, topic: "conversation:c1", seq: 4, position: 40, type: "message.new" },
    senderId: "ann",
    userIds: userIds.toSorted(),
    audience: 100_000,
  });
  async function told(): Promise<ServerPayload<"delivery.missed">[]> {
    const { events } = await storage.log.range({ topic: missedTopic.name, afterSeq: 0, throughSeq: 1e9, limit: 1e4 });
    return events.map(({ payload }) => JSON.parse(payload));
  }

  test("[BAK3] an event for many users comes in parts of 1,000, each user in one of them", async () => {
    await teller().tell([missed(users(2_500)), missed(["bob"], "e2")]);
    const events = await told();
    expect(events.map(({ event_id, user_ids }) => [event_id, user_ids.length])).toEqual([
      ["e1", 1_000],
      ["e1", 1_000],
      ["e1", 500],
      ["e2", 1],
    ]);
    const ofFirst = events.filter(({ event_id }) => event_id === "e1").flatMap(({ user_ids }) => user_ids);
    expect(ofFirst).toEqual(users(2_500));
    expect(events[3]).toEqual({
      event_id: "e2",
      topic: "conversation:c1",
      seq: 4,
      type: "message.new",
      user_ids: ["bob"],
      sender_id: "ann",
    });
  });

  test("[BAK3] whoever goes on after a node that died between the parts tells those that are left, and nobody twice, also where others have missed it by then", async () => {
    const dies = teller(([first]) => {
      if (first!.once!.keys[0]!.endsWith(":2")) throw new Error("killed");
    });
    await dies.tell([missed(users(2_500))]).catch(() => {});
    expect((await told()).map(({ user_ids }) => user_ids.length)).toEqual([1_000, 1_000]);
    // One of the first part has come, one of the last part as well, and somebody new is away.
    const now = ["aaron", ...users(2_600)].filter((id) => id !== "u000007" && id !== "u002100");
    await teller().tell([missed(now)]);
    const all = (await told()).flatMap(({ user_ids }) => user_ids);
    expect(new Set(all).size).toBe(all.length);
    expect(all.toSorted()).toEqual(users(2_600).filter((id) => id !== "u002100"));
    await teller().tell([missed(users(3_000))]);
    const again = (await told()).flatMap(({ user_ids }) => user_ids);
    expect(new Set(again).size).toBe(again.length);
  });

  test("[BAK3] two nodes that tell of the same at once tell it once", async () => {
    await Promise.all([
      teller().tell([missed(users(3_300)), missed(["bob"], "e2")]),
      teller().tell([missed(users(3_300).filter((id) => !id.endsWith("7"))), missed(["bob"], "e2")]),
    ]);
    const events = await told();
    expect(events.filter(({ event_id }) => event_id === "e2")).toHaveLength(1);
    const all = events.flatMap(({ event_id, user_ids }) => (event_id === "e1" ? user_ids : []));
    expect(new Set(all).size).toBe(all.length);
    for (const id of users(3_300)) expect(all.includes(id) || id.endsWith("7")).toBe(true);
  });

  test("[BAK4] the keys of what is a user's own, and of calls from and to the user, are found when the user is erased", async () => {
    const keys: string[] = [];
    const noting = teller((events) => void keys.push(...events.flatMap(({ once }) => once!.keys)));
    const own = { ...missed(["a:b"]), event: { ...missed([]).event, topic: "notifications:a:b" } };
    await noting.tell([own, missed(["a:b"])]);
    await noting.tellUnreached({
      call_id: "c",
      from_user_id: "ann",
      to_user_id: "a:b",
      media: "audio",
      expires_at: "x",
    });
    expect(keys.map((key) => isKeyOf("a:b", key))).toEqual([true, false, true]);
    expect(keys.map((key) => isKeyOf("ann", key))).toEqual([false, false, true]);
    expect(keys.filter((key) => isKeyOf("a:b", key) && !key.includes(keyPart("a:b")))).toEqual([]);
  });

  test("[BAK3] a call is told once, and the same id between others is another call", async () => {
    const call = { call_id: "c", from_user_id: "ann", to_user_id: "bob", media: "audio" as const, expires_at: "x" };
    await teller().tellUnreached(call);
    await teller().tellUnreached(call);
    await teller().tellUnreached({ ...call, from_user_id: "cleo" });
    const { events } = await storage.log.range({ topic: "missed", afterSeq: 0, throughSeq: 9, limit: 9 });
    expect(events.map(({ type, payload }) => [type, JSON.parse(payload).from_user_id])).toEqual([
      ["call.unreached", "ann"],
      ["call.unreached", "cleo"],
    ]);
  });
});
