/** Proves that connections end as the directory ends, however closely its changes follow each other [SUB3]. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { OwnSent } from "../../src/broadcast/own-sent.ts";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import { createLocalCluster } from "../../src/cluster/local/cluster.ts";
import { createDirectoryView, type DirectoryView } from "../../src/directory/directory.ts";
import { createVisibleAmong } from "../../src/directory/visibility.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { DirectoryChange } from "../../src/storage/directory-store.ts";
import { FairQueue } from "../../src/storage/fair-queue.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import type { Subscriber } from "../../src/subscription/subscriber.ts";
import { createSubscriptions, type SubscriptionsOptions } from "../../src/subscription/subscriptions.ts";
import { WrittenPayload } from "../../src/subscription/tell.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { createSubscriber } from "../support/subscriber.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });
let storage: Storage;
let views: DirectoryView[];
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  views = [];
});
afterEach(async () => {
  for (const view of views) view.stop();
  await storage.stop();
});

function build(
  subscribers: Subscriber[],
  {
    mode = "managed",
    slowed = () => ({}),
    hasSubscribers = () => true,
    ...rest
  }: Partial<Pick<SubscriptionsOptions, "snapshots" | "tell">> & {
    mode?: "open" | "managed";
    hasSubscribers?: (topic: string) => boolean;
    /** Answers of the directory that come at the test's own time. */
    slowed?: (view: DirectoryView) => Partial<DirectoryView>;
  } = {},
) {
  const { directory } = storage;
  const view = createDirectoryView({
    directory,
    mode,
    cacheTtlMs: 0,
    cacheSize: 0,
    receiptsMembersMax: 100,
    now: Date.now,
  });
  views.push(view);
  const asked = { ...view, ...slowed(view) };
  return createSubscriptions({
    log: storage.log,
    cursors: storage.cursors,
    sequencer: new Sequencer({ log: storage.log, publish() {}, hasSubscribers, logger }),
    ownSent: new OwnSent(storage.log.epochs),
    bus: createLocalCluster({ now: Date.now }).bus,
    directory: asked,
    visibleAmong: createVisibleAmong({ directory: asked, policy: "shared_conversation" }),
    snapshots: async () => new Map(),
    onSubscribed() {},
    onLeft() {},
    subscribersOf: (userId) => subscribers.filter((it) => it.userId === userId),
    allSubscribers: () => subscribers,
    tell() {},
    logger,
    topicsMax: 100,
    questions: new FairQueue({ perUser: 2 }),
    watchMax: 1_000,
    ...rest,
  });
}

const change = (kind: "member_added" | "member_removed", userId = "anna"): DirectoryChange => ({
  kind,
  conversationId: "c1",
  userId,
});

test("[AUTH3] a refresh that takes a grant while its topic is being joined leaves the connection off it", async () => {
  const subscriber = createSubscriber("anna", { grants: ["conversation:c1"] });
  const asked = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<void>();
  const { subscriptions, membership } = build([subscriber], {
    // Allowed by the old token, live by now, and not answered yet.
    snapshots: async () => {
      asked.resolve();
      await answered.promise;
      return new Map();
    },
  });
  const subscribing = subscriptions.subscribe(subscriber, { topics: ["conversation:c1"] });
  await asked.promise;
  Object.assign(subscriber, { grants: [] });
  await membership.recheck(subscriber);
  answered.resolve();
  const { topics, rejected } = await subscribing;
  expect([topics, rejected]).toEqual([[], [{ topic: "conversation:c1", code: "forbidden" }]]);
  expect(subscriber.topics()).toEqual([]);
});

