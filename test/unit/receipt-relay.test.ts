/** Receipts of several nodes on one store: told in the order of their watermarks, whoever is slow [REC1] [REC2]. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { Audience } from "../../src/broadcast/broadcaster.ts";
import type { Publisher } from "../../src/broadcast/publisher.ts";
import { ReceiptRelay } from "../../src/handlers/receipt-relay.ts";
import type { ServerPayload } from "../../src/protocol/server.ts";
import type { ReceiptStore, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { markOne } from "../support/marks.ts";
import { newEvent } from "../support/new-event.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });
let storage: Storage;
let told: number[];
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:", now: () => 1 });
  await storage.start();
  await storage.log.append(Array.from({ length: 3 }, () => newEvent("conversation:c1", { senderId: "ann" })));
  told = [];
  topics = [];
  audiences = [];
});
afterEach(() => storage.stop());

/** Topics of what was told, with the kinds. */
let topics: string[];
/** Kinds of what was told, each with the connection that it leaves out. */
let audiences: [type: string, except: Audience["except"]][];

function relayOn(store: ReceiptStore, { isLarge = false, windowMs = 0 } = {}): ReceiptRelay {
  const appendAll: Publisher["appendAll"] = async (events, { audienceOf = (): Audience => ({}) } = {}) => {
    const { appended } = await storage.log.append(events);
    for (const [index, event] of events.entries()) {
      if (appended[index]!.duplicate) continue;
      audiences.push([event.type, audienceOf(event).except]);
      topics.push(`${event.topic} ${event.type}`);
      told.push((JSON.parse(event.payload) as ServerPayload<"message.read">).up_to_seq);
    }
    return appended;
  };
  return new ReceiptRelay({
    store,
    publisher: { appendAll },
    directory: { toldOfReceipts: async (conversationIds) => new Set(isLarge ? [] : conversationIds) },
    windowMs,
    now: Date.now,
    newId: () => crypto.randomUUID(),
    logger,
  });
}
const mark = (upToSeq: number) => ({ conversationId: "c1", userId: "bob", kind: "read", upToSeq }) as const;

/** Sees what is owed and goes on with it when it is let. */
function slowStore() {
  const reading = Promise.withResolvers<void>();
  const mayGoOn = Promise.withResolvers<void>();
  const store: ReceiptStore = {
    ...storage.receipts,
    async unsent(query, messageIdsMax) {
      const unsent = await storage.receipts.unsent(query, messageIdsMax);
      reading.resolve();
      await mayGoOn.promise;
      return unsent;
    },
  };
  return { store, isReading: reading.promise, goOn: mayGoOn.resolve };
}

test("[REC1] [REC2] a node that is slow to tell does not tell of less than another has told meanwhile", async () => {
  const { store, isReading, goOn } = slowStore();
  const slow = relayOn(store);
  const quick = relayOn(storage.receipts);
  await slow.advance(mark(1), {});
  await isReading;
  await quick.advance(mark(2), {});
  await quick.stop();
  await slow.advance(mark(3), {});
  goOn();
  await slow.stop();
  expect(told).toEqual([2, 3]);
});

test("[REC2] many users' marks of a moment are moved and looked up by one statement each, and each is told", async () => {
  const asked: string[] = [];
  const relay = relayOn({
    ...storage.receipts,
    advance(marks) {
      asked.push(`advance ${marks.length}`);
      return storage.receipts.advance(marks);
    },
    unsent(query, messageIdsMax) {
      asked.push("unsent");
      return storage.receipts.unsent(query, messageIdsMax);
    },
  });
  const users = Array.from({ length: 9 }, (_, index) => `user${index}`);
  await Promise.all(users.map((userId) => relay.advance({ ...mark(3), userId }, {})));
  await relay.stop();
  expect(asked).toEqual(["advance 9", "unsent"]);
  expect(told).toEqual(users.map(() => 3));
});

test("[REC1] marks of one user in a conversation move one after another, each from where the last has come to", async () => {
  // Receipts that are told are events, too.
  const relay = relayOn(storage.receipts, { windowMs: 60_000 });
  const marked = await Promise.all([1, 3, 2].map((upToSeq) => relay.advance(mark(upToSeq), {})));
  expect(marked).toEqual([
    { upToSeq: 1, advanced: true, unread: 2, asOfSeq: 3 },
    { upToSeq: 3, advanced: true, unread: 0, asOfSeq: 3 },
    { upToSeq: 3, advanced: false, unread: 0, asOfSeq: 3 },
  ]);
  await relay.stop();
});

