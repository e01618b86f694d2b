/** Proves how the log is gone over for missed events: what it asks, when it waits, and what it does where something is away or has gone back [BAK3]. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { Candidate } from "../../src/push/candidate.ts";
import { findMissed, type SearchOptions } from "../../src/push/find-missed.ts";
import { MissedSearch } from "../../src/push/missed-search.ts";
import type { Missed } from "../../src/push/missed-topic.ts";
import { PushSwitch } from "../../src/push/switch.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { newEvent } from "../support/new-event.ts";
import { until } from "../support/until.ts";

let storage: Storage;
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
});
afterEach(() => storage.stop());

const message = (conversation: string) =>
  newEvent(`conversation:${conversation}`, {
    senderId: "ann",
    payload: JSON.stringify({ sender_id: "ann" }),
    createdAt: Date.now(),
  });
const candidateOf = (conversation: string, at: { position: number; seq: number; id: string }): Candidate => ({
  event: { ...at, topic: `conversation:${conversation}`, type: "message.new" },
  of: { name: `conversation:${conversation}`, kind: "conversation", key: conversation },
  at: 0,
  senderId: "ann",
});

/** Counts the calls of each method. */
function counted<Port extends object>(port: Port, calls: Map<string, number>): Port {
  return new Proxy(port, {
    get(target, name) {
      const method = (target as Record<string | symbol, unknown>)[name];
      if (typeof method !== "function") return method;
      return (...given: unknown[]) => {
        calls.set(String(name), (calls.get(String(name)) ?? 0) + 1);
        return method.apply(target, given);
      };
    },
  });
}

function searchOptions(seen: Map<string, number> = new Map(), calls = new Map<string, number>()): SearchOptions {
  return {
    directory: counted(storage.directory, calls),
    presence: { now: () => 1_000 },
    whereabouts: counted({ seenAt: async (_: string[]) => seen }, calls),
    store: counted(storage.push, calls),
    log: storage.log,
    now: () => 1_000,
  };
}

/** A search that tells whom it is told to; what `feed` throws the log has thrown. */
function searchOf({ feed = storage.log.feed, hasBegun = storage.push.hasBegun, usersMax = 100_000 } = {}) {
  const told: Missed[] = [];
  const lines: string[] = [];
  const calls = new Map<string, number>();
  const noted = (_: unknown, msg?: string) => void lines.push(msg!);
  const log = { epochs: storage.log.epochs, watermark: storage.log.watermark, feed };
  const store = counted({ ...storage.push, hasBegun }, calls);
  const power = new PushSwitch({ enabled: "auto", store, log });
  const watchers: (() => void)[] = [];
  const search = new MissedSearch({
    ...searchOptions(),
    usersMax,
    log,
    store,
    power,
    topic: {
      async tell(missed) {
        told.push(...missed);
        for (const watcher of watchers) watcher();
      },
    },
    holder: "n1/1",
    afterMs: 0,
    logger: { info: noted, warn: noted, error: noted },
  });
  const tells = (count: number) =>
    new Promise<void>((resolve) => {
      const look = () => told.length >= count && resolve();
      watchers.push(look);
      look();
    });
  return { search, power, told, lines, calls, tells };
}

test("[BAK3] where nobody wants to know of any, that it waited is over once the storage answers", async () => {
  let isAway = true;
  const { search, lines } = searchOf({
    async hasBegun() {
      if (isAway) throw new Unavailable("storage", "It is away.");
      return storage.push.hasBegun();
    },
  });
  await search.start();
  expect(lines).toEqual(["missed events wait"]);
  isAway = false;
  await until(async () => lines.length === 2);
  expect(lines[1]).toBe("missed events are told again");
  await search.stop();
});

test("[BAK3] members, devices and places are asked for once, however many events they are", async () => {
  const conversations = Array.from({ length: 100 }, (_, n) => `c${n}`);
  for (const c of conversations) await storage.directory.addMembers(c, ["ann", "ben", `of-${c}`]);
  const candidates: Candidate[] = [];
  for (let round = 0; round < 5; round++) {
    const events = conversations.map(message);
    const { appended } = await storage.log.append(events);
    candidates.push(...appended.map((it, at) => candidateOf(conversations[at]!, it)));
  }
  const calls = new Map<string, number>();
  const { missed, unsure } = await findMissed(candidates, searchOptions(new Map([["ben", 2_000]]), calls));
  expect(unsure).toBe(0);
  expect(missed.map(({ event, userIds }) => [event.id, ...userIds])).toEqual(
    candidates.map(({ event, of }) => [event.id, `of-${of.key}`]),
  );
  expect(Object.fromEntries(calls)).toEqual({
    standing: 1,
    membersOfEach: 1,
    seenAt: 1,
    receivedThrough: 1,
    acknowledgedBy: 1,
  });
});

test("[BAK3] where everybody is here nobody's place is asked for, and of what is gone nothing", async () => {
  await storage.directory.addMembers("c1", ["ann", "ben"]);
  const { appended } = await storage.log.append([message("c1")]);
  const calls = new Map<string, number>();
  const here = new Map([
    ["ann", 2_000],
    ["ben", 2_000],
  ]);
  expect(await findMissed([candidateOf("c1", appended[0]!)], searchOptions(here, calls))).toEqual({
    looked: 1,
    missed: [],
    unsure: 0,
  });
  expect([...calls.keys()]).toEqual(["standing", "membersOfEach", "seenAt"]);
  const gone = candidateOf("c1", { position: 99, seq: 9, id: "gone" });
  expect((await findMissed([gone], searchOptions())).missed).toEqual([]);
});

