/** Proves what every storage must do where a conversation keeps its events for less than the log [LOG9]. */
import { describe, expect, test } from "bun:test";
import { youngPassedMax } from "../../src/storage/conversation-store.ts";
import type { EventLog, Storage } from "../../src/storage/ports.ts";
import { markOne } from "../support/marks.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { type Open, withStorage } from "./opened.ts";

const minute = 60_000;
/** When it is looked at what conversations keep. */
const now = 100 * minute;
const from = (sender: string, createdAt: number) => ({ senderId: sender, createdAt });

/** Looks at all that conversations keep; @returns how many events went. */
async function expireAll({ conversations }: Storage, at = now): Promise<number> {
  let removed = 0;
  let after: string | null = null;
  do {
    const page = await conversations.expire({ after, now: at, everyMs: 0 });
    if (page === null) throw new Error("it was not time for a round");
    removed += page.removed;
    after = page.next;
  } while (after !== null);
  return removed;
}

const seqsOf = async (log: EventLog, topic: string) =>
  (await log.page({ topic, limit: 1_000 })).events.map(({ seq }) => seq);

export function describeConversationsContract(name: string, open: Open): void {
  describe(`conversations contract: ${name}`, () => {
    describeExpiry(open);
    describeWhatStays(open);
    describeRounds(open);
  });
}

function describeExpiry(open: Open): void {
  test(
    "[LOG9] what is older than a conversation keeps goes, of this conversation alone",
    withStorage(open, async (storage) => {
      const { log, conversations } = storage;
      for (const topic of ["conversation:short", "conversation:long"]) {
        await log.append(newEvents(topic, 2, from("ann", now - 3 * minute)));
        await log.append([newEvent(topic, from("ann", now - minute))]);
      }
      await conversations.setRetention("short", 2 * minute);
      await conversations.setRetention("never used", 2 * minute);
      expect(await expireAll(storage)).toBe(2);
      expect(await seqsOf(log, "conversation:short")).toEqual([3]);
      expect(await seqsOf(log, "conversation:long")).toEqual([1, 2, 3]);
      await conversations.setRetention("short", minute);
      expect(await expireAll(storage, now + 1)).toBe(1);
      expect(await seqsOf(log, "conversation:short")).toEqual([]);
      await conversations.setRetention("long", minute);
      await conversations.setRetention("long", null);
      expect(await expireAll(storage, now + 10 * minute)).toBe(0);
      expect((await log.stats()).events).toBe(3);
    }),
  );

  test(
    "[LOG9] a moment that is wrong in one event holds up nothing, and more than a page goes",
    withStorage(open, async (storage) => {
      const { log, conversations } = storage;
      const topic = "conversation:c1";
      await log.append([newEvent(topic, from("ann", now + 1_000 * minute))]);
      for (let batch = 0; batch < 5; batch++) await log.append(newEvents(topic, 500, from("ann", now - 5 * minute)));
      await conversations.setRetention("c1", 2 * minute);
      expect(await expireAll(storage)).toBe(2_500);
      expect(await seqsOf(log, topic)).toEqual([1]);
      expect((await log.heads([topic])).get(topic)!.seq).toBe(2_501);
    }),
  );

  test(
    "[LOG9] it is looked past some young events, however many were written by a clock that is fast, and no further",
    withStorage(open, async (storage) => {
      const { log, conversations } = storage;
      const topic = "conversation:c1";
      const [old, young, ahead] = [5 * minute, 0, -10 * minute].map((age) => from("ann", now - age));
      const ages = [old, ...Array(youngPassedMax - 1).fill(young), old, ...Array(99).fill(ahead), old, young, old];
      await log.append(ages.map((age) => newEvent(topic, age)));
      await conversations.setRetention("c1", 2 * minute);
      expect(await expireAll(storage)).toBe(3);
      expect(await seqsOf(log, topic)).toContain(ages.length);
      // Once the young ones before it are old themselves.
      expect(await expireAll(storage, now + 3 * minute)).toBe(ages.length - 3 - 99);
    }),
  );

  test(
    "[LOG9] many conversations are looked at page by page",
    withStorage(open, async (storage) => {
      const names = Array.from({ length: 1_201 }, (_, at) => `room:${at}`);
      for (const some of [names.slice(0, 600), names.slice(600)])
        await storage.log.append(some.map((it) => newEvent(`conversation:${it}`, from("ann", now - 5 * minute))));
      for (const name of names) await storage.conversations.setRetention(name, minute);
      expect(await expireAll(storage)).toBe(names.length);
      expect((await storage.log.stats()).events).toBe(0);
    }),
  );

  test(
    "[LOG9] with a message goes the text of its last edit, and other edits stay",
    withStorage(open, async (storage) => {
      const { log, conversations } = storage;
      const topic = "conversation:c1";
      const [old, young] = [newEvent(topic, from("ann", now - 5 * minute)), newEvent(topic, from("ann", now - 1))];
      await log.append([old, young]);
      const edit = ({ id }: { id: string }) =>
        newEvent(topic, { type: "message.edited", createdAt: now - 1, compactionKey: `edit:${id}` });
      await log.append([edit(young), edit(old)]);
      await conversations.setRetention("c1", 2 * minute);
      expect(await expireAll(storage)).toBe(1);
      expect(await seqsOf(log, topic)).toEqual([2, 3]);
      const { appended } = await log.append([newEvent(topic)]);
      expect(appended[0]!.seq).toBe(5);
      expect((await log.stats()).events).toBe(3);
    }),
  );
}