test("[REC1] [END2] marks that the storage does not take are refused, and the next ones are not", async () => {
  let isAway = true;
  const relay = relayOn({
    ...storage.receipts,
    advance: (marks) => (isAway ? Promise.reject(new Error("away")) : storage.receipts.advance(marks)),
  });
  await expect(relay.advance(mark(1), {})).rejects.toThrow("away");
  isAway = false;
  expect(await relay.advance(mark(1), {})).toMatchObject({ upToSeq: 1, advanced: true });
  await relay.stop();
});

test("[REC2] [SUB6] who tells of what another device has done as well leaves nobody out; else the one that did it", async () => {
  await storage.log.append(Array.from({ length: 3 }, () => newEvent("conversation:c1", { senderId: "ann" })));
  const [tablet, desk] = [{ connectionId: "tablet" }, { connectionId: "desk" }] as unknown as Audience["except"][];
  const here = relayOn(storage.receipts);
  const there = relayOn(storage.receipts);
  await here.advance({ ...mark(1), kind: "delivered" }, { except: tablet });
  await here.stop();
  await here.advance({ ...mark(2), kind: "delivered" }, { except: tablet });
  await there.advance(mark(3), { except: desk });
  await here.stop();
  await there.stop();
  await here.advance(mark(4), { except: tablet });
  await there.advance(mark(5), { except: desk });
  await here.stop();
  await there.stop();
  expect(audiences).toEqual([
    ["message.delivered", tablet],
    ["message.read", undefined],
    ["message.read", undefined],
  ]);
});

test("[REC2] what nodes that died have left untold is told at the start, however much it is", async () => {
  const conversations = Array.from({ length: 250 }, (_, index) => `left${index}`);
  await storage.log.append(conversations.map((id) => newEvent(`conversation:${id}`, { senderId: "ann" })));
  for (const conversationId of conversations) await markOne(storage.receipts, { ...mark(1), conversationId });
  const { promise: isTold, resolve } = Promise.withResolvers<void>();
  const relay = relayOn({
    ...storage.receipts,
    async unsent(query, messageIdsMax) {
      if (told.length === conversations.length - (conversations.length % 100)) resolve();
      return storage.receipts.unsent(query, messageIdsMax);
    },
  });
  relay.start();
  await isTold;
  await relay.stop();
  expect(told).toEqual(conversations.map(() => 1));
});

test("[REC3] in a large conversation only the reader's own devices are told, and only of reads; nothing stays owed", async () => {
  const relay = relayOn(storage.receipts, { isLarge: true });
  await relay.advance({ ...mark(2), kind: "delivered" }, {});
  await relay.stop();
  expect(topics).toEqual([]);
  await relay.advance(mark(3), {});
  await relay.stop();
  expect(topics).toEqual(["user:bob message.read"]);
  expect(await storage.receipts.unsent({ movedBefore: Number.MAX_SAFE_INTEGER, limit: 10 }, 10)).toEqual([]);
});

test("[REC2] reads of both kinds that only the reader's own devices are told of come in the order of their watermarks", async () => {
  const relay = relayOn(storage.receipts, { isLarge: true });
  const marks = [{ ...mark(2), kind: "read_private" as const }, mark(3)];
  await Promise.all(marks.map((one) => relay.advance(one, {})));
  await relay.stop();
  expect(told).toEqual([2, 3]);
  const { events } = await storage.log.page({ topic: "user:bob", limit: 10 });
  expect(events.map(({ payload }) => JSON.parse(payload).up_to_seq)).toEqual([3]);
});

test("[REC2] stopping waits for the sweep that is under way, and for nothing after it", async () => {
  const { store, isReading, goOn } = slowStore();
  const steps: string[] = [];
  const relay = relayOn({
    ...store,
    async unsent(query, messageIdsMax) {
      const unsent = await store.unsent(query, messageIdsMax);
      steps.push("looked");
      return unsent;
    },
  });
  relay.start();
  await isReading;
  const stopping = relay.stop().then(() => steps.push("stopped"));
  goOn();
  await stopping;
  expect(steps).toEqual(["looked", "stopped"]);
});
