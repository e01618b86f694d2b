/** Proves that nobody is missed who becomes a member while somebody is only beginning to follow. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { OwnSent } from "../../src/broadcast/own-sent.ts";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import { createLocalCluster } from "../../src/cluster/local/cluster.ts";
import { createDirectoryView, type DirectoryView } from "../../src/directory/directory.ts";
import { createVisibleAmong } from "../../src/directory/visibility.ts";
import { FairQueue } from "../../src/storage/fair-queue.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { createSubscriptions } from "../../src/subscription/subscriptions.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { createSubscriber } from "../support/subscriber.ts";

let storage: Storage;
let view: DirectoryView;
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  const { directory } = storage;
  view = createDirectoryView({
    directory,
    mode: "managed",
    cacheTtlMs: 1_000,
    cacheSize: 100,
    receiptsMembersMax: 100,
    now: Date.now,
  });
  await storage.directory.addMembers("c1", ["ben"]);
});
afterEach(async () => {
  view.stop();
  await storage.stop();
});

const added = { kind: "member_added", conversationId: "c1", userId: "anna" } as const;

/** Subscribes while `anna` becomes a member after the directory's answer and before anything is made of it. */
async function subscribeWhileAnnaJoins(topic: "presence" | "conversation", who: "anna" | "ben") {
  const subscriber = createSubscriber(who);
  let changed: Promise<void> = Promise.resolve();
  const afterwards = async <Answer>(answer: Answer): Promise<Answer> => {
    await storage.directory.addMembers("c1", ["anna"]);
    // Not waited for: it may itself wait for the subscription that is under way.
    changed = membership.apply(added);
    return answer;
  };
  const { logger } = createLogSink({ level: "silent", format: "json" });
  const { subscriptions, membership } = createSubscriptions({
    log: storage.log,
    cursors: storage.cursors,
    sequencer: new Sequencer({ log: storage.log, publish() {}, hasSubscribers: () => true, logger }),
    ownSent: new OwnSent(storage.log.epochs),
    bus: createLocalCluster({ now: Date.now }).bus,
    directory: {
      ...view,
      peersOf: async (userId, limit) => afterwards(await view.peersOf(userId, limit)),
      conversationsOf: async (userId) => afterwards(await view.conversationsOf(userId)),
    },
    visibleAmong: createVisibleAmong({ directory: view, policy: "shared_conversation" }),
    snapshots: async () => new Map(),
    onSubscribed() {},
    onLeft() {},
    subscribersOf: (userId) => (userId === who ? [subscriber] : []),
    allSubscribers: () => [subscriber],
    tell() {},
    logger,
    topicsMax: 100,
    questions: new FairQueue({ perUser: 2 }),
    watchMax: 1_000,
  });
  await subscriptions.subscribe(subscriber, { topics: [topic] });
  await changed;
  return subscriber.topics();
}

test("[SUB3] [PRE5] who joins while presence is being subscribed to is followed too", async () => {
  expect(await subscribeWhileAnnaJoins("presence", "ben")).toEqual(["presence:anna"]);
});

test("[SUB3] a conversation that is joined while all of mine is being subscribed to is followed too", async () => {
  expect(await subscribeWhileAnnaJoins("conversation", "anna")).toEqual(["conversation:c1"]);
});
