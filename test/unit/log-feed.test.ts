/** Proves on a real log what a feed does while retention, outages and other feeds have to do with the same log [BAK2]. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { OutgoingMessage } from "../../src/protocol/envelope.ts";
import type { EventLog, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { FeedPages } from "../../src/subscription/feed-pages.ts";
import { LogFeed } from "../../src/subscription/log-feed.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { newEvents } from "../support/new-event.ts";
import { createSubscriber } from "../support/subscriber.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });
let storage: Storage;
/** Lists what was read of the log, by where it began. */
let reads: number[];
/** Called before each read; what it throws is what the engine says. */
let onRead: (afterPosition: number) => void;
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  await storage.log.append(newEvents("conversation:c1", 12));
  reads = [];
  onRead = () => {};
});
afterEach(() => storage.stop());

const log: Pick<EventLog, "feed" | "watermark" | "epochs"> = {
  get epochs() {
    return storage.log.epochs;
  },
  watermark: () => storage.log.watermark(),
  async feed(query) {
    reads.push(query.afterPosition);
    onRead(query.afterPosition);
    return storage.log.feed(query);
  },
};

/** A reader in a feed with pages of four; what it waits for before it takes more is `drained`. */
async function read(feed: LogFeed, drained: (sent: number) => Promise<void> = async () => {}) {
  const sent: OutgoingMessage[] = [];
  const waiting: { events: number; resolve: () => void }[] = [];
  const subscriber = createSubscriber("robot", {
    roles: ["service"],
    sendAll(messages) {
      sent.push(...messages);
      for (const { events, resolve } of waiting) if (sent.length >= events) resolve();
    },
    drained: () => drained(sent.length),
  });
  const has = (events: number) =>
    new Promise<void>((resolve) => (sent.length >= events ? resolve() : waiting.push({ events, resolve })));
  subscriber.subscribe("log");
  const start = await feed.open({ position: 0, breaks: 0, seen: {}, isUnbroken: true });
  feed.start(subscriber, start);
  return { sent, has, start, end: () => feed.stop(subscriber), position: () => feed.positionOf(subscriber) };
}

function createFeed(told: unknown[] = [], lookIntervalMs = 60_000) {
  return new LogFeed({
    log,
    sequencer: { deletions: 0 },
    logger,
    pageSize: 4,
    lookIntervalMs,
    tell: (_, type, payload) => void told.push([type, payload]),
  });
}

const seqsOf = ({ sent }: { sent: OutgoingMessage[] }) => sent.map(({ seq }) => seq);
const upTo = (count: number) => Array.from({ length: count }, (_, n) => n + 1);

test("[BAK2] [LOG5] retention that overtakes a slow reader is no silent hole: it is told before what comes after it", async () => {
  const told: unknown[] = [];
  const reader = await read(createFeed(told), async (sent) => {
    if (sent === 4) await storage.log.trim({ createdBefore: 0, eventsPerTopic: 2, batch: 100 });
  });
  await reader.has(10);
  await storage.log.append(newEvents("conversation:c1", 1));
  // The second page was read ahead, before it was removed.
  expect(seqsOf(reader)).toEqual([...upTo(8), 11, 12]);
  expect(reader.start.recovered).toBe(true);
  const cursor = storage.log.epochs.cursorOf(8);
  expect(told).toEqual([
    ["subscribed", { topics: [{ topic: "log", recovered: false }], rejected: [], rejected_count: 0, cursor }],
  ]);
  reader.end();
});

test("[BAK2] while a client is behind, one page is read ahead and no more", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const feed = createFeed();
  const reader = await read(feed, () => promise);
  await reader.has(4);
  // Reads no further, whatever is logged meanwhile.
  feed.wake();
  await storage.log.append(newEvents("conversation:c2", 1));
  expect(reads).toEqual([0, 4]);
  expect(reader.position()).toBe(4);
  resolve();
  await reader.has(13);
  expect(reads).toEqual([0, 4, 8, 12]);
  reader.end();
});

