/** Proves that events which are given together are appended together, whatever else waits for the log. */
import { expect, test } from "bun:test";
import { Publisher } from "../../src/broadcast/publisher.ts";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import { createLocalBus } from "../../src/cluster/local/bus.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { NewEvent } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { Counts } from "../../src/telemetry/counts.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { OtlpTracing } from "../../src/telemetry/otlp.ts";
import { startCollector } from "../support/collector.ts";

const event = (topic: string, n: number): NewEvent => ({
  id: `${topic}-${n}`,
  topic,
  type: "counted",
  payload: JSON.stringify({ n }),
  createdAt: 0,
});
const events = (topic: string, count: number) => Array.from({ length: count }, (_, n) => event(topic, n));

async function build() {
  const storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  const { logger } = createLogSink({ level: "silent", format: "json" });
  const batches: string[][] = [];
  let isAway = false;
  /** Lets the log answer, where the test holds it. */
  const held: (() => void)[] = [];
  let isHeld = false;
  const log: typeof storage.log = {
    ...storage.log,
    async append(batch) {
      batches.push(batch.map(({ topic }) => topic));
      if (isHeld) await new Promise<void>((resolve) => held.push(resolve));
      if (isAway) throw new Unavailable("storage", "away");
      return storage.log.append(batch);
    },
  };
  const sequencer = new Sequencer({ log, publish() {}, hasSubscribers: () => false, logger });
  const publisher = new Publisher({
    log,
    sequencer,
    bus: createLocalBus(),
    counts: new Counts(),
    logger,
    waitingMax: 2_000,
  });
  const setAway = (away: boolean) => (isAway = away);
  const hold = () => (isHeld = true);
  return { storage, publisher, batches, held, hold, setAway };
}

/** Appends the event alone, whatever its type. */
const appendOne = async (publisher: Publisher, only: NewEvent) => (await publisher.appendAll([only]))[0]!;

test("[LOG1] a group is never torn apart by the bound of a batch, and is answered in its order", async () => {
  const { storage, publisher, batches } = await build();
  const alone = events("user:alone", 450).map((it) => appendOne(publisher, it));
  const [first, second] = [publisher.appendAll(events("user:a", 300)), publisher.appendAll(events("user:b", 700))];
  expect((await first).map(({ seq }) => seq)).toEqual(Array.from({ length: 300 }, (_, n) => n + 1));
  expect((await second).map(({ id }) => id)).toEqual(events("user:b", 700).map(({ id }) => id));
  expect((await Promise.all(alone)).map(({ seq }) => seq)).toEqual(Array.from({ length: 450 }, (_, n) => n + 1));
  for (const topic of ["user:a", "user:b"]) expect(batches.filter((batch) => batch.includes(topic))).toHaveLength(1);
  await storage.stop();
});

test("[LOG1] [PUB2] while the log is away a group fails as a whole, and too many events are refused", async () => {
  const { storage, publisher, setAway } = await build();
  setAway(true);
  await expect(publisher.appendAll(events("user:a", 3))).rejects.toBeInstanceOf(Unavailable);
  const waiting = [publisher.appendAll(events("user:a", 1_999)), publisher.appendAll(events("user:b", 5))];
  expect(publisher.stats()).toEqual({ waiting: 2_004 });
  await expect(appendOne(publisher, event("user:c", 1))).rejects.toBeInstanceOf(Unavailable);
  await Promise.allSettled(waiting);
  setAway(false);
  expect(await publisher.appendAll([])).toEqual([]);
  expect((await publisher.appendAll(events("user:a", 3))).map(({ seq }) => seq)).toEqual([1, 2, 3]);
  await storage.stop();
});

test("[LOG1] large events share a batch only as far as one statement should have to carry", async () => {
  const { storage, publisher, batches } = await build();
  const payload = JSON.stringify({ text: "x".repeat(1024 * 1024) });
  const large = Array.from({ length: 20 }, (_, n) => appendOne(publisher, { ...event("user:a", n), payload }));
  const small = appendOne(publisher, event("user:a", 20));
  expect((await Promise.all(large)).map(({ seq }) => seq)).toEqual(Array.from({ length: 20 }, (_, n) => n + 1));
  expect((await small).seq).toBe(21);
  expect(batches.map((batch) => batch.length)).toEqual([7, 7, 7]);
  await storage.stop();
});

test("[PUB1] what goes to many users at once is taken for all of them or for none", async () => {
  const { storage, publisher } = await build();
  const many = (count: number) => Array.from({ length: count }, (_, n) => event(`user:u${n}`, count));
  const taken = publisher.appendEach(many(2_500));
  const refusal = await publisher.appendEach(many(2)).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(Unavailable);
  expect((await taken).map(({ topic, seq }) => [topic, seq])).toEqual(many(2_500).map(({ topic }) => [topic, 1]));
  expect((await publisher.appendEach(many(2))).map(({ seq }) => seq)).toEqual([2, 2]);
  await storage.stop();
});

test("[ENV7] [LOG1] what one caller appends without waiting is in the log in its order: no batch is begun before the last one has ended", async () => {
  const { storage, publisher, batches, held, hold, setAway } = await build();
  hold();
  const appending = events("user:a", 1_200).map((it) => appendOne(publisher, it).catch(() => null));
  const heldBatch = async () => {
    while (held.length === 0) await new Promise((resolve) => setImmediate(resolve));
    return held.shift()!;
  };
  for (const [index, count] of [500, 500, 200].entries()) {
    const release = await heldBatch();
    expect([batches.length, batches.at(-1)!.length, held.length]).toEqual([index + 1, count, 0]);
    // Nor is it any other way where one in the middle fails.
    setAway(index === 1);
    release();
  }
  const seqs = (await Promise.all(appending)).map((it) => it?.seq ?? null);
  const numbers = Array.from({ length: 700 }, (_, n) => n + 1);
  expect(seqs).toEqual([...numbers.slice(0, 500), ...Array(500).fill(null), ...numbers.slice(500)]);
  await storage.stop();
});

test("[END3] an append that has failed is a fault in its trace; of an event for many topics the first is traced alone", async () => {
  const { storage, publisher, setAway } = await build();
  const collector = startCollector();
  const { logger } = createLogSink({ level: "silent", format: "json" });
  const about = { headers: null, sampleRatio: 1, version: "1", nodeId: "n1", logger };
  const tracing = new OtlpTracing({ endpoint: collector.url, ...about });
  const begin = () => tracing.beginRequest("publish", { traceparent: undefined, connectionId: "k1" })!;
  const spans = [begin(), begin()] as const;
  const topics = ["user:a", "user:b", "user:c"];
  setAway(true);
  await expect(publisher.appendAll([event("user:a", 1)], { span: spans[0] })).rejects.toBeInstanceOf(Unavailable);
  setAway(false);
  await publisher.appendEach(
    topics.map((topic) => event(topic, 2)),
    { span: spans[1] },
  );
  spans[0].end({ error: "unavailable", isFault: true });
  spans[1].end();
  await tracing.stop();
  const shown = collector.spans().map(({ name, status }) => [name, status.code]);
  // 2 is an error, and 0 says nothing.
  expect(shown.toSorted()).toEqual([
    ["append", 0],
    ["append", 2],
    ["publish", 0],
    ["publish", 0],
    ["publish", 2],
  ]);
  await collector.stop();
  await storage.stop();
});
