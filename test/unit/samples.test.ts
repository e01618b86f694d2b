/** Proves that a node's last hour is what has happened, bounded, and that those of nodes are joined to the cluster's [ADM1]. */
import { expect, test } from "bun:test";
import { realTimers } from "../../src/ground/timers.ts";
import { Counts, countOne } from "../../src/telemetry/counts.ts";
import { joinSamples, type Sample, Samples } from "../../src/telemetry/samples.ts";
import type { NodeStats } from "../../src/telemetry/stats.ts";

const stepMs = 10_000;
const stats = { hub: { connections: 3 }, log: { position: 20 }, sequencer: { position: 15 }, push: { told: 4 } };

function build(read: () => Promise<unknown> = async () => stats) {
  const counts = new Counts();
  const samples = new Samples({
    counts,
    stats: read as () => Promise<NodeStats>,
    stepMs,
    timers: realTimers,
    now: () => 0,
  });
  return { counts, samples };
}

test("[ADM1] a sample has what has happened since the one before, and how things stand", async () => {
  const { counts, samples } = build();
  countOne(counts.messagesIn, "ping");
  await samples.take(0);
  countOne(counts.messagesIn, "ping");
  countOne(counts.messagesIn, "message.send");
  counts.messagesOut += 7;
  countOne(counts.published, "logged");
  countOne(counts.errors, "forbidden");
  countOne(counts.refused, "401");
  counts.backpressureCloses++;
  for (const durationMs of [1, 3]) counts.appended({ events: 1, durationMs });
  for (const ms of [2, 2, 8]) counts.deliveries.note(ms);
  await samples.take(stepMs);
  await samples.take(2 * stepMs);
  const [first, second, third] = samples.since(-1);
  expect(first).toMatchObject({ at: "1970-01-01T00:00:00.000Z", messages_in: 1, connections: 3, missed: 4 });
  expect(second).toEqual({
    at: "1970-01-01T00:00:10.000Z",
    connections: 3,
    messages_in: 2,
    messages_out: 7,
    events: 1,
    appends: 2,
    append_ms: 2,
    append_ms_max: 3,
    deliveries: 3,
    delivery_ms: 4,
    delivery_ms_max: 8,
    position: 20,
    lag: 5,
    missed: 0,
    slow_clients: 1,
    refusals: { forbidden: 1, 401: 1 },
    memory_bytes: expect.any(Number),
  });
  expect(third).toMatchObject({ messages_in: 0, appends: 0, append_ms: 0, append_ms_max: 0, refusals: {} });
  expect(samples.since(0).map(({ at }) => at)).toEqual([second!.at, third!.at]);
});

test("[ADM1] what was told of as missed is counted once, and what cannot be asked stands as it stood", async () => {
  let told: number | null = 4;
  const { samples } = build(async () => {
    if (told === null) throw new Error("away");
    return { ...stats, push: { told } };
  });
  await samples.take(0);
  told = 9;
  await samples.take(stepMs);
  told = null;
  await samples.take(2 * stepMs);
  expect(samples.since(-1).map(({ missed, position, lag }) => [missed, position, lag])).toEqual([
    [4, 20, 5],
    [5, 20, 5],
    [0, 20, null],
  ]);
});

test("[ADM1] an hour is kept, and no more", async () => {
  const { samples } = build();
  for (let step = 0; step < 400; step++) await samples.take(step * stepMs);
  const kept = samples.since(-1);
  expect([kept.length, kept[0]!.at]).toEqual([360, new Date(40 * stepMs).toISOString()]);
});

test("[ADM1] samples of nodes are joined by their moments: sums, weighted means, and the worst", async () => {
  const { samples } = build();
  await samples.take(0);
  const [plain] = samples.since(-1) as [Sample];
  const one = {
    ...plain,
    messages_in: 5,
    appends: 1,
    append_ms: 10,
    append_ms_max: 10,
    lag: 1,
    refusals: { forbidden: 1 },
  };
  const other = {
    ...plain,
    messages_in: 7,
    appends: 3,
    append_ms: 2,
    append_ms_max: 4,
    lag: 6,
    refusals: { forbidden: 2, 401: 1 },
  };
  const later = { ...plain, at: new Date(stepMs).toISOString() };
  expect(joinSamples([[one], [other, later]])).toEqual([
    {
      ...plain,
      connections: 6,
      messages_in: 12,
      appends: 4,
      append_ms: 4,
      append_ms_max: 10,
      lag: 6,
      missed: 8,
      refusals: { forbidden: 3, 401: 1 },
      memory_bytes: 2 * plain.memory_bytes,
    },
    later,
  ]);
  const unknown = { ...plain, lag: null };
  const lagOf = (...all: Sample[]) => joinSamples(all.map((it) => [it]))[0]!.lag;
  expect([lagOf(unknown, other), lagOf(other, unknown), lagOf(unknown, unknown)]).toEqual([6, 6, null]);
});

test("[ADM1] each step of the clock is taken once, whenever its timer comes", async () => {
  let [now, delayMs] = [12_345, 0];
  let run = () => {};
  const timers = {
    after(ms: number, then: () => void) {
      [delayMs, run] = [ms, then];
      return () => {};
    },
  };
  const samples = new Samples({
    counts: new Counts(),
    stats: async () => stats as NodeStats,
    stepMs,
    now: () => now,
    timers,
  });
  const fire = async (at: number) => {
    now = at;
    run();
    await Bun.sleep(0);
  };
  samples.start();
  expect(delayMs).toBe(7_655);
  // On time, too soon, far too late, and after the clock was set back.
  for (const at of [20_000, 29_999, 47_000, 5_000]) await fire(at);
  expect(samples.since(-1).map(({ at }) => Date.parse(at))).toEqual([10_000, 20_000, 30_000, 40_000]);
  expect(delayMs).toBe(5_000);
});
