/** Proves on a real log that nothing which a node keeps in memory says a text once more of which it has heard that it is deleted [MSG2]. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import type { OutgoingMessage } from "../../src/protocol/envelope.ts";
import type { EventLog, LoggedEvent, NewEvent, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { catchUp } from "../../src/subscription/catch-up.ts";
import { LogFeed } from "../../src/subscription/log-feed.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { deleted, edited, message } from "../contract/messages.ts";
import { newEvent } from "../support/new-event.ts";
import { createSubscriber } from "../support/subscriber.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });
const topic = "conversation:c1";
let storage: Storage;
let published: LoggedEvent[];
/** Numbers of events, each with the device that it was not sent to. */
let passedBy: [seq: number, deviceId: string][];
const sequencers: Sequencer[] = [];
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  published = [];
  passedBy = [];
});
afterEach(async () => {
  for (const sequencer of sequencers.splice(0)) sequencer.stop();
  await storage.stop();
});

/** Appends one and gives it as another node's word has it: with what it said. */
async function append(event: NewEvent): Promise<LoggedEvent> {
  const [appended] = (await storage.log.append([event])).appended;
  const { id, type, payload, createdAt } = event;
  return { topic, id, type, payload, createdAt, seq: appended!.seq, position: appended!.position };
}

/** A node on which somebody hears the topic from its start on; `told` resolves once so many were published. */
function follow(log: Partial<EventLog> = {}) {
  const waiting: { count: number; resolve: () => void }[] = [];
  const sequencer = new Sequencer({
    log: { ...storage.log, ...log },
    publish(event, audience) {
      published.push(event);
      if (audience.exceptDevice !== undefined) passedBy.push([event.seq, audience.exceptDevice]);
      for (const { count, resolve } of waiting) if (published.length >= count) resolve();
    },
    hasSubscribers: () => true,
    logger,
    gapPatienceMs: 1,
  });
  sequencers.push(sequencer);
  sequencer.hold(topic);
  sequencer.observe(topic, 0);
  const told = (count: number) =>
    new Promise<void>((resolve) => (published.length >= count ? resolve() : waiting.push({ count, resolve })));
  return { sequencer, told };
}

const shown = (events: Pick<LoggedEvent, "seq" | "type" | "payload">[]) =>
  events.map(({ seq, type, payload }) => [seq, type, JSON.parse(payload).content]);

test("[MSG2] an edit that waits above a gap is not shown once its message is deleted", async () => {
  const { sequencer, told } = follow();
  const audience = {};
  sequencer.hear(await append(message("m1", "first")), { audience });
  const late = await append(newEvent(topic, { type: "poll.closed", payload: "{}" }));
  sequencer.hear(await append(edited("m1", "secret")), { audience });
  sequencer.hear(await append(deleted("m1")), { audience });
  sequencer.hear(late, { audience });
  await told(3);
  expect(shown(published)).toEqual([
    [1, "message.new", "first"],
    [2, "poll.closed", undefined],
    [4, "message.deleted", undefined],
  ]);
});

test("[MSG2] a message whose word comes after that of its deletion is shown as the log has it", async () => {
  const { sequencer, told } = follow();
  const audience = {};
  sequencer.hear(await append(newEvent(topic, { type: "poll.closed", payload: "{}" })), { audience });
  const said = await append(message("m1", "secret"));
  const edit = await append(edited("m1", "other secret"));
  const other = await append(message("m2", "text"));
  sequencer.hear(await append(deleted("m1")), { audience });
  // Late, and out of order.
  for (const event of [edit, said, other]) sequencer.hear(event, { audience });
  await told(4);
  expect(shown(published)).toEqual([
    [1, "poll.closed", undefined],
    [2, "message.new", null],
    [4, "message.new", "text"],
    [5, "message.deleted", undefined],
  ]);
});

test("[MSG2] [SUB6] who is left out of what was said is left out of it as the log has it", async () => {
  const { sequencer, told } = follow();
  const late = await append(newEvent(topic, { type: "poll.closed", payload: "{}" }));
  const [one, two] = [await append(message("m1", "secret")), await append(edited("m1", "other secret"))];
  const deletion = await append(deleted("m1"));
  // One waits as its deletion comes, and one comes after it.
  sequencer.hear(two, { audience: { exceptDevice: "phone" } });
  sequencer.hear(deletion, { audience: { exceptDevice: "tablet" } });
  sequencer.hear(one, { audience: { exceptDevice: "laptop" } });
  sequencer.hear(late, { audience: {} });
  await told(3);
  expect(shown(published)).toEqual([
    [1, "poll.closed", undefined],
    [2, "message.new", null],
    [4, "message.deleted", undefined],
  ]);
  expect(passedBy).toEqual([
    [2, "laptop"],
    [4, "tablet"],
  ]);
});

test("[MSG2] [LOG3] an edit that only names a message is shown though that one is deleted above it", async () => {
  const { sequencer, told } = follow();
  const audience = {};
  sequencer.hear(await append(message("m1", "quoted")), { audience });
  sequencer.hear(await append(message("m2", "text")), { audience });
  await append(edited("m2", { text: "as said above", reply_to: "m1" }));
  sequencer.hear(await append(deleted("m1")), { audience });
  await told(4);
  expect(published.map(({ seq, type }) => [seq, type])).toEqual([
    [1, "message.new"],
    [2, "message.new"],
    [3, "message.edited"],
    [4, "message.deleted"],
  ]);
});

