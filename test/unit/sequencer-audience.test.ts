/** Proves that who is left out of an event stays left out when the event has to wait for an earlier one. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import type { LoggedEvent, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { newEvents } from "../support/new-event.ts";

const topic = "conversation:c1";
let folder: string;
let storage: Storage;
let events: LoggedEvent[];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "ws-sequencer-"));
  storage = createSqliteStorage({ path: join(folder, "log.db") });
  await storage.start();
  await storage.log.append(newEvents(topic, 2));
  ({ events } = await storage.log.range({ topic, afterSeq: 0, throughSeq: 2, limit: 10 }));
});
afterEach(async () => {
  await storage.stop();
  rmSync(folder, { recursive: true, force: true });
});

function follow() {
  const published: [seq: number, leftOut: string | undefined][] = [];
  const { promise: both, resolve } = Promise.withResolvers<void>();
  const sequencer = new Sequencer({
    log: storage.log,
    publish: ({ seq }, { exceptDevice }) => {
      published.push([seq, exceptDevice]);
      if (published.length === 2) resolve();
    },
    hasSubscribers: () => true,
    logger: pino({ level: "silent" }),
    gapPatienceMs: 1,
  });
  sequencer.hold(topic);
  sequencer.observe(topic, 0);
  return { sequencer, published, both };
}

test("[SUB6] [LOG3] an event that waited for the one before it still leaves its sender out", () => {
  const { sequencer, published } = follow();
  sequencer.accept(events[1]!, { exceptDevice: "phone" });
  sequencer.accept(events[0]!, {});
  expect(published).toEqual([
    [1, undefined],
    [2, "phone"],
  ]);
});

test("[SUB6] [LOG3] so does one that waited until the log was asked", async () => {
  const { sequencer, published, both } = follow();
  sequencer.accept(events[1]!, { exceptDevice: "phone" });
  await both;
  expect(published).toEqual([
    [1, undefined],
    [2, "phone"],
  ]);
});
