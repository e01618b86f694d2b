/** Proves what every event log must do with keys: each is appended once, and something else under it is told [LOG2]. */
import { expect, test } from "bun:test";
import { newEvent } from "../support/new-event.ts";
import { type Open, withStorage } from "./opened.ts";
import { trimAll } from "./trim-all.ts";

export function describeIdempotency(open: Open): void {
  test(
    "[LOG2] the same key appends once and answers as the first time",
    withStorage(open, async ({ log }) => {
      const first = await log.append([newEvent("user:a", { once: { keys: ["user:u1:m1"] }, createdAt: 5 })]);
      await log.append([newEvent("user:a")]);
      const again = await log.append([newEvent("user:b", { once: { keys: ["user:u1:m1"] }, createdAt: 9 })]);
      expect(again.appended).toEqual([{ ...first.appended[0]!, duplicate: true }]);
      expect(await log.heads(["user:a", "user:b"])).toMatchObject(new Map([["user:b", { seq: 0 }]]));
      expect((await log.stats()).events).toBe(2);
    }),
  );

  test(
    "[LOG2] the same key twice in one batch appends once",
    withStorage(open, async ({ log }) => {
      const { appended } = await log.append([
        newEvent("user:a", { once: { keys: ["k"] } }),
        newEvent("user:a"),
        newEvent("user:a", { once: { keys: ["k"] } }),
        newEvent("user:a"),
      ]);
      expect(appended.map(({ seq, duplicate }) => [seq, duplicate])).toEqual([
        [1, false],
        [2, false],
        [1, true],
        [3, false],
      ]);
      expect(appended[2]).toEqual({ ...appended[0]!, duplicate: true });
    }),
  );

  test(
    "[LOG2] of many who append the same key at once one appends",
    withStorage(open, async ({ log }) => {
      const results = await Promise.all(
        Array.from({ length: 20 }, () => log.append([newEvent("user:a", { once: { keys: ["k"] } })])),
      );
      const answers = results.map(({ appended }) => appended[0]!);
      expect(answers.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
      expect(new Set(answers.map(({ id, position }) => `${id} ${position}`)).size).toBe(1);
    }),
  );

  test(
    "[LOG2] the same key with something else is a conflict, within a batch and after it; nothing of it is appended",
    withStorage(open, async ({ log }) => {
      const said = (digest: string | undefined) => newEvent("user:a", { once: { keys: ["k"], digest } });
      const { appended } = await log.append([said("one"), said("other"), newEvent("user:a"), said("one")]);
      const first = appended[0]!;
      expect(appended.slice(1)).toMatchObject([{ duplicate: true, conflict: true }, { seq: 2 }, { duplicate: true }]);
      expect(appended[3]).toEqual({ ...first, duplicate: true });
      const again = await log.append([said("other"), said("one"), said(undefined)]);
      expect(again.appended).toEqual([
        { ...first, duplicate: true, conflict: true },
        { ...first, duplicate: true },
        { ...first, duplicate: true },
      ]);
      expect(await log.stats()).toMatchObject({ events: 2 });
    }),
  );

  test(
    "[LOG2] an event that has one of several keys is the same, and a conflict where they are of two events",
    withStorage(open, async ({ log }) => {
      const under = (...keys: string[]) => newEvent("user:a", { once: { keys, digest: "one" } });
      const { appended } = await log.append([under("a", "b"), under("b"), under("c"), under("c", "a")]);
      const [first, again, third, both] = appended;
      expect(again).toEqual({ ...first!, duplicate: true });
      expect(third).toMatchObject({ seq: 2, duplicate: false });
      expect(both).toMatchObject({ duplicate: true, conflict: true });
      const later = await log.append([under("b", "new"), under("a", "c")]);
      expect(later.appended).toMatchObject([{ seq: 1, duplicate: true }, { conflict: true }]);
      expect((await log.page({ topic: "user:a", limit: 10 })).events.map(({ seq }) => seq)).toEqual([1, 2]);
    }),
  );

  test(
    "[LOG2] a message that its publisher has named is a conflict where another one of the topic has that id",
    withStorage(open, async ({ log }) => {
      const sent = newEvent("conversation:a", { senderId: "ann", once: { keys: ["sent"], digest: "one" } });
      const first = (await log.append([newEvent("conversation:a"), sent])).appended[1]!;
      const named = (topic: string, digest: string) =>
        newEvent(topic, { id: sent.id, senderId: "bob", once: { keys: [`id ${topic}`], digest, isNamed: true } });
      const { appended } = await log.append([
        named("conversation:a", "one"),
        named("conversation:b", "one"),
        newEvent("conversation:a"),
        named("conversation:b", "two"),
      ]);
      expect(appended[0]).toEqual({ ...first, duplicate: true, conflict: true });
      expect(appended.slice(1)).toMatchObject([{ seq: 1, duplicate: false }, { seq: 3 }, { seq: 1, conflict: true }]);
      const again = await log.append([named("conversation:b", "one"), named("conversation:a", "one")]);
      expect(again.appended).toEqual([
        { ...appended[1]!, duplicate: true },
        { ...first, duplicate: true, conflict: true },
      ]);
    }),
  );

  test(
    "[LOG2] what a key was given to is found as an append would answer it, and nothing is appended",
    withStorage(open, async (storage) => {
      const { log } = storage;
      const find = (keys: string[], digest?: string) => log.find({ keys, ...(digest === undefined ? {} : { digest }) });
      expect(await find(["a"])).toBeUndefined();
      const under = (keys: string[], digest?: string) => newEvent("user:a", { once: { keys, digest }, createdAt: 5 });
      const { appended } = await log.append([under(["a", "b"], "one"), newEvent("user:a"), under(["c"])]);
      const [first, , third] = appended.map((it) => ({ ...it, duplicate: true }));
      for (const keys of [["a"], ["b"], ["b", "a"], ["new", "a"]]) {
        expect(await find(keys, "one")).toEqual(first!);
        expect(await find(keys)).toEqual(first!);
        expect(await find(keys, "other")).toEqual({ ...first!, conflict: true });
      }
      expect(await find(["c"], "whatever")).toEqual(third!);
      expect(await find(["a", "c"], "one")).toMatchObject({ duplicate: true, conflict: true });
      for (const keys of [[], ["new"], ["A"], ["a' OR true --"]]) expect(await find(keys, "one")).toBeUndefined();
      await storage.stop();
      await storage.start();
      expect(await find(["a"], "one")).toEqual(first!);
      expect((await log.append([under(["new"])])).appended).toMatchObject([{ seq: 4, duplicate: false }]);
      await trimAll(log, { createdBefore: 6, eventsPerTopic: 10 });
      expect(await find(["a"], "one")).toBeUndefined();
    }),
  );

  test(
    "[LOG2] of many who say two things under one key at once one thing is said, and all others are told",
    withStorage(open, async ({ log }) => {
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          log.append([newEvent("user:a", { once: { keys: ["k"], digest: index % 2 === 0 ? "even" : "odd" } })]),
        ),
      );
      const answers = results.map(({ appended }) => appended[0]!);
      const winner = answers.findIndex(({ duplicate }) => !duplicate);
      for (const [index, { conflict = false }] of answers.entries()) expect(conflict).toBe(index % 2 !== winner % 2);
      expect((await log.stats()).events).toBe(1);
    }),
  );

  test(
    "[LOG2] a key is known after a stop and a start, and after its event was compacted away",
    withStorage(open, async (storage) => {
      const { log } = storage;
      const first = await log.append([newEvent("user:a", { once: { keys: ["k"] }, compactionKey: "c" })]);
      await log.append([newEvent("user:a", { compactionKey: "c" })]);
      await storage.stop();
      await storage.start();
      const again = await log.append([newEvent("user:a", { once: { keys: ["k"] }, compactionKey: "c" })]);
      expect(again.appended).toEqual([{ ...first.appended[0]!, duplicate: true }]);
      expect((await log.stats()).events).toBe(1);
    }),
  );

  test(
    "[LOG2] a key is forgotten with the retention by age, and kept by the one by count",
    withStorage(open, async ({ log }) => {
      await log.append([
        newEvent("user:a", { once: { keys: ["old"] }, createdAt: 10 }),
        newEvent("user:a", { once: { keys: ["young"] }, createdAt: 20 }),
        newEvent("user:a", { createdAt: 20 }),
      ]);
      await trimAll(log, { createdBefore: 15, eventsPerTopic: 1 });
      const { appended } = await log.append([
        newEvent("user:a", { once: { keys: ["old"] }, createdAt: 30 }),
        newEvent("user:a", { once: { keys: ["young"] }, createdAt: 30 }),
      ]);
      expect(appended.map(({ seq, duplicate }) => [seq, duplicate])).toEqual([
        [4, false],
        [2, true],
      ]);
    }),
  );
}