test("[MSG2] a page that was read before the deletion and comes after its word is read anew", async () => {
  let stale: LoggedEvent[] | null = null;
  const reading = Promise.withResolvers<void>();
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
  const { sequencer, told } = follow({
    async range(query) {
      const page = await storage.log.range(query);
      if (stale !== null) return page;
      stale = page.events;
      reading.resolve();
      await mayAnswer;
      return page;
    },
  });
  const audience = {};
  await append(message("m1", "secret"));
  // Above a gap: the log is asked for what is missing.
  sequencer.hear(await append(message("m2", "text")), { audience });
  await reading.promise;
  sequencer.hear(await append(deleted("m1")), { audience });
  answer();
  await told(3);
  expect(shown(stale!)).toContainEqual([1, "message.new", "secret"]);
  expect(shown(published)).toEqual([
    [1, "message.new", null],
    [2, "message.new", "text"],
    [3, "message.deleted", undefined],
  ]);
});

test("[MSG2] [LOG3] the log is read anew but once for what it goes on having: that is as it is", async () => {
  let reads = 0;
  const { sequencer, told } = follow({
    async range(query) {
      reads++;
      return storage.log.range(query);
    },
  });
  await append(message("m1", "text"));
  // As an application may have logged it before there were deletions.
  const payload = JSON.stringify({ message_id: "m1" });
  sequencer.hear(await append(newEvent(topic, { type: "message.deleted", payload })), { audience: {} });
  await told(2);
  expect(shown(published)).toEqual([
    [1, "message.new", "text"],
    [2, "message.deleted", undefined],
  ]);
  expect(reads).toBe(2);
});

test("[MSG2] many topics that are read together are shown as the log has them, too", async () => {
  const { sequencer, told } = follow({
    async replay(query) {
      const page = await storage.log.replay(query);
      sequencer.hear(await append(deleted("m1")), { audience: {} });
      return page;
    },
  });
  const others = Array.from({ length: 20 }, (_, index) => `conversation:other${index}`);
  for (const other of others) {
    sequencer.hold(other);
    sequencer.observe(other, 0);
  }
  await append(message("m1", "secret"));
  await storage.log.append(others.map((other) => newEvent(other)));
  await sequencer.repair();
  await told(22);
  expect(shown(published.filter((event) => event.topic === topic))).toEqual([
    [1, "message.new", null],
    [2, "message.deleted", undefined],
  ]);
});

test("[MSG2] who catches up is given nothing out of memory that is deleted", async () => {
  const { sequencer } = follow();
  const audience = {};
  sequencer.hear(await append(message("m1", "secret")), { audience });
  sequencer.hear(await append(message("m2", "text")), { audience });
  expect(shown(sequencer.publishedAbove(topic, 0)!)).toHaveLength(2);
  sequencer.hear(await append(deleted("m1")), { audience });
  expect(sequencer.publishedAbove(topic, 0)).toBe(null);
  expect(shown(sequencer.publishedAbove(topic, 1)!)).toEqual([
    [2, "message.new", "text"],
    [3, "message.deleted", undefined],
  ]);
});

const said = (sent: OutgoingMessage[]) =>
  sent.map(({ seq, payload }) => [seq, JSON.parse(payload).content?.slice(0, 6)]);
const large = "x".repeat(200_000);

test("[MSG2] [LOG5] what is deleted while a slow client takes a page is read anew before it is sent, and nothing comes twice", async () => {
  const { sequencer } = follow();
  const audience = {};
  for (const id of ["m1", "m2", "m3"]) sequencer.hear(await append(message(id, `${id} is ${large}`)), { audience });
  const sent: OutgoingMessage[] = [];
  const subscriber = createSubscriber("ben", {
    sendAll: (messages) => void sent.push(...messages),
    async drained() {
      if (sent.length === 1) sequencer.hear(await append(deleted("m3")), { audience });
    },
  });
  const since = { position: 0, breaks: 0, seen: {}, isUnbroken: true };
  const places = await catchUp(
    { log: storage.log, sequencer },
    { subscriber, topics: [topic], since, revoked: new Set() },
  );
  expect(said(sent)).toEqual([
    [1, "m1 is "],
    [2, "m2 is "],
    [3, undefined],
    [4, undefined],
  ]);
  expect(places.get(topic)).toEqual({ seq: 4, replayed: 4, recovered: true });
});

test.each([
  ["is told of", (sequencer: Sequencer, event: LoggedEvent) => sequencer.hear(event, { audience: {} })],
  ["finds in the log", (sequencer: Sequencer) => sequencer.repair()],
])(
  "[MSG2] [BAK2] a feed that has read a page, and one ahead, sends nothing of them whose deletion its node %s",
  async (_, note) => {
    const { sequencer } = follow();
    for (const id of ["m1", "m2", "m3", "m4", "m5", "m6"]) await append(message(id, `${id} is ${large}`));
    const feed = new LogFeed({ log: storage.log, sequencer, logger, pageSize: 3, lookIntervalMs: 60_000, tell() {} });
    const sent: OutgoingMessage[] = [];
    const all = Promise.withResolvers<void>();
    const subscriber = createSubscriber("robot", {
      roles: ["service"],
      sendAll(messages) {
        sent.push(...messages);
        if (sent.length === 8) all.resolve();
      },
      async drained() {
        if (sent.length !== 1) return;
        // Of the page that is being sent, and of the one after it.
        for (const id of ["m2", "m5"]) await note(sequencer, await append(deleted(id)));
      },
    });
    subscriber.subscribe("log");
    feed.start(subscriber, await feed.open({ position: 0, breaks: 0, seen: {}, isUnbroken: true }));
    await all.promise;
    feed.stop(subscriber);
    expect(said(sent)).toEqual([
      [1, "m1 is "],
      [2, undefined],
      [3, "m3 is "],
      [4, "m4 is "],
      [5, undefined],
      [6, "m6 is "],
      [7, undefined],
      [8, undefined],
    ]);
  },
);