test("[SUB3] who is removed and added again at once keeps the conversation on every device", async () => {
  await storage.directory.addMembers("c1", ["anna", "ben"]);
  const devices = [createSubscriber("anna"), createSubscriber("anna")];
  let mayAnswer = Promise.resolve();
  const { subscriptions, membership } = build(devices, {
    slowed: (view) => ({ sharingWith: (...asked) => mayAnswer.then(() => view.sharingWith(...asked)) }),
  });
  for (const device of devices) {
    await subscriptions.subscribe(device, { topics: ["conversation"] });
    await subscriptions.subscribe(device, { topics: ["presence:ben"] });
  }
  const { promise, resolve: answer } = Promise.withResolvers<void>();
  mayAnswer = promise;
  // As an application does that writes all members anew in one transaction: both are in effect when the first is heard.
  const removed = membership.apply(change("member_removed"));
  await membership.apply(change("member_added"));
  answer();
  await removed;
  for (const device of devices) expect(device.topics().sort()).toEqual(["conversation:c1", "presence:ben"]);
});

test("[SUB3] in an open directory who was removed is not made a member again by the change that was told before", async () => {
  const anna = createSubscriber("anna");
  const { subscriptions, membership } = build([anna], { mode: "open" });
  await subscriptions.subscribe(anna, { topics: ["conversation"] });
  await storage.directory.addMembers("c1", ["anna"]);
  await storage.directory.removeMembers("c1", ["anna"]);
  await membership.apply(change("member_added"));
  expect(await storage.directory.membersOf("c1")).toEqual([]);
  expect(anna.topics()).toEqual([]);
});

test("[SUB3] after a gap the members who came meanwhile are followed where a conversation's presence is", async () => {
  await storage.directory.addMembers("c1", ["anna", "ben"]);
  const ben = createSubscriber("ben");
  const { subscriptions, membership } = build([ben]);
  await subscriptions.subscribe(ben, { topics: ["presence"], filters: { conversation_id: "c1" } });
  await storage.directory.addMembers("c1", ["cleo"]);
  await storage.directory.removeMembers("c1", ["anna"]);
  await membership.apply({ kind: "resync" });
  expect(ben.topics()).toEqual(["presence:cleo"]);
});

test("[SUB3] after a gap a conversation that is subscribed to while the directory answers is not taken back", async () => {
  const anna = createSubscriber("anna");
  const { promise: hasAsked, resolve: noteAsked } = Promise.withResolvers<void>();
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
  const { subscriptions, membership } = build([anna], {
    slowed: (view) => ({
      async conversationsOf(userId) {
        const conversations = await view.conversationsOf(userId);
        noteAsked();
        await mayAnswer;
        return conversations;
      },
    }),
  });
  const rechecked = membership.apply({ kind: "resync" });
  await hasAsked;
  await storage.directory.addMembers("c1", ["anna"]);
  await subscriptions.subscribe(anna, { topics: ["conversation:c1"] });
  answer();
  await rechecked;
  expect(anna.topics()).toEqual(["conversation:c1"]);
});

test("[SUB1] [SUB3] a right that is lost while the snapshot is read is not told of as subscribed afterwards", async () => {
  await storage.directory.addMembers("c1", ["anna"]);
  const anna = createSubscriber("anna");
  const told: [type: string, payload: object][] = [];
  const { subscriptions, membership } = build([anna], {
    async snapshots() {
      await storage.directory.removeMembers("c1", ["anna"]);
      await membership.apply(change("member_removed"));
      return new Map([["conversation:c1", { read_seq: 0, delivered_seq: 0, unread: 0 }]]);
    },
    tell: (_, type, payload) => void told.push([type, payload]),
  });
  expect(await subscriptions.subscribe(anna, { topics: ["conversation:c1"] })).toMatchObject({
    topics: [],
    rejected: [{ topic: "conversation:c1", code: "forbidden" }],
  });
  expect(told).toEqual([["unsubscribed", { topics: ["conversation:c1"], reason: "access_revoked" }]]);
});

test("[SUB3] the members of a conversation are not asked for where nobody here hears the presence of who left it", async () => {
  await storage.directory.addMembers("c1", ["anna", "ben", "cleo"]);
  const ben = createSubscriber("ben");
  let questions = 0;
  const { subscriptions, membership } = build([ben], {
    hasSubscribers: (topic) => ben.isSubscribed(topic),
    slowed: (view) => ({
      membersOf(conversationId) {
        questions++;
        return view.membersOf(conversationId);
      },
    }),
  });
  await subscriptions.subscribe(ben, { topics: ["presence:cleo"] });
  await storage.directory.removeMembers("c1", ["anna", "cleo"]);
  await membership.apply(change("member_removed", "anna"));
  expect(questions).toBe(0);
  await membership.apply(change("member_removed", "cleo"));
  expect(ben.topics()).toEqual([]);
});

