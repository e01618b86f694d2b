/** Proves what a repair asks of the log, and that nothing is missing or out of order however it asks [LOG3]. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import type { EventLog, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { newEvent, newEvents } from "../support/new-event.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });
let storage: Storage;
let published: Map<string, number[]>;
let asked: string[];
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  published = new Map();
  asked = [];
});
afterEach(() => storage.stop());

/** A node on which somebody hears the topics, from their start. */
function follow(topics: string[], log: Partial<EventLog> = {}) {
  const noting =
    <Query, Answer>(name: string, ask: (query: Query) => Promise<Answer>) =>
    (query: Query) => {
      asked.push(name);
      return ask(query);
    };
  const sequencer = new Sequencer({
    log: {
      ...storage.log,
      range: noting("range", storage.log.range),
      replay: noting("replay", storage.log.replay),
      ...log,
    },
    publish: ({ topic, seq }) => published.set(topic, [...(published.get(topic) ?? []), seq]),
    hasSubscribers: () => true,
    logger,
  });
  for (const topic of topics) {
    sequencer.hold(topic);
    sequencer.observe(topic, 0);
  }
  return sequencer;
}

const topics = Array.from({ length: 300 }, (_, index) => `conversation:c${index}`);

test("[LOG3] many topics that have moved are read together, in order, each whole", async () => {
  const sequencer = follow(topics);
  for (let round = 0; round < 4; round++) await storage.log.append(topics.map((topic) => newEvent(topic)));
  await sequencer.repair();
  for (const topic of topics) expect(published.get(topic)).toEqual([1, 2, 3, 4]);
  expect(sequencer.safePosition).toBe(1_200);
  expect(asked.length).toBeLessThan(10);
});

test("[LOG3] [LOG7] what was compacted meanwhile does not hold the others up", async () => {
  const sequencer = follow(topics);
  const receipt = (topic: string) => newEvent(topic, { compactionKey: "read:ben" });
  for (let round = 0; round < 3; round++) await storage.log.append(topics.map(receipt));
  await sequencer.repair();
  await storage.log.append(newEvents(topics[0]!, 1));
  await sequencer.repair();
  expect(published.get(topics[0]!)).toEqual([3, 4]);
  expect(published.get(topics[299]!)).toEqual([3]);
});

test("[LOG4] what another node says of an epoch that is not known here is not told: the log is asked at once", async () => {
  let looked = Promise.withResolvers<void>();
  const sequencer = follow([topics[0]!], {
    movedSince(position, limit) {
      looked.resolve();
      return storage.log.movedSince(position, limit);
    },
  });
  await storage.log.append(newEvents(topics[0]!, 2));
  await sequencer.repair();
  expect(sequencer.cursor).toBe(storage.log.epochs.cursorOf(2));
  const { id } = storage.log.epochs.current;
  looked = Promise.withResolvers<void>();
  // After a failover, in a log that has gone back to before the cursor.
  const ahead = { ...newEvent(topics[0]!), seq: 3, position: 1 };
  expect(sequencer.hear(ahead, { epoch: "zzzzzzzz", audience: {} })).toBe(false);
  await looked.promise;
  expect(published.get(topics[0]!)).toEqual([1, 2]);
  expect(sequencer.hear({ ...ahead, position: 3 }, { epoch: id, audience: {} })).toBe(true);
  expect(published.get(topics[0]!)).toEqual([1, 2, 3]);
});

test("[LOG3] events that come over the bus while many topics are read are neither doubled nor out of order", async () => {
  const sequencer: Sequencer = follow(topics, {
    async replay(query) {
      const page = await storage.log.replay(query);
      const { appended } = await storage.log.append(topics.map((topic) => newEvent(topic)));
      if (query.afterPosition > 0) return page;
      for (const { topic, seq } of appended) {
        const { events } = await storage.log.range({ topic, afterSeq: seq - 1, throughSeq: seq, limit: 1 });
        sequencer.accept(events[0]!, {});
      }
      return page;
    },
  });
  for (let round = 0; round < 2; round++) await storage.log.append(topics.map((topic) => newEvent(topic)));
  await sequencer.repair();
  await sequencer.repair();
  const { heads } = await storage.log.replay({ topics, afterPosition: 0, limit: 1 });
  for (const topic of topics) {
    const through = published.get(topic)!.length;
    expect(published.get(topic)).toEqual(Array.from({ length: through }, (_, index) => index + 1));
    expect(through).toBeGreaterThanOrEqual(heads.get(topic)!.seq - 2);
  }
});

test("[LOG3] a second gap that opens while the first is being closed is closed as soon, without a repair", async () => {
  const { promise: isReading, resolve: noteReading } = Promise.withResolvers<void>();
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
  const { promise: isOver, resolve: end } = Promise.withResolvers<void>();
  await storage.log.append(newEvents("user:ann", 4));
  const { events } = await storage.log.range({ topic: "user:ann", afterSeq: 0, throughSeq: 4, limit: 4 });
  const seqs: number[] = [];
  const sequencer = new Sequencer({
    log: {
      ...storage.log,
      async range(query) {
        noteReading();
        await mayAnswer;
        return storage.log.range(query);
      },
    },
    publish({ seq }) {
      seqs.push(seq);
      if (seq === 4) end();
    },
    hasSubscribers: () => true,
    logger,
    gapPatienceMs: 1,
  });
  sequencer.hold("user:ann");
  sequencer.observe("user:ann", 0);
  sequencer.accept(events[1]!);
  await isReading;
  sequencer.accept(events[3]!);
  answer();
  await isOver;
  expect(seqs).toEqual([1, 2, 3, 4]);
});

test("[LOG4] an epoch that begins lower while the log is asked takes the cursor back, though nobody knows of anything that is lost", async () => {
  const { epochs } = storage.log;
  const before = epochs.current;
  await storage.log.append(newEvents("user:a", 5));
  const sequencer = follow([], {
    async movedSince(position) {
      const isAsItWas = epochs.current !== before;
      // Another node has found the log two events shorter, and begun this epoch.
      if (!isAsItWas) epochs.replace([before, { ...before, no: before.no + 1, id: "abcdefgh", beganAt: 3 }]);
      return { heads: [], position: Math.max(position, 3), more: false, watermark: 3, end: 3 };
    },
  });
  await sequencer.start();
  expect(sequencer.safePosition).toBe(5);
  await sequencer.repair();
  expect(sequencer.safePosition).toBe(3);
  sequencer.stop();
});
