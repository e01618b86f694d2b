/** Proves what every event log must do, whatever it is stored in [LOG1–LOG8]. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { describeIdempotency } from "./event-log-keys.ts";
import { logCommand, ModelLog } from "./event-log-model.ts";
import { describeReading, describeReplay, expectGrowing } from "./event-log-reading.ts";
import { type Open, withStorage } from "./opened.ts";
import { trimAll } from "./trim-all.ts";

const nothingTrimmed = { createdBefore: 0, eventsPerTopic: 1_000_000 };

export function describeEventLogContract(name: string, open: Open): void {
  describe(`event log contract: ${name}`, () => {
    describeAppend(open);
    describeIdempotency(open);
    describeReading(open);
    describeReplay(open);
    describeRetention(open);
    describeModel(open);
  });
}

function describeAppend(open: Open): void {
  test(
    "[LOG1] an empty log ends at 0 and an empty batch appends nothing",
    withStorage(open, async ({ log }) => {
      expect(await log.watermark()).toBe(0);
      expect(await log.append([])).toEqual({ previousPosition: 0, appended: [] });
      expect(await log.stats()).toEqual({ events: 0, topics: 0, position: 0 });
      expect(await log.heads(["user:a"])).toEqual(new Map([["user:a", { seq: 0, position: 0, trimmedPosition: 0 }]]));
    }),
  );

  test(
    "[LOG1] seq counts within the topic in the order given, position grows over all topics",
    withStorage(open, async ({ log }) => {
      const events = [newEvent("user:a"), newEvent("user:b"), newEvent("user:a")];
      const { previousPosition, appended } = await log.append(events);
      expect(previousPosition).toBe(0);
      expect(appended.map(({ topic, seq, id }) => [topic, seq, id])).toEqual([
        ["user:a", 1, events[0]!.id],
        ["user:b", 1, events[1]!.id],
        ["user:a", 2, events[2]!.id],
      ]);
      expectGrowing(appended.map(({ position }) => position));
      const next = await log.append([newEvent("user:a")]);
      expect(next.previousPosition).toBe(appended[2]!.position);
      expect(next.appended[0]).toMatchObject({ seq: 3, duplicate: false });
      expect(await log.watermark()).toBe(next.appended[0]!.position);
      expect(await log.stats()).toEqual({ events: 4, topics: 2, position: next.appended[0]!.position });
    }),
  );

  test(
    "[LOG1] what is read back is what was appended",
    withStorage(open, async ({ log }) => {
      const payload = JSON.stringify({ text: "naïve 🙂 \u0000 \u2028 'quoted' \\", deep: { list: [1, null, true] } });
      const event = newEvent("conversation:c!~", { payload, type: "order.shipped", createdAt: 1_760_000_000_123 });
      const { appended } = await log.append([event]);
      const [read] = (await log.range({ topic: event.topic, afterSeq: 0, throughSeq: 1, limit: 10 })).events;
      expect(JSON.parse(read!.payload)).toEqual(JSON.parse(payload));
      expect({ ...read!, payload: "" }).toEqual({
        topic: event.topic,
        seq: 1,
        position: appended[0]!.position,
        id: event.id,
        type: "order.shipped",
        payload: "",
        createdAt: 1_760_000_000_123,
      });
    }),
  );

  test(
    "[LOG1] a batch with a fault in it is refused as a whole, and the others are appended",
    withStorage(open, async ({ log }) => {
      const missing = { ...newEvent("user:a"), payload: null as unknown as string };
      // Of appends that are under way at once any may be the first.
      const [good] = await Promise.allSettled([log.append([newEvent("user:a")])]);
      const [bad, later] = await Promise.allSettled([
        log.append([newEvent("user:a"), missing]),
        log.append([newEvent("user:a")]),
      ]);
      expect(good.status).toBe("fulfilled");
      expect(bad.status === "rejected" && bad.reason).not.toBeInstanceOf(Unavailable);
      expect(later.status === "fulfilled" && later.value.appended[0]).toMatchObject({ seq: 2 });
    }),
  );

  test(
    "[LOG1] concurrent appends leave no hole in any seq, and batches do not interleave",
    withStorage(open, async ({ log }) => {
      const topics = ["conversation:a", "conversation:b", "user:a"];
      const batches = Array.from({ length: 60 }, (_, index) =>
        Array.from({ length: 1 + (index % 5) }, (_, part) => newEvent(topics[(index + part) % 3]!)),
      );
      const results = await Promise.all(batches.map((batch) => log.append(batch)));
      for (const [index, { appended }] of results.entries()) {
        expect(appended.map(({ id }) => id)).toEqual(batches[index]!.map(({ id }) => id));
      }
      const inOrder = results.toSorted((a, b) => a.appended[0]!.position - b.appended[0]!.position);
      let end = 0;
      for (const { previousPosition, appended } of inOrder) {
        expect(previousPosition).toBe(end);
        expectGrowing([end, ...appended.map(({ position }) => position)]);
        end = appended.at(-1)!.position;
      }
      for (const topic of topics) {
        const ofTopic = inOrder.flatMap(({ appended }) => appended.filter((it) => it.topic === topic));
        expect(ofTopic.map(({ seq }) => seq)).toEqual(ofTopic.map((_, index) => index + 1));
      }
    }),
  );

  test(
    "[LOG1] what was appended is there after a stop and a start, and numbers go on",
    withStorage(open, async (storage) => {
      const { appended } = await storage.log.append(newEvents("user:a", 3));
      await storage.stop();
      await storage.start();
      const next = await storage.log.append([newEvent("user:a")]);
      expect(next.previousPosition).toBe(appended[2]!.position);
      expect(next.appended[0]!.seq).toBe(4);
      expect((await storage.log.range({ topic: "user:a", afterSeq: 0, throughSeq: 9, limit: 9 })).events).toHaveLength(
        4,
      );
    }),
  );

  test(
    "[LOG7] only the newest event of a topic and compaction key is kept, and that is not trimming",
    withStorage(open, async ({ log }) => {
      const compactionKey = "read:u1";
      const first = await log.append([newEvent("conversation:a", { compactionKey }), newEvent("conversation:a")]);
      const other = await log.append([newEvent("conversation:b", { compactionKey })]);
      const twice = await log.append([
        newEvent("conversation:a", { compactionKey }),
        newEvent("conversation:a", { compactionKey }),
      ]);
      const { events: kept } = await log.range({ topic: "conversation:a", afterSeq: 0, throughSeq: 9, limit: 9 });
      expect(kept.map(({ seq }) => seq)).toEqual([2, 4]);
      const position = twice.appended[1]!.position;
      expect(await log.heads(["conversation:a", "conversation:b"])).toEqual(
        new Map([
          ["conversation:a", { seq: 4, position, trimmedPosition: 0 }],
          ["conversation:b", { seq: 1, position: other.appended[0]!.position, trimmedPosition: 0 }],
        ]),
      );
      expect(await log.stats()).toEqual({ events: 3, topics: 2, position });
      const page = await log.replay({ topics: ["conversation:a"], afterPosition: 0, limit: 10 });
      expect(page.events.map(({ position }) => position)).toEqual([first.appended[1]!.position, position]);
    }),
  );
}

function describeRetention(open: Open): void {
  test(
    "[LOG5] [LOG7] trimming by age and by count is told by the head, and seq goes on when nothing is left",
    withStorage(open, async ({ log }) => {
      const old = await log.append(newEvents("user:a", 4, { createdAt: 10 }));
      await log.append(newEvents("user:b", 4, { createdAt: 20 }));
      expect((await trimAll(log, { createdBefore: 20, eventsPerTopic: 3 })).removed).toBe(5);
      const heads = await log.heads(["user:a", "user:b"]);
      const gone = old.appended[3]!.position;
      expect(heads.get("user:a")).toEqual({ seq: 4, position: gone, trimmedPosition: gone });
      const { events: left } = await log.range({ topic: "user:b", afterSeq: 0, throughSeq: 9, limit: 9 });
      expect(left.map(({ seq }) => seq)).toEqual([2, 3, 4]);
      expect(heads.get("user:b")!.trimmedPosition).toBe(left[0]!.position - 1);
      expect((await log.stats()).events).toBe(3);

      const end = await log.watermark();
      await trimAll(log, { createdBefore: 1_000, eventsPerTopic: 3 });
      expect(await log.watermark()).toBe(end);
      const next = await log.append([newEvent("user:b"), newEvent("user:a")]);
      expect(next.previousPosition).toBe(end);
      expect(next.appended.map(({ seq }) => seq)).toEqual([5, 5]);
      expect(next.appended[0]!.position).toBeGreaterThan(end);
    }),
  );

  test(
    "[LOG7] a trim removes at most its batch and says that there is more",
    withStorage(open, async ({ log }) => {
      await log.append(newEvents("user:a", 25, { createdAt: 10 }));
      await log.append(newEvents("user:b", 25, { createdAt: 30 }));
      const first = await log.trim({ createdBefore: 20, eventsPerTopic: 5, batch: 10 });
      expect(first).toEqual({ removed: 10, more: true });
      expect((await log.stats()).events).toBe(40);
      expect((await trimAll(log, { createdBefore: 20, eventsPerTopic: 5, batch: 10 })).removed).toBe(35);
      const left = await log.page({ topic: "user:b", limit: 50 });
      expect(left.events.map(({ seq }) => seq)).toEqual([21, 22, 23, 24, 25]);
      expect(await log.trim({ ...nothingTrimmed, batch: 10 })).toEqual({ removed: 0, more: false });
    }),
  );

  test(
    "[LOG7] what a fast clock has written keeps nothing behind it that is old",
    withStorage(open, async ({ log }) => {
      const ahead = Date.now() + 3_600_000;
      await log.append(newEvents("user:a", 60, { createdAt: ahead }));
      await log.append(newEvents("user:b", 5, { createdAt: 10 }));
      await log.append([newEvent("user:b", { createdAt: 10, once: { keys: ["k"] } })]);
      expect((await trimAll(log, { createdBefore: 20, eventsPerTopic: 100 })).removed).toBe(6);
      expect(await log.find({ keys: ["k"] })).toBeUndefined();
      expect((await log.stats()).events).toBe(60);
    }),
  );

  test(
    "[LOG7] a topic that has grown since the last trim is trimmed again, and so are all where less is to be kept",
    withStorage(open, async ({ log }) => {
      const trim = (eventsPerTopic: number) => trimAll(log, { createdBefore: 0, eventsPerTopic, batch: 4 });
      for (const topic of ["user:a", "user:b", "user:c"]) await log.append(newEvents(topic, 6));
      expect((await trim(5)).removed).toBe(3);
      expect((await trim(5)).removed).toBe(0);
      await log.append(newEvents("user:b", 2));
      expect((await trim(5)).removed).toBe(2);
      expect((await trim(2)).removed).toBe(9);
    }),
  );
}

function describeModel(open: Open): void {
  // A failure prints the seed and the path; TEST_SEED runs the same again.
  const seed = Number(Bun.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  test("[LOG1] [LOG2] [LOG4] [LOG7] [LOG8] any sequence of calls reads as the model does", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(logCommand, { minLength: 1, maxLength: 25 }), async (commands) => {
        const { storage, close } = await open();
        try {
          const model = new ModelLog();
          for (const command of commands) await command.run(storage.log, model);
        } finally {
          await close();
        }
      }),
      { seed, numRuns: 25 },
    );
  });
}