test("[BAK3] of a crowd some events are looked at, and the others after what was missed is told", async () => {
  await storage.directory.addMembers(
    "c1",
    Array.from({ length: 60 }, (_, n) => `u${n}`),
  );
  const events = Array.from({ length: 5 }, () => message("c1"));
  const { appended } = await storage.log.append(events);
  const candidates = appended.map((it) => candidateOf("c1", it));
  const { looked, missed } = await findMissed(candidates, { ...searchOptions(), usersMax: 100 });
  expect([looked, ...missed.map(({ userIds }) => userIds.length)]).toEqual([2, 60, 60]);
  const it = searchOf({ usersMax: 100 });
  await storage.push.begin({ epoch: storage.log.epochs.current.id, position: 0 });
  await it.search.start();
  await it.tells(5);
  await it.search.stop();
  expect(it.told.map(({ event, userIds }) => [event.id, userIds.length])).toEqual(events.map(({ id }) => [id, 60]));
});

test("[BAK3] of large conversations as many are held at once as have so many members, and then the next ones", async () => {
  const conversations = ["large1", "large2", "large3"];
  for (const c of conversations)
    await storage.directory.addMembers(
      c,
      Array.from({ length: 1_200 }, (_, n) => `${c}-${n}`),
    );
  const { appended } = await storage.log.append([...conversations, "large1"].map(message));
  const candidates = appended.map((it, at) => candidateOf(conversations[at % 3]!, it));
  const calls = new Map<string, number>();
  const options = { ...searchOptions(new Map(), calls), usersMax: 2_000 };
  const { looked, missed } = await findMissed(candidates, options);
  expect([looked, ...missed.map(({ userIds }) => userIds.length)]).toEqual([2, 1_200, 1_200]);
  expect(calls.get("membersOf")).toBe(2);
  const rest = await findMissed(candidates.slice(looked), { ...searchOptions(), usersMax: 10_000 });
  expect([rest.looked, ...rest.missed.map(({ userIds }) => userIds.length)]).toEqual([2, 1_200, 1_200]);
});

test("[BAK3] where nobody has ever asked for it nothing is read of the log, and the storage is asked once", async () => {
  const { search, calls, power } = searchOf();
  await storage.log.append([message("c1")]);
  await search.start();
  expect(power.isOn).toBe(false);
  expect(await search.stats()).toEqual({ on: 0, turn: 0, told: 0, users: 0 });
  await search.stop();
  expect([...calls.keys()]).toEqual(["hasBegun"]);
  expect(calls.get("hasBegun")).toBeLessThanOrEqual(2);
});

test("[BAK3] it begins with the first who asks, goes on after what was logged meanwhile, and leaves its place to the next", async () => {
  await storage.directory.addMembers("c1", ["ann", "ben"]);
  await storage.log.append([message("c1")]);
  const first = searchOf();
  await first.search.start();
  await first.power.turnOn();
  const events = [message("c1"), message("c1")];
  await storage.log.append(events);
  await first.tells(2);
  await first.search.stop();
  const later = message("c1");
  await storage.log.append([later]);
  const second = searchOf();
  await second.search.start();
  await second.tells(1);
  await second.search.stop();
  const told = [...first.told, ...second.told].map(({ event }) => event.id);
  expect(told).toEqual([...events, later].map(({ id }) => id));
});

test("[BAK3] somebody who asks for it while the storage is asked whether anybody has is not passed over", async () => {
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
  const { promise: isAsked, resolve: noteAsked } = Promise.withResolvers<void>();
  const store = {
    ...storage.push,
    async hasBegun() {
      const hasBegun = await storage.push.hasBegun();
      noteAsked();
      await mayAnswer;
      return hasBegun;
    },
  };
  const power = new PushSwitch({ enabled: "auto", store, log: storage.log });
  const looking = power.look();
  await isAsked;
  await power.turnOn();
  answer();
  expect([await looking, power.isOn]).toEqual([true, true]);
  // Where another node forgets it, it is off until somebody asks again.
  await storage.push.forget();
  expect([await power.look(), await power.isWanted()]).toEqual([false, false]);
  await power.turnOn();
  expect([power.isOn, await storage.push.hasBegun()]).toEqual([true, true]);
});

test("[BAK3] while the log is away it waits, says so once, and tells all of it afterwards", async () => {
  await storage.directory.addMembers("c1", ["ann", "ben"]);
  let failures = 0;
  const it = searchOf({
    feed: async (query) => {
      if (++failures <= 2) throw new Unavailable("storage", "away");
      return storage.log.feed(query);
    },
  });
  await it.power.turnOn();
  await it.search.start();
  const event = message("c1");
  await storage.log.append([event]);
  await it.tells(1);
  await it.search.stop();
  expect(it.told.map(({ event: { id }, userIds }) => [id, ...userIds])).toEqual([[event.id, "ben"]]);
  expect(it.lines).toEqual(["missed events wait", "missed events are told again"]);
});

test("[BAK3] [LOG4] the place is of an epoch: of a log that has gone back it is as far as that still holds", async () => {
  await storage.directory.addMembers("c1", ["ann", "ben"]);
  const events = Array.from({ length: 6 }, () => message("c1"));
  const { appended } = await storage.log.append(events);
  const { epochs } = storage.log;
  const { current } = epochs;
  await storage.push.begin({ epoch: current.id, position: appended[4]!.position });
  const beganAt = appended[2]!.position;
  epochs.replace([...epochs.list, { ...current, id: "wentback", no: current.no + 1, beganAt, broken: true }]);
  const it = searchOf();
  await it.search.start();
  await it.tells(3);
  await it.search.stop();
  expect(it.told.map(({ event }) => event.id)).toEqual(events.slice(3).map(({ id }) => id));
  expect(await storage.push.take({ holder: "n2/1", forMs: 1_000 })).toMatchObject({
    place: { epoch: "wentback", position: appended[5]!.position },
  });
});
