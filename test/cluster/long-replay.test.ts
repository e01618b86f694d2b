/** Proves that a connection hears the other nodes after a replay that took longer than the bus keeps unwanted topics. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { OwnSent } from "../../src/broadcast/own-sent.ts";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import type { TopicMessage } from "../../src/cluster/ports.ts";
import { createDirectoryView } from "../../src/directory/directory.ts";
import { createVisibleAmong } from "../../src/directory/visibility.ts";
import { FairQueue } from "../../src/storage/fair-queue.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { createSubscriptions } from "../../src/subscription/subscriptions.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { startNodes } from "../support/cluster.ts";
import { newEvents } from "../support/new-event.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { createSubscriber } from "../support/subscriber.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });
let redis: RedisServer;
let storage: Storage;
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  [redis] = await Promise.all([startRedis(), storage.start()]);
});
afterEach(async () => {
  await Promise.all([storage.stop(), redis.stop()]);
});

test("[LOG3] [LOG5] what other nodes say comes over the bus, however long the replay took", async () => {
  const { nodes, close } = await startNodes(redis.url, ["one", "other"]);
  const [one, other] = [nodes[0]!.bus, nodes[1]!.bus];
  const { directory } = storage;
  const view = createDirectoryView({
    directory,
    mode: "open",
    cacheTtlMs: 0,
    cacheSize: 0,
    receiptsMembersMax: 100,
    now: Date.now,
  });
  const { subscriptions } = createSubscriptions({
    log: storage.log,
    cursors: storage.cursors,
    sequencer: new Sequencer({ log: storage.log, publish() {}, hasSubscribers: () => false, logger }),
    ownSent: new OwnSent(storage.log.epochs),
    bus: one,
    directory: view,
    visibleAmong: createVisibleAmong({ directory: view, policy: "everyone" }),
    snapshots: async () => new Map(),
    onSubscribed() {},
    onLeft() {},
    subscribersOf: () => [],
    allSubscribers: () => [],
    tell() {},
    logger,
    topicsMax: 100,
    questions: new FairQueue({ perUser: 2 }),
    watchMax: 1_000,
  });
  await storage.log.append([...newEvents("user:anna", 3), ...newEvents("notifications:anna", 3)]);
  const slow = createSubscriber("anna", {
    // Sweeps while the topic is replayed, and nobody is on it yet.
    drained: async () => {
      for (let sweeps = 0; sweeps < 2; sweeps++) one.sweep(() => false);
    },
  });
  const seen = { "notifications:anna": 3 };
  const cursor = storage.log.epochs.cursorOf(0);
  await subscriptions.subscribe(slow, { topics: ["user", "notifications"], since: { cursor, seen } });
  const own = ["user:anna", "notifications:anna"];
  expect(slow.topics()).toEqual(own);
  // A topic that is watched later is heard later.
  await one.watch("user:last");
  const heard: string[] = [];
  const { promise: isOver, resolve } = Promise.withResolvers<void>();
  one.onTopicMessage((message: TopicMessage) => {
    if (message.kind !== "ephemeral") return;
    heard.push(message.topic);
    if (message.topic === "user:last") resolve();
  });
  for (const topic of [...own, "user:last"]) {
    other.publish(topic, { kind: "ephemeral", topic, id: topic, type: "said", payload: "{}", at: 0 });
  }
  await isOver;
  expect(heard).toEqual([...own, "user:last"]);
  view.stop();
  await close();
});