test("[BAK2] readers at the same place share what is read, and each has all of it", async () => {
  const feed = createFeed();
  const readers = await Promise.all([1, 2, 3].map(() => read(feed)));
  await Promise.all(readers.map((reader) => reader.has(12)));
  const before = reads.length;
  expect(before).toBeLessThanOrEqual(4);
  await storage.log.append(newEvents("conversation:c2", 1));
  feed.wake();
  await Promise.all(readers.map((reader) => reader.has(13)));
  expect(reads.length).toBe(before + 1);
  for (const reader of readers) expect(reader.sent.map(({ position }) => position)).toEqual(upTo(13));
  expect(feed.stats()).toMatchObject({ feeds: 3, fed_events: 39, feed_behind: 0 });
  for (const reader of readers) reader.end();
  expect(feed.stats()).toMatchObject({ feeds: 0 });
});

test("[BAK2] while the log is away a feed waits, and goes on without a gap", async () => {
  let refusals = 0;
  onRead = (afterPosition) => {
    if (afterPosition === 8 && refusals++ === 0) throw new Unavailable("storage", "away");
  };
  const reader = await read(createFeed());
  await reader.has(12);
  expect(seqsOf(reader)).toEqual(upTo(12));
  reader.end();
});

test("[BAK2] what nobody has told this node of is found all the same", async () => {
  const reader = await read(createFeed([], 10));
  await reader.has(12);
  await storage.log.append(newEvents("user:anna", 2));
  await reader.has(14);
  reader.end();
});

test("[BAK2] [LOG4] a log that has gone back is told to its readers, which are given what is there after what still holds", async () => {
  const told: unknown[] = [];
  const reader = await read(createFeed(told));
  await reader.has(12);
  const { epochs } = storage.log;
  const broken = { ...epochs.current, id: "wentback", no: epochs.current.no + 1, beganAt: 9, broken: true };
  epochs.replace([...epochs.list, broken]);
  expect(told).toMatchObject([["subscribed", { topics: [{ topic: "log", recovered: false }], cursor: "wentback.9" }]]);
  await reader.has(15);
  expect(seqsOf(reader)).toEqual([...upTo(12), 10, 11, 12]);
  // A restart that lost nothing is not noticed.
  epochs.replace([...epochs.list, { ...broken, id: "restarts", no: broken.no + 1, beganAt: 12, broken: false }]);
  expect(told).toHaveLength(1);
  reader.end();
});

test("[BAK2] [LOG4] a log that goes back between the look at a cursor and the feed's start leaves nobody deaf", async () => {
  const feed = createFeed();
  const { epochs } = storage.log;
  const seen = { "conversation:c1": 12 };
  // One that had broken before is told of at once, and skips nothing.
  const late = await feed.open({ position: 4, breaks: epochs.breaks, seen: {}, isUnbroken: false });
  expect(late).toMatchObject({ position: 4, seen: {}, recovered: false });
  const start = await feed.open({ position: 12, breaks: epochs.breaks, seen, isUnbroken: true });
  expect(start.recovered).toBe(true);
  epochs.replace([...epochs.list, { ...epochs.current, id: "wentback", no: 99, beganAt: 9, broken: true }]);
  const sent: OutgoingMessage[] = [];
  const { promise: hasThree, resolve } = Promise.withResolvers<void>();
  const subscriber = createSubscriber("robot", {
    sendAll(messages) {
      if (sent.push(...messages) >= 3) resolve();
    },
  });
  subscriber.subscribe("log");
  feed.start(subscriber, start);
  expect(start).toMatchObject({ position: 9, recovered: false });
  await hasThree;
  expect(seqsOf({ sent })).toEqual([10, 11, 12]);
  feed.stop(subscriber);
});

test("[BAK2] who is level with the log is read for before those that catch up, however many they are", async () => {
  const first = Promise.withResolvers<void>();
  const slow = {
    feed: async (query: { afterPosition: number; limit: number }) => first.promise.then(() => log.feed(query)),
  };
  const pages = new FeedPages({ log: slow, sequencer: { deletions: 0 }, pageSize: 4 });
  const asked = [pages.read(0), pages.read(2), pages.read(4), pages.read(6), pages.read(12, { isLevel: true })];
  first.resolve();
  await Promise.all(asked);
  expect(reads).toEqual([0, 12, 2, 4, 6]);
});
