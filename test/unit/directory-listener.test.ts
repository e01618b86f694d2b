/** Changes of the directory that could not be worked on are made good later, whatever they were [SUB3] [AUTH4]. */
import { beforeEach, expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { DirectoryChange, UserState } from "../../src/storage/directory-store.ts";
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
        return ask(() => new Set(userIds).intersection(members.get(conversationId) ?? new Set()));
      },
      membershipsAmong(userId, conversationIds) {
        asked.push(`${userId}: ${conversationIds}`);
        return ask(() => new Set(conversationIds.filter((id) => members.get(id)?.has(userId))));
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