test("[SUB3] what joins by itself is told of, and in the end whole, where an engine fails in the middle", async () => {
  await storage.directory.addMembers("c1", ["anna", "ben"]);
  const anna = createSubscriber("anna");
  const told: string[][] = [];
  let isAway = false;
  const { subscriptions, membership } = build([anna], {
    async snapshots() {
      if (isAway) throw new Unavailable("storage", "away");
      return new Map();
    },
    tell(_, type, payload) {
      const plain = payload instanceof WrittenPayload ? JSON.parse(payload.text) : payload;
      told.push([type, ...plain.topics.map(({ topic }: { topic: string }) => topic)]);
    },
  });
  await storage.directory.removeMembers("c1", ["anna"]);
  await subscriptions.subscribe(anna, { topics: ["conversation", "typing", "presence"] });
  await storage.directory.addMembers("c1", ["anna"]);
  isAway = true;
  const failure = await membership.apply(change("member_added")).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(Unavailable);
  // Events of a conversation come from now on; of who types and who is there only with what was before.
  expect(anna.topics()).toEqual(["conversation:c1"]);
  expect(told.splice(0)).toEqual([["subscribed", "conversation:c1"]]);
  isAway = false;
  await membership.apply({ kind: "resync" });
  expect(told).toEqual([["subscribed", "typing:c1", "presence:ben"]]);
});

test.each(["member_removed", "resync"] as const)(
  "[SUB3] presence that is subscribed to while the last shared conversation is left is not heard (%s)",
  async (kind) => {
    await storage.directory.addMembers("c1", ["anna", "ben"]);
    const ben = createSubscriber("ben");
    let isFirst = true;
    let questions = 0;
    const { subscriptions, membership } = build([ben], {
      slowed: (view) => ({
        async sharingWith(...asked) {
          questions++;
          const sharing = await view.sharingWith(...asked);
          if (!isFirst) return sharing;
          isFirst = false;
          await storage.directory.removeMembers("c1", ["anna"]);
          await membership.apply(kind === "resync" ? { kind } : change(kind));
          // A loss of others is no reason to ask again.
          await membership.apply(change("member_removed", "cleo"));
          return sharing;
        },
      }),
    });
    expect(await subscriptions.subscribe(ben, { topics: ["presence:anna"] })).toMatchObject({
      topics: [],
      rejected: [{ topic: "presence:anna", code: "forbidden" }],
    });
    expect(ben.topics()).toEqual([]);
    expect(questions).toBe(2);
  },
);

test("[BAK1] [SUB3] what may have changed unheard takes a backend off nothing, and brings it the presence of new members", async () => {
  await storage.directory.addMembers("c1", ["anna"]);
  const robot = createSubscriber("robot", { roles: ["service"] });
  const { subscriptions, membership } = build([robot]);
  const conversation_id = "c1";
  await subscriptions.subscribe(robot, { topics: ["conversation:c1", "typing:c1", "presence:stranger"] });
  await subscriptions.subscribe(robot, { topics: ["presence"], filters: { conversation_id } });
  await storage.directory.removeMembers("c1", ["anna"]);
  await storage.directory.addMembers("c1", ["ben"]);
  await membership.apply({ kind: "resync" });
  const kept = ["conversation:c1", "presence:anna", "presence:stranger", "typing:c1"];
  expect(robot.topics().sort()).toEqual([...kept, "presence:ben"].sort());
  // It is no member by that.
  expect(await storage.directory.membersOf("c1")).toEqual(["ben"]);
  Object.assign(robot, { roles: [] });
  await membership.apply({ kind: "resync" });
  expect(robot.topics()).toEqual([]);
});
