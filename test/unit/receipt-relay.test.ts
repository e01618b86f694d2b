/** Receipts of several nodes on one store: told in the order of their watermarks, whoever is slow [REC1] [REC2]. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { Audience } from "../../src/broadcast/broadcaster.ts";
import type { Publisher } from "../../src/broadcast/publisher.ts";
import { ReceiptRelay } from "../../src/handlers/receipt-relay.ts";
import type { ServerPayload } from "../../src/protocol/server.ts";
import type { ReceiptStore, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
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

function relayOn(store: ReceiptStore, { isLarge = false } = {}): ReceiptRelay {
  const append: Publisher["append"] = async ({ payload, ...event }, { audience = {} } = {}) => {
    audiences.push([event.type, audience.except]);
    const { appended } = await storage.log.append([{ ...event, payload: JSON.stringify(payload) }]);
    topics.push(`${event.topic} ${event.type}`);
    if (!appended[0]!.duplicate) told.push((payload as ServerPayload<"message.read">).up_to_seq);
    return appended[0]!;
  };
  return new ReceiptRelay({
    store,
    publisher: { append },
    directory: { toldOfReceipts: async (conversationIds) => new Set(isLarge ? [] : conversationIds) },
    windowMs: 0,
    now: Date.now,
    newId: () => crypto.randomUUID(),
    logger,
  });
}
const mark = (upToSeq: number) => ({ conversationId: "c1", userId: "bob", kind: "read", upToSeq }) as const;

test("[REC1] [REC2] a node that is slow to tell does not tell of less than another has told meanwhile", async () => {
  const { promise: isReading, resolve: noteReading } = Promise.withResolvers<void>();
  const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>();
  const slow = relayOn({
    ...storage.receipts,
    async covered(query) {
      noteReading();
      await mayGoOn;
      return storage.receipts.covered(query);
    },
  });
  const quick = relayOn(storage.receipts);
  await slow.advance(mark(1), {});
  await isReading;
  await quick.advance(mark(3), {});
  await quick.stop();
  goOn();
  await slow.stop();
  expect(told).toEqual([1, 3]);
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
  for (const conversationId of conversations) await storage.receipts.advance({ ...mark(1), conversationId });
  const { promise: isTold, resolve } = Promise.withResolvers<void>();
  const relay = relayOn({
    ...storage.receipts,
    async markSent(receipt) {
      if (told.length === conversations.length) resolve();
      return storage.receipts.markSent(receipt);
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
  expect(await storage.receipts.claim({ movedBefore: Number.MAX_SAFE_INTEGER }, 10)).toEqual([]);
});

test("[REC2] stopping waits for the sweep that is under way, and for nothing after it", async () => {
  const { promise: isClaiming, resolve: noteClaiming } = Promise.withResolvers<void>();
  const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>();
  const steps: string[] = [];
  const relay = relayOn({
    ...storage.receipts,
    async claim(query, limit) {
      noteClaiming();
      await mayGoOn;
      const claimed = await storage.receipts.claim(query, limit);
      steps.push("claimed");
      return claimed;
    },
  });
  relay.start();
  await isClaiming;
  const stopping = relay.stop().then(() => steps.push("stopped"));
  goOn();
  await stopping;
  expect(steps).toEqual(["claimed", "stopped"]);
});
