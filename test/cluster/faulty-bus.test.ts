/** Two nodes on one log whose bus loses, doubles and reorders messages, and goes away altogether [LOG3] [LOG4]. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Publisher } from "../../src/broadcast/publisher.ts";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import type { Cluster, TopicMessage } from "../../src/cluster/ports.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { createRandom } from "../support/checker/random.ts";
import { startNodes } from "../support/cluster.ts";
import { newEvent } from "../support/new-event.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

const topics = ["conversation:c1", "conversation:c2", "user:ann"];
const logger = pino({ level: "silent" });

let redis: RedisServer;
let storage: Storage;
let folder: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "ws-faulty-bus-"));
  storage = createSqliteStorage({ path: join(folder, "log.db") });
  [redis] = await Promise.all([startRedis(), storage.start()]);
});
afterEach(async () => {
  await Promise.all([storage.stop(), redis.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

/** Seen by a connection on all topics: events in their order, and the cursors it could have been given in between. */
type Step = { topic: string; seq: number; position: number } | { cursor: number };

/** A node as far as logged events go; what it hears passes through `deliver`. */
async function createNode(cluster: Cluster, deliver: (accept: () => void) => void) {
  const steps: Step[] = [];
  let changed = () => {};
  const sequencer = new Sequencer({
    log: storage.log,
    publish: ({ topic, seq, position }) => {
      steps.push({ topic, seq, position }, { cursor: sequencer.safePosition });
      changed();
    },
    hasSubscribers: () => true,
    logger,
    repairIntervalMs: 200,
  });
  const publisher = new Publisher({ log: storage.log, sequencer, bus: cluster.bus, logger, waitingMax: 100_000 });
  cluster.bus.onTopicMessage((message: TopicMessage) =>
    deliver(() => {
      if (message.kind === "logged") sequencer.accept(message.event);
      steps.push({ cursor: sequencer.safePosition });
    }),
  );
  cluster.bus.onGap(() => void sequencer.repair());
  await sequencer.start();
  for (const topic of topics) {
    sequencer.hold(topic);
    sequencer.observe(topic, 0);
  }
  await Promise.all(topics.map((topic) => cluster.bus.watch(topic)));
  const events = () => steps.filter((step) => "seq" in step);
  return {
    steps,
    stop: () => sequencer.stop(),
    publish: (topic: string) => publisher.appendAll([newEvent(topic)]),
    /** Resolves once so many events were published here. */
    reached: (count: number) =>
      new Promise<void>((resolve) => {
        changed = () => {
          if (events().length >= count) resolve();
        };
        changed();
      }),
  };
}

function expectOrderAndHonestCursors(steps: Step[]): void {
  const heads = new Map<string, number>();
  const positions: number[] = [];
  for (const step of steps) {
    if ("cursor" in step) continue;
    expect(step.seq).toBe((heads.get(step.topic) ?? 0) + 1);
    heads.set(step.topic, step.seq);
    positions.push(step.position);
  }
  // At each moment: whatever a cursor speaks for had been published by then.
  const sorted = positions.toSorted((one, other) => one - other);
  const seen = new Set<number>();
  let complete = 0;
  for (const step of steps) {
    if ("position" in step) seen.add(step.position);
    while (complete < sorted.length && seen.has(sorted[complete]!)) complete++;
    if ("cursor" in step && complete < sorted.length) expect(step.cursor).toBeLessThan(sorted[complete]!);
  }
}

/** Loses, doubles and holds back messages; those held back come later, in any order. */
function createFaults(random: () => number) {
  const heldBack: (() => void)[] = [];
  return (accept: () => void) => {
    const chance = random();
    if (chance < 0.2) return;
    if (chance < 0.5) heldBack.push(accept);
    else accept();
    if (chance > 0.85) accept();
    while (heldBack.length > 0 && random() < 0.4) heldBack.splice(Math.floor(random() * heldBack.length), 1)[0]!();
  };
}

for (const seed of [1, 2, Math.floor(Math.random() * 1e9)]) {
  test(`[LOG3] [LOG4] messages lost, doubled and reordered on the bus change nothing (seed ${seed})`, async () => {
    const random = createRandom(seed).next;
    const { nodes: clusters, close } = await startNodes(redis.url, ["n1", "n2"]);
    const nodes = await Promise.all(clusters.map((cluster) => createNode(cluster, createFaults(random))));
    const count = 600;
    const published: Promise<unknown>[] = [];
    for (let at = 0; at < count; at++) {
      published.push(nodes[at % 2]!.publish(topics[Math.floor(random() * topics.length)]!));
      // Several batches, so that the two nodes' events interleave.
      if (at % 20 === 19) await published.at(-1);
    }
    await Promise.all(published);
    await Promise.all(nodes.map((node) => node.reached(count)));
    for (const node of nodes) {
      node.stop();
      expectOrderAndHonestCursors(node.steps);
    }
    await close();
  }, 60_000);
}

test("[LOG3] [LOG4] with the bus away events go on through the log, and over the bus once it is back", async () => {
  const { nodes: clusters, close } = await startNodes(redis.url, ["n1", "n2"], { heartbeatMs: 200 });
  const nodes = await Promise.all(clusters.map((cluster) => createNode(cluster, (accept) => accept())));
  const publishSome = async (count: number) => {
    for (let at = 0; at < count; at++) await nodes[at % 2]!.publish(topics[at % topics.length]!);
  };
  await publishSome(30);
  await redis.kill();
  await publishSome(60);
  await Promise.all(nodes.map((node) => node.reached(90)));
  const back = Promise.all(
    clusters.map((cluster) => new Promise<void>((resolve) => cluster.bus.onGap(() => resolve()))),
  );
  await redis.restart();
  await back;
  await publishSome(30);
  await Promise.all(nodes.map((node) => node.reached(120)));
  for (const node of nodes) {
    node.stop();
    expectOrderAndHonestCursors(node.steps);
  }
  await close();
}, 60_000);
