/** Proves that a cursor which another node gave out is reached, whatever this node was asking the log just then. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import { acknowledge } from "../../src/handlers/connection.ts";
import type { Request } from "../../src/handlers/context.ts";
import type { Acknowledgement, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { locate } from "../../src/subscription/starting-point.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { newEvents } from "../support/new-event.ts";
import { createSubscriber } from "../support/subscriber.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });
let storage: Storage;
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
});
afterEach(() => storage.stop());

test("[LOG4] a cursor that was given out while a repair was under way is reached by the next one", async () => {
  const { promise: hasAsked, resolve: noteAsked } = Promise.withResolvers<void>();
  const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>();
  const sequencer = new Sequencer({
    log: {
      ...storage.log,
      async movedSince(position, limit) {
        const moved = await storage.log.movedSince(position, limit);
        noteAsked();
        await mayGoOn;
        return moved;
      },
    },
    publish() {},
    hasSubscribers: () => false,
    logger,
  });
  const underWay = sequencer.repair();
  await hasAsked;
  // Logged by another node, and told to a client that comes here next.
  await storage.log.append(newEvents("conversation:c1", 3));
  const reached = sequencer.reach(3);
  goOn();
  await underWay;
  expect(await reached).toBe(true);
  expect(await sequencer.reach(4)).toBe(false);
});

test("[LOG6] a device may acknowledge what another node has sent it just before", async () => {
  const sequencer = new Sequencer({ log: storage.log, publish() {}, hasSubscribers: () => false, logger });
  await storage.log.append(newEvents("conversation:c1", 3));
  const { epochs } = storage.log;
  const hasSent = async (_: unknown, cursor: string) => (await locate(cursor, sequencer)) !== null;
  const write = async (one: Acknowledgement) => (await storage.cursors.acknowledge([one]))[0];
  const acknowledging = async (position: number) =>
    acknowledge({
      from: createSubscriber("ann"),
      payload: { cursor: epochs.cursorOf(position) },
      services: { subscriptions: { hasSent }, acknowledgements: { write } },
    } as unknown as Request<"ack", "acknowledgements" | "subscriptions">);
  expect(await acknowledging(3)).toMatchObject({ payload: { cursor: epochs.cursorOf(3) } });
  const refusal = await acknowledging(4).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: "invalid_payload", details: { field: "payload.cursor" } });
});