function describeWhatStays(open: Open): void {
  test(
    "[LOG9] [LOG5] [LOG4] nothing looks lost: seq and position go on, nothing is trimmed, and the end of the log stays",
    withStorage(open, async (storage) => {
      const { log, conversations } = storage;
      const topic = "conversation:c1";
      const { appended } = await log.append(newEvents(topic, 3, from("ann", now - 5 * minute)));
      const last = appended.at(-1)!;
      await conversations.setRetention("c1", 2 * minute);
      expect(await expireAll(storage)).toBe(3);
      const head = { seq: 3, position: last.position, trimmedPosition: 0 };
      expect((await log.heads([topic])).get(topic)).toEqual(head);
      const replay = await log.replay({ topics: [topic], afterPosition: 0, limit: 10 });
      expect(replay).toMatchObject({ events: [], more: false, watermark: last.position });
      expect(replay.heads.get(topic)).toEqual(head);
      expect(await log.range({ topic, afterSeq: 0, throughSeq: 3, limit: 10 })).toEqual({ events: [], more: false });
      const feed = { events: [], more: false, position: last.position, end: last.position, trimmedPosition: 0 };
      expect(await log.feed({ afterPosition: 0, limit: 10 })).toEqual(feed);
      expect(await log.watermark()).toBe(last.position);
      expect(await log.movedSince(0, 10)).toMatchObject({ more: false, watermark: last.position, end: last.position });
      const epoch = log.epochs.current;
      await log.movedSince(0, 1);
      expect(log.epochs.current).toEqual(epoch);
      await storage.stop();
      await storage.start();
      expect(log.epochs.read(log.epochs.cursorOf(last.position))).toMatchObject({ holds: true });
      const [next] = (await log.append([newEvent(topic)])).appended;
      expect(next!.seq).toBe(4);
      expect(next!.position).toBeGreaterThan(last.position);
    }),
  );

  test(
    "[LOG9] [REC1] [REC3] watermarks stay, what has expired is not unread, and keys still answer as the first time",
    withStorage(open, async (storage) => {
      const { log, conversations, receipts } = storage;
      const topic = "conversation:c1";
      const first = newEvent(topic, {
        ...from("ann", now - 5 * minute),
        once: { keys: ["sent:ann:c1:1"], digest: "d" },
      });
      await log.append([first]);
      await log.append(newEvents(topic, 4, from("ann", now - 5 * minute)));
      await log.append(newEvents(topic, 2, from("ann", now - minute)));
      await markOne(receipts, { conversationId: "c1", userId: "ben", kind: "read", upToSeq: 3 });
      expect((await receipts.states("ben", ["c1"])).get("c1")).toMatchObject({ readSeq: 3, unread: 4 });
      await conversations.setRetention("c1", 2 * minute);
      await expireAll(storage);
      expect((await receipts.states("ben", ["c1"])).get("c1")).toMatchObject({
        readSeq: 3,
        deliveredSeq: 3,
        unread: 2,
      });
      expect(await markOne(receipts, { conversationId: "c1", userId: "ben", kind: "read", upToSeq: 99 })).toEqual({
        upToSeq: 7,
        advanced: true,
      });
      const again = await log.append([{ ...first, id: "another" }]);
      expect(again.appended[0]).toMatchObject({ id: first.id, seq: 1, duplicate: true });
      await expireAll(storage, now + 10 * minute);
      expect((await receipts.states("ben", ["c1"])).get("c1")).toMatchObject({ readSeq: 7, unread: 0 });
      expect((await log.append(newEvents(topic, 1, from("ann", now)))).appended[0]!.seq).toBe(8);
      expect((await receipts.states("ben", ["c1"])).get("c1")).toMatchObject({ readSeq: 7, unread: 1 });
    }),
  );

  test(
    "[LOG9] [LOG7] the log's own retention goes on beside it, by age and by count",
    withStorage(open, async (storage) => {
      const { log, conversations } = storage;
      const topic = "conversation:c1";
      await log.append(newEvents(topic, 2, from("ann", now - 5 * minute)));
      await conversations.setRetention("c1", 2 * minute);
      await expireAll(storage);
      await log.append(newEvents(topic, 5, from("ann", now)));
      for (let more = true; more; ) more = (await log.trim({ createdBefore: 0, eventsPerTopic: 3, batch: 100 })).more;
      expect(await seqsOf(log, topic)).toEqual([5, 6, 7]);
      for (let more = true; more; )
        more = (await log.trim({ createdBefore: now + 1, eventsPerTopic: 3, batch: 100 })).more;
      expect((await log.heads([topic])).get(topic)).toMatchObject({ seq: 7 });
      expect((await log.heads([topic])).get(topic)!.trimmedPosition).toBeGreaterThan(0);
    }),
  );
}

function describeRounds(open: Open): void {
  test(
    "[LOG9] what is appended while it is looked at stays, and nothing is removed twice",
    withStorage(open, async (storage) => {
      const { log, conversations } = storage;
      const topics = Array.from({ length: 20 }, (_, at) => `conversation:c${at}`);
      for (const topic of topics) await conversations.setRetention(topic.slice("conversation:".length), minute);
      const appends = topics.map(async (topic) => {
        for (let batch = 0; batch < 5; batch++) await log.append([newEvent(topic, from("ann", now - 2 * minute))]);
        for (let batch = 0; batch < 5; batch++) await log.append([newEvent(topic, from("ann", now))]);
      });
      const rounds = Array.from({ length: 4 }, () => expireAll(storage).catch(() => 0));
      await Promise.all([...appends, ...rounds]);
      await expireAll(storage);
      for (const topic of topics) {
        expect(await seqsOf(log, topic)).toHaveLength(5);
        expect((await log.heads([topic])).get(topic)!.seq).toBe(10);
      }
      expect((await log.stats()).events).toBe(100);
    }),
  );
}
