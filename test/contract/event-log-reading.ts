/** The part of the event log's contract that is about reading it [LOG3] [LOG4] [LOG8]. */
import { expect, test } from "bun:test";
import { type EventLog, type EventPage, type LoggedEvent, lookedAtMax, pageBytesMax } from "../../src/storage/ports.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { type Open, withStorage } from "./opened.ts";

export function describeReading(open: Open): void {
  test(
    "[LOG3] a range holds afterSeq < seq ≤ throughSeq, oldest first, up to its limit",
    withStorage(open, async ({ log }) => {
      await log.append(newEvents("user:a", 10));
      const seqs = async (afterSeq: number, throughSeq: number, limit: number) =>
        (await log.range({ topic: "user:a", afterSeq, throughSeq, limit })).events.map(({ seq }) => seq);
      expect(await seqs(3, 6, 10)).toEqual([4, 5, 6]);
      expect(await seqs(0, 99, 2)).toEqual([1, 2]);
      expect(await seqs(10, 99, 2)).toEqual([]);
      expect(await seqs(6, 3, 10)).toEqual([]);
      expect(await log.range({ topic: "user:nobody", afterSeq: 0, throughSeq: 9, limit: 9 })).toEqual({
        events: [],
        more: false,
      });
    }),
  );

  test(
    "[LOG8] pages scroll back and forth, always oldest first, and say whether there is more",
    withStorage(open, async ({ log }) => {
      await log.append(newEvents("user:a", 10));
      const page = async (query: { beforeSeq?: number; afterSeq?: number; limit: number }) => {
        const { events, more } = await log.page({ topic: "user:a", ...query });
        return { seqs: events.map(({ seq }) => seq), more };
      };
      expect(await page({ limit: 3 })).toEqual({ seqs: [8, 9, 10], more: true });
      expect(await page({ beforeSeq: 8, limit: 3 })).toEqual({ seqs: [5, 6, 7], more: true });
      expect(await page({ beforeSeq: 4, limit: 3 })).toEqual({ seqs: [1, 2, 3], more: false });
      expect(await page({ beforeSeq: 1, limit: 3 })).toEqual({ seqs: [], more: false });
      expect(await page({ afterSeq: 0, limit: 3 })).toEqual({ seqs: [1, 2, 3], more: true });
      expect(await page({ afterSeq: 7, limit: 3 })).toEqual({ seqs: [8, 9, 10], more: false });
      expect(await page({ afterSeq: 10, limit: 3 })).toEqual({ seqs: [], more: false });
      expect(await log.page({ topic: "user:nobody", limit: 3 })).toEqual({ events: [], more: false });
    }),
  );

  test(
    "[LOG8] pages of some types pass over all others in both directions, and look at so many events at once",
    withStorage(open, async ({ log }) => {
      const of = (type: string, count = 1) => newEvents("user:a", count, { type });
      await log.append([...of("a"), ...of("b"), ...of("a"), ...of("c"), ...of("a"), ...of("b")]);
      const page = async (types: string[], query: { beforeSeq?: number; afterSeq?: number; limit: number }) => {
        const { events, more, through } = await log.pageOf({ topic: "user:a", types, ...query });
        return [events.map(({ seq }) => seq), more, through];
      };
      expect(await page(["a"], { limit: 9 })).toEqual([[1, 3, 5], false, 1]);
      expect(await page(["a"], { limit: 2 })).toEqual([[3, 5], true, 3]);
      expect(await page(["a"], { beforeSeq: 3, limit: 2 })).toEqual([[1], false, 1]);
      expect(await page(["a", "b"], { afterSeq: 2, limit: 2 })).toEqual([[3, 5], true, 5]);
      expect(await page(["a", "b"], { afterSeq: 5, limit: 2 })).toEqual([[6], false, 6]);
      expect(await page(["none", "a'; --"], { limit: 2 })).toEqual([[], false, 1]);
      expect(await page(["a"], { afterSeq: 6, limit: 2 })).toEqual([[], false, 6]);
      expect(await page(["a"], { beforeSeq: 1, limit: 2 })).toEqual([[], false, 1]);
      expect(await log.pageOf({ topic: "user:nobody", types: ["a"], limit: 3 })).toMatchObject({
        events: [],
        more: false,
      });
      // The first `a` after it is one too far to be seen at once, both ways.
      await log.append(of("b", lookedAtMax - 1));
      await log.append([...of("a"), ...of("b", lookedAtMax - 1)]);
      const last = 6 + lookedAtMax - 1 + 1 + lookedAtMax - 1;
      expect(await page(["a"], { afterSeq: 5, limit: 9 })).toEqual([[], true, 5 + lookedAtMax]);
      expect(await page(["a"], { afterSeq: 5 + lookedAtMax, limit: 9 })).toEqual([[6 + lookedAtMax], true, last]);
      expect(await page(["c"], { limit: 9 })).toEqual([[], true, last - lookedAtMax + 1]);
      expect(await page(["c"], { beforeSeq: 5 + lookedAtMax, limit: 9 })).toEqual([[], true, 5]);
      expect(await page(["c"], { beforeSeq: 5, limit: 9 })).toEqual([[4], false, 1]);
    }),
  );

  test(
    "[LOG8] a page of some types ends after some bytes, and has one event at least",
    withStorage(open, async ({ log }) => {
      const large = (type: string) => newEvent("user:a", { type, payload: JSON.stringify({ text: "é".repeat(500) }) });
      await log.append([large("a"), large("b"), large("a"), large("a")]);
      const page = async (query: { beforeSeq?: number; afterSeq?: number; bytesMax: number }) => {
        const { events, more, through } = await log.pageOf({ topic: "user:a", types: ["a"], ...query, limit: 9 });
        return [events.map(({ seq }) => seq), more, through];
      };
      expect(await page({ bytesMax: 10 })).toEqual([[4], true, 4]);
      expect(await page({ bytesMax: 1_500 })).toEqual([[3, 4], true, 3]);
      expect(await page({ afterSeq: 0, bytesMax: 10 })).toEqual([[1], true, 1]);
      expect(await page({ afterSeq: 1, bytesMax: 5_000 })).toEqual([[3, 4], false, 4]);
    }),
  );

  test(
    "[LOG5] [LOG8] however large events are, a page of them ends after some bytes, says so, and has one at least",
    withStorage(open, async ({ log }) => {
      // In letters of two bytes each: it is bytes that count.
      const large = (bytes: number) => ({ payload: JSON.stringify({ text: "é".repeat(bytes / 2) }) });
      const [half, most] = [large(pageBytesMax / 2), large(pageBytesMax)];
      for (const rest of [half, half, half, most, half]) await log.append([newEvent("user:a", rest)]);
      await log.append([newEvent("user:b", half)]);
      const seqs = ({ events, more }: EventPage) => [events.map(({ seq }) => seq), more];
      const range = (afterSeq: number, throughSeq: number) =>
        log.range({ topic: "user:a", afterSeq, throughSeq, limit: 9 });
      expect(seqs(await range(0, 5))).toEqual([[1, 2], true]);
      expect(seqs(await range(2, 5))).toEqual([[3, 4], true]);
      expect(seqs(await range(3, 4))).toEqual([[4], false]);
      expect(seqs(await range(4, 5))).toEqual([[5], false]);
      const page = (query: { beforeSeq?: number; afterSeq?: number }) =>
        log.page({ topic: "user:a", ...query, limit: 9 });
      expect(seqs(await page({}))).toEqual([[4, 5], true]);
      expect(seqs(await page({ beforeSeq: 4 }))).toEqual([[2, 3], true]);
      expect(seqs(await page({ beforeSeq: 2 }))).toEqual([[1], false]);
      expect(seqs(await page({ afterSeq: 3 }))).toEqual([[4], true]);
      // A reader that can use less is given less.
      const few = { topic: "user:a", limit: 9, bytesMax: pageBytesMax / 4 };
      expect(seqs(await log.page(few))).toEqual([[5], true]);
      expect(seqs(await log.page({ ...few, afterSeq: 0 }))).toEqual([[1], true]);

      const replayed: number[] = [];
      const sizes: number[] = [];
      for (let from = 0, more = true; more; ) {
        const read = await log.replay({ topics: ["user:a", "user:b"], afterPosition: from, limit: 9 });
        expect([...read.heads].map(([topic, { seq }]) => [topic, seq])).toEqual([
          ["user:a", 5],
          ["user:b", 1],
        ]);
        sizes.push(read.events.length);
        replayed.push(...read.events.map(({ position }) => position));
        ({ more } = read);
        from = replayed.at(-1)!;
      }
      expect([replayed, sizes]).toEqual([
        [1, 2, 3, 4, 5, 6],
        [2, 2, 2],
      ]);
    }),
  );

  test(
    "[BAK2] the feed has every event of every topic in order of position, in pages that go on where one ends",
    withStorage(open, async ({ log }) => {
      expect(await log.feed({ afterPosition: 0, limit: 5 })).toEqual({
        end: 0,
        events: [],
        more: false,
        position: 0,
        trimmedPosition: 0,
      });
      const topics = ["user:a", "conversation:b", "notifications:c"];
      const given = Array.from({ length: 20 }, (_, index) => newEvent(topics[index % 3]!));
      // An event that is compacted away leaves a hole, and one that was the newest too.
      const compacted = newEvent("user:a", { compactionKey: "k" });
      const { appended } = await log.append([...given, compacted, newEvent("user:a", { compactionKey: "k" })]);
      const kept = appended.filter(({ id }) => id !== compacted.id);
      const end = await log.watermark();
      const found: LoggedEvent[] = [];
      for (let from = 0, more = true; more; ) {
        const page = await log.feed({ afterPosition: from, limit: 4 });
        expect(page.events.length).toBeLessThanOrEqual(4);
        expect(page.position).toBe(page.more ? page.events.at(-1)!.position : end);
        found.push(...page.events);
        ({ more, position: from } = page);
      }
      expect(found.map(({ topic, seq, position, id }) => ({ topic, seq, position, id }))).toEqual(
        kept.map(({ topic, seq, position, id }) => ({ topic, seq, position, id })),
      );
      const [first] = (await log.page({ topic: "user:a", afterSeq: 0, limit: 1 })).events;
      expect(found[0]).toEqual(first!);
      expectGrowing(found.map(({ position }) => position));
      expect(await log.feed({ afterPosition: end, limit: 4 })).toMatchObject({
        events: [],
        more: false,
        position: end,
      });
      // Somebody who stands beyond the end is of another log.
      expect(await log.feed({ afterPosition: end + 10, limit: 4 })).toMatchObject({ events: [], position: end });
    }),
  );

  test(
    "[BAK2] [LOG5] a page of the feed ends after some bytes, and says up to where retention has removed anything",
    withStorage(open, async ({ log }) => {
      const half = { payload: JSON.stringify({ text: "é".repeat(pageBytesMax / 4) }) };
      const { appended } = await log.append([
        ...newEvents("user:a", 3, half),
        ...newEvents("user:b", 2, { createdAt: 5_000 }),
      ]);
      const [, second, third] = appended;
      const read = (afterPosition: number) => log.feed({ afterPosition, limit: 10 });
      const page = await read(0);
      expect(page).toMatchObject({ more: true, position: second!.position, trimmedPosition: 0 });
      expect(page.events).toHaveLength(2);
      expect((await read(page.position)).events).toHaveLength(3);
      await log.trim({ createdBefore: 2_000, eventsPerTopic: 100, batch: 100 });
      const rest = await read(0);
      expect(rest).toMatchObject({ more: false, trimmedPosition: third!.position });
      expect(rest.events.map(({ topic }) => topic)).toEqual(["user:b", "user:b"]);
    }),
  );

  test(
    "[LOG4] movedSince pages through all heads that moved, by position, and ends at the log's end",
    withStorage(open, async ({ log }) => {
      const topics = Array.from({ length: 25 }, (_, index) => `user:${index}`);
      await log.append(topics.map((topic) => newEvent(topic)));
      const middle = await log.watermark();
      await log.append(topics.slice(0, 10).map((topic) => newEvent(topic)));
      const end = await log.watermark();
      const cases: [since: number, topics: string[]][] = [
        // Topics that moved again come again, where an engine goes by events.
        [0, [...topics.slice(10), ...topics.slice(0, 10)]],
        [middle, topics.slice(0, 10)],
        [end, []],
      ];
      for (const [since, expected] of cases) {
        const found: string[] = [];
        let position: number = since;
        for (let pages = 0; position < end; pages++) {
          expect(pages).toBeLessThan(10);
          const moved = await log.movedSince(position, 4);
          expect(moved.heads.length).toBeLessThanOrEqual(4);
          expectGrowing([position, ...moved.heads.map((head) => head.position)]);
          found.push(...moved.heads.map(({ topic }) => topic));
          position = moved.position;
        }
        expect(found.filter((topic, at) => found.lastIndexOf(topic) === at)).toEqual(expected);
      }
      expect(await log.movedSince(end, 4)).toEqual({ heads: [], position: end, more: false, watermark: end, end });
      expect((await log.movedSince(middle, 100)).heads.every(({ seq }) => seq === 2)).toBe(true);
    }),
  );
}

