/** Changes of the directory that could not be worked on are made good later, whatever they were [SUB3] [AUTH4]. */
import { beforeEach, expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { DirectoryChange, Memberships, UserState } from "../../src/storage/directory-store.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import type { Connection } from "../../src/websocket/connection.ts";
import { DirectoryListener } from "../../src/websocket/directory-listener.ts";
import { createHandClock, type HandClock } from "../support/hand-clock.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });
let clock: HandClock;
let tell: (change: DirectoryChange) => void;
let listener: DirectoryListener;
let isAway: boolean;
/** Looking at everything again takes until then. */
let mayEnd: Promise<void>;
let applied: DirectoryChange["kind"][];
/** Lists what was applied, whole. */
let changes: DirectoryChange[];
/** Users that the directory was asked about. */
let questions: string[];
let states: Map<string, UserState>;
/** Names who is in a conversation, as the directory has it. */
let members: Map<string, Set<string>>;
/** Pairs that the directory was asked about, one text for each question. */
let asked: string[];
/** Lists what others were told, a line each. */
let news: string[];
/** Pairs that may not write. */
let muted: Set<string>;
let closed: { userId: string; code: number }[];

beforeEach(() => {
  isAway = false;
  mayEnd = Promise.resolve();
  applied = [];
  changes = [];
  closed = [];
  questions = [];
  members = new Map();
  asked = [];
  news = [];
  muted = new Set();
  states = new Map(Array.from({ length: 150 }, (_, index) => [`u${index}`, "active"]));
  clock = createHandClock({ settled: () => new Promise((resolve) => setImmediate(resolve)) });
  const ask = async <Answer>(answer: () => Answer): Promise<Answer> => {
    if (isAway) throw new Unavailable("storage", "away");
    return answer();
  };
  listener = new DirectoryListener({
    view: {
      onChange(hear) {
        tell = hear;
        return () => (tell = () => {});
      },
    },
    directory: {
      userState(userId) {
        questions.push(userId);
        return ask(() => states.get(userId) ?? "unknown");
      },
      membersAmong(conversationId, userIds) {
        asked.push(`${conversationId}: ${userIds}`);
        const there = userIds.filter((id) => members.get(conversationId)?.has(id));
        return ask(() => membershipsOf(there, (userId) => `${conversationId} ${userId}`));
      },
      membershipsAmong(userId, conversationIds) {
        asked.push(`${userId}: ${conversationIds}`);
        const there = conversationIds.filter((id) => members.get(id)?.has(userId));
        return ask(() => membershipsOf(there, (conversationId) => `${conversationId} ${userId}`));
      },
    },
    membership: {
      concerns: ({ userId }) => states.has(userId),
      async apply(change) {
        const { kind } = change;
        changes.push(change);
        await ask(() => void applied.push(kind));
        if (kind === "resync") await mayEnd;
      },
      muted: ({ conversationId, userId }) => void news.push(`${conversationId} ${userId} ends what it does`),
    },
    news: {
      tell(change) {
        const mayWrite = "mayWrite" in change && !change.mayWrite ? " read-only" : "";
        news.push(`${change.conversationId} ${change.userId} ${change.kind}${mayWrite} at ${change.at}`);
      },
      mayBeMissed: () => void news.push("anything"),
      stop() {},
    },
    hub: {
      userIds: () => [...states.keys()],
      ofUser: (userId) =>
        states.has(userId) ? [{ close: (code: number) => closed.push({ userId, code }) } as unknown as Connection] : [],
    },
    timers: clock,
    now: clock.now,
    logger,
  });
  listener.start();
});

const membershipsOf = (ids: string[], pairOf: (id: string) => string): Memberships =>
  new Map(ids.map((id) => [id, { mayWrite: !muted.has(pairOf(id)) }]));

test("[MEM1] [MSG5] others are told of what was heard and is so, once, with when it was", async () => {
  members.set("c1", new Set(["u1", "u2", "u3", "u4"]));
  for (const userId of ["u2", "u4"]) muted.add(`c1 ${userId}`);
  tell({ kind: "member_added", conversationId: "c1", userId: "u1", at: 7 });
  tell({ kind: "member_added", conversationId: "c1", userId: "u2", at: 8 });
  // All at once: written anew by the application, say.
  tell({ kind: "member_removed", conversationId: "c1", userId: "u3", at: 9 });
  tell({ kind: "member_added", conversationId: "c1", userId: "u3", at: 10 });
  tell({ kind: "member_updated", conversationId: "c1", userId: "u4", at: 11 });
  tell({ kind: "member_removed", conversationId: "c1", userId: "u5", at: 12 });
  await clock.pass(0);
  expect(news).toEqual([
    "c1 u1 added at 7",
    "c1 u2 ends what it does",
    "c1 u2 added read-only at 8",
    "c1 u3 added at 10",
    "c1 u4 ends what it does",
    "c1 u4 updated read-only at 11",
    "c1 u5 removed at 12",
  ]);
});

test("[MEM1] others are told nothing of what was heard and is not so, for what made it so is still to be heard", async () => {
  members.set("c1", new Set(["u1"]));
  tell({ kind: "member_removed", conversationId: "c1", userId: "u1", at: 7 });
  tell({ kind: "member_added", conversationId: "c1", userId: "u2", at: 7 });
  tell({ kind: "member_updated", conversationId: "c1", userId: "u3", at: 7 });
  await clock.pass(0);
  expect(news).toEqual([]);
  tell({ kind: "member_added", conversationId: "c1", userId: "u1", at: 8 });
  tell({ kind: "member_removed", conversationId: "c1", userId: "u2", at: 9 });
  await clock.pass(0);
  expect(news).toEqual(["c1 u1 added at 8", "c1 u2 removed at 9"]);
});

test("[MEM1] [MSG5] what is heard again while the directory is asked is told once for each kind, by the answer to the last", async () => {
  members.set("c1", new Set(["u1"]));
  tell({ kind: "member_added", conversationId: "c1", userId: "u1", at: 7 });
  muted.add("c1 u1");
  tell({ kind: "member_updated", conversationId: "c1", userId: "u1", at: 8 });
  await clock.pass(0);
  expect(news).toEqual(["c1 u1 ends what it does", "c1 u1 added read-only at 8", "c1 u1 updated read-only at 8"]);
});

test("[MEM1] where changes may have been missed, or the directory was away, all are told that anything may have changed", async () => {
  tell({ kind: "resync" });
  await clock.pass(0);
  expect(news).toEqual(["anything"]);
  isAway = true;
  tell({ kind: "member_added", conversationId: "c1", userId: "u1", at: 7 });
  tell({ kind: "resync" });
  await clock.pass(10_000);
  // Asked now, nobody would be answered.
  expect(news).toEqual(["anything"]);
  isAway = false;
  await clock.pass(2_000);
  expect(news).toEqual(["anything", "anything"]);
});

test("[MSG5] who may write or not keeps all that it has joined", async () => {
  members.set("c1", new Set(["u1"]));
  tell({ kind: "member_updated", conversationId: "c1", userId: "u1", at: 7 });
  await clock.pass(0);
  expect(changes).toEqual([]);
});

test("[SUB3] [AUTH4] what failed is made good by looking at everything again, once the engine answers", async () => {
  isAway = true;
  tell({ kind: "member_removed", conversationId: "c1", userId: "u1" });
  states.set("u2", "disabled");
  tell({ kind: "user_changed", userId: "u2" });
  await clock.pass(3_500);
  expect([applied, closed]).toEqual([[], []]);
  expect(clock.waiting()).toBe(1);
  isAway = false;
  await clock.pass(1_000);
  expect(applied).toEqual(["resync"]);
  expect(closed).toEqual([{ userId: "u2", code: 4011 }]);
  expect(clock.waiting()).toBe(0);
});

test("[AUTH4] after a gap every user who is disabled is sent away, and nobody else", async () => {
  for (const userId of ["u0", "u64", "u149"]) states.set(userId, "disabled");
  tell({ kind: "resync" });
  await clock.pass(0);
  expect(closed.map(({ userId }) => userId)).toEqual(["u0", "u64", "u149"]);
});

test("[AUTH4] nobody asks about users who are not here, however many are written", async () => {
  states.set("u1", "disabled");
  for (const userId of ["u1", "elsewhere", "nowhere"]) tell({ kind: "user_changed", userId });
  await clock.pass(0);
  expect(questions).toEqual(["u1"]);
  expect(closed).toEqual([{ userId: "u1", code: 4011 }]);
});

test("[DRN] nothing is tried again once it was stopped", async () => {
  isAway = true;
  tell({ kind: "resync" });
  await clock.pass(10);
  expect(clock.waiting()).toBe(1);
  listener.stop();
  expect(clock.waiting()).toBe(0);
});

test("[SUB3] everything is looked at again once at a time, and once more for what fails meanwhile", async () => {
  const { promise, resolve: end } = Promise.withResolvers<void>();
  mayEnd = promise;
  const fail = async () => {
    isAway = true;
    tell({ kind: "member_removed", conversationId: "c1", userId: "u1" });
    await clock.pass(0);
    isAway = false;
  };
  for (let failures = 0; failures < 3; failures++) {
    await fail();
    await clock.pass(1_000);
  }
  expect(applied).toEqual(["resync"]);
  end();
  // It rests as long as it took.
  await clock.pass(2_000);
  expect(applied).toEqual(["resync", "resync"]);
  await clock.pass(5_000);
  expect([applied.length, clock.waiting()]).toEqual([2, 0]);
});

test("[SUB3] [AUTH4] a client that is slow to take what it joins keeps nothing else from being made good", async () => {
  mayEnd = new Promise(() => {});
  states.set("u3", "disabled");
  tell({ kind: "resync" });
  await clock.pass(0);
  expect(closed).toEqual([{ userId: "u3", code: 4011 }]);
  tell({ kind: "member_removed", conversationId: "c1", userId: "u1" });
  await clock.pass(0);
  expect(applied).toEqual(["resync", "member_removed"]);
  isAway = true;
  tell({ kind: "member_removed", conversationId: "c1", userId: "u1" });
  await clock.pass(0);
  isAway = false;
  await clock.pass(21_000);
  expect(applied).toEqual(["resync", "member_removed", "resync"]);
  listener.stop();
  expect(clock.waiting()).toBe(0);
});

test("[SUB3] what is told is a hint: whether somebody is a member is asked of the directory", async () => {
  members.set("c1", new Set(["u1"]));
  tell({ kind: "member_removed", conversationId: "c1", userId: "u1" });
  tell({ kind: "member_added", conversationId: "c1", userId: "u2" });
  await clock.pass(0);
  expect(changes.find(({ kind }) => kind === "member_added")).toMatchObject({ conversationId: "c1", userId: "u1" });
  expect(changes.find(({ kind }) => kind === "member_removed")).toMatchObject({ conversationId: "c1", userId: "u2" });
});

test("[SUB3] a flood of what is told costs one question for each conversation or user, or a look at everything once in a while", async () => {
  for (let round = 0; round < 1_000; round++) {
    tell({ kind: "member_removed", conversationId: "c1", userId: `u${round % 150}` });
    tell({ kind: "member_added", conversationId: "c1", userId: "nobody here" });
  }
  await clock.pass(0);
  // The first one was on its way already.
  expect(asked).toHaveLength(2);
  asked = [];
  for (let round = 0; round < 5_000; round++) {
    tell({ kind: "member_removed", conversationId: `made up ${round}`, userId: "u1" });
    tell({ kind: "resync" });
  }
  await clock.pass(900);
  expect(asked.length).toBeLessThanOrEqual(3);
  expect(applied.filter((kind) => kind === "resync")).toHaveLength(1);
  await clock.pass(10_000);
  expect(applied.filter((kind) => kind === "resync")).toHaveLength(2);
});
