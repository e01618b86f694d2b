/** Proves that a conversation is told of its members one by one, and of a crowd in bounds [MEM1] [MSG5]. */
import { beforeEach, expect, test } from "bun:test";
import type { Audience } from "../../src/broadcast/broadcaster.ts";
import { type MemberChange, MemberNews, restMs, windowMs } from "../../src/subscription/member-news.ts";
import type { Subscriber } from "../../src/subscription/subscriber.ts";
import { createHandClock, type HandClock } from "../support/hand-clock.ts";
import { createSubscriber } from "../support/subscriber.ts";

let clock: HandClock;
let hearers: number;
let own: Subscriber[];
let told: { topic: string; type: string; payload: Record<string, unknown>; audience: Audience }[];
let toldAlone: { to: Subscriber; type: string }[];
let news: MemberNews;

beforeEach(() => {
  clock = createHandClock({ settled: () => Promise.resolve() });
  hearers = 10;
  own = [];
  told = [];
  toldAlone = [];
  const note = (topic: string, { type, payload }: { type: string; payload: object }, audience: Audience = {}) => {
    told.push({ topic, type, payload: { ...payload }, audience });
    return "id";
  };
  news = new MemberNews({
    broadcaster: {
      toTopic: note,
      toAll: (event, audience) => note("everyone", event, audience),
      subscriberCount: () => hearers,
    },
    subscribersOf: (userId) => own.filter((it) => it.userId === userId),
    tell: (to, type) => void toldAlone.push({ to, type }),
    timers: clock,
    now: clock.now,
  });
});

const added = (userId: string, conversationId = "c1"): MemberChange => ({
  kind: "added",
  mayWrite: true,
  conversationId,
  userId,
  at: 0,
});

test("[MEM1] each is told on this node alone, and a newcomer's own connections are left out", () => {
  news.tell(added("anna"));
  news.tell({ ...added("ben"), mayWrite: false } as MemberChange);
  news.tell({ kind: "removed", conversationId: "c1", userId: "anna", at: 1 });
  news.tell({ kind: "updated", mayWrite: true, conversationId: "c1", userId: "ben", at: 2 });
  const of = { conversation_id: "c1" };
  expect(told.map(({ topic, type, payload }) => [topic, type, payload])).toEqual([
    ["conversation:c1", "member.added", { ...of, user_id: "anna", at: "1970-01-01T00:00:00.000Z" }],
    ["conversation:c1", "member.added", { ...of, user_id: "ben", at: "1970-01-01T00:00:00.000Z", may_write: false }],
    ["conversation:c1", "member.removed", { ...of, user_id: "anna", at: "1970-01-01T00:00:00.001Z" }],
    ["conversation:c1", "member.updated", { ...of, user_id: "ben", at: "1970-01-01T00:00:00.002Z", may_write: true }],
  ]);
  expect(told.map(({ audience }) => audience)).toEqual([
    { reach: "here", exceptUser: "anna" },
    { reach: "here", exceptUser: "ben" },
    { reach: "here" },
    { reach: "here" },
  ]);
});

test("[MEM1] nothing is said where nobody hears it", async () => {
  hearers = 0;
  news.tell(added("anna"));
  await clock.pass(windowMs);
  expect(told).toEqual([]);
});

test("[MEM1] of a crowd some are told, and then that more has changed; other conversations are told all", async () => {
  hearers = 2_000;
  const come = () => {
    for (let count = 0; count < 1_000; count++) news.tell(added(`u${count}`));
  };
  come();
  expect(told.map(({ type }) => type)).toEqual(["member.added", "member.added"]);
  news.tell(added("anna", "c2"));
  expect(told).toHaveLength(3);
  await clock.pass(windowMs);
  expect(told.slice(3).map(({ topic, type, payload }) => [topic, type, payload.conversation_id])).toEqual([
    ["conversation:c1", "members.changed", "c1"],
  ]);
  // It goes on coming.
  for (let rounds = 0; rounds < 9; rounds++) {
    await clock.pass(restMs / 10);
    come();
  }
  expect(told.slice(4).map(({ type }) => type)).toEqual(["member.added", "member.added"]);
  await clock.pass(restMs / 10);
  expect(told.slice(6).map(({ type }) => type)).toEqual(["members.changed"]);
  await clock.pass(restMs);
  expect([told.length, clock.waiting()]).toEqual([7, 0]);
  // One that comes alone is told of at once, also to a crowd.
  hearers = 50_000;
  news.tell(added("late"));
  expect(told.at(-1)).toMatchObject({ type: "member.added", payload: { user_id: "late" } });
  news.stop();
  expect(clock.waiting()).toBe(0);
});

test("[MSG5] who may not write any more is told that whatever else is told", async () => {
  hearers = 30_000;
  const here = createSubscriber("anna");
  const elsewhere = createSubscriber("anna");
  here.subscribe("conversation:c1");
  own = [here, elsewhere];
  news.tell(added("ben"));
  news.tell({ kind: "updated", mayWrite: false, conversationId: "c1", userId: "anna", at: 1 });
  expect(told).toHaveLength(1);
  expect(toldAlone).toEqual([{ to: here, type: "member.updated" }]);
});

test("[MEM1] where changes may have been missed everybody is told so, at once and then once in a while", async () => {
  const once = {
    topic: "everyone",
    type: "members.changed",
    payload: { at: expect.any(String) },
    audience: { reach: "here" as const },
  };
  news.mayBeMissed();
  expect(told).toEqual([once]);
  for (let times = 0; times < 20; times++) news.mayBeMissed();
  await clock.pass(restMs - 1);
  expect(told).toHaveLength(1);
  await clock.pass(1);
  expect(told).toEqual([once, once]);
  await clock.pass(restMs);
  expect([told.length, clock.waiting()]).toEqual([2, 0]);
  news.mayBeMissed();
  expect(told).toHaveLength(3);
  news.stop();
  expect(clock.waiting()).toBe(0);
});