export function describeReplay(open: Open): void {
  test(
    "[LOG4] a replay over 10,000 topics gives exactly what came after the cursor, oldest first",
    withStorage(open, async ({ log }) => {
      const topics = Array.from({ length: 10_000 }, (_, index) => `conversation:${index}`);
      await log.append(topics.map((topic) => newEvent(topic)));
      const cursor = await log.watermark();
      const later = Array.from({ length: 700 }, (_, index) =>
        newEvent(index % 7 === 0 ? "conversation:elsewhere" : topics[(index * 37) % 400]!),
      );
      await log.append(later);
      const { events, pages } = await replayAll(log, { topics, afterPosition: cursor, limit: 97 });
      const wanted = later.filter(({ topic }) => topic !== "conversation:elsewhere");
      expect(events.map(({ id }) => id)).toEqual(wanted.map(({ id }) => id));
      expect(pages).toBe(Math.ceil(wanted.length / 97));
      const { heads } = await log.replay({ topics, afterPosition: cursor, limit: 1 });
      expect(heads.size).toBe(10_000);
      expect(heads).toEqual(await log.heads(topics));
    }),
  );

  test(
    "[LOG4] a replay's heads are of the same moment as its events, while others append",
    withStorage(open, async ({ log }) => {
      const topics = ["user:a", "user:b"];
      const appends = Array.from({ length: 40 }, (_, index) => log.append(newEvents(topics[index % 2]!, 3)));
      const replays = Array.from({ length: 20 }, () => log.replay({ topics, afterPosition: 0, limit: 1_000 }));
      for (const { events, more, heads } of await Promise.all(replays)) {
        expect(more).toBe(false);
        for (const topic of topics) {
          const last = events.findLast((event) => event.topic === topic);
          expect(heads.get(topic)).toMatchObject({ seq: last?.seq ?? 0, position: last?.position ?? 0 });
        }
      }
      await Promise.all(appends);
    }),
  );

  test(
    "[LOG4] a replay of unknown topics is empty, and a topic named twice is replayed once",
    withStorage(open, async ({ log }) => {
      expect(await log.replay({ topics: ["user:x"], afterPosition: 0, limit: 5 })).toEqual({
        events: [],
        more: false,
        heads: new Map([["user:x", { seq: 0, position: 0, trimmedPosition: 0 }]]),
        watermark: 0,
      });
      expect((await log.replay({ topics: [], afterPosition: 0, limit: 5 })).events).toEqual([]);
      await log.append([newEvent("user:a")]);
      const page = await log.replay({ topics: ["user:a", "user:a"], afterPosition: 0, limit: 5 });
      expect(page.events).toHaveLength(1);
    }),
  );
}

async function replayAll(log: EventLog, query: { topics: string[]; afterPosition: number; limit: number }) {
  const events: LoggedEvent[] = [];
  let pages = 0;
  for (let more = true; more; pages++) {
    const page = await log.replay({ ...query, afterPosition: events.at(-1)?.position ?? query.afterPosition });
    expect(page.events.length).toBeLessThanOrEqual(query.limit);
    events.push(...page.events);
    more = page.more;
  }
  return { events, pages };
}

export function expectGrowing(positions: number[]): void {
  for (const [index, position] of positions.entries()) {
    if (index > 0) expect(position).toBeGreaterThan(positions[index - 1]!);
  }
}
