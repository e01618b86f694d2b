/** Proves that who comes back to what memory has is level in one turn, and that nothing is done where that is not all. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import type { OutgoingMessage } from "../../src/protocol/envelope.ts";
import type { LoggedEvent, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { levelAtOnce } from "../../src/subscription/level-at-once.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { createSubscriber } from "../support/subscriber.ts";

const [one, other] = ["conversation:c1", "conversation:c2"];
let storage: Storage;
let sequencer: Sequencer;
let position = 0;
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  const { logger } = createLogSink({ level: "silent", format: "json" });
  const recent = { bytesMax: 1024 * 1024 };
  sequencer = new Sequencer({ log: storage.log, publish() {}, hasSubscribers: () => true, recent, logger });
  await sequencer.start();
  position = 0;
  for (const topic of [one, other]) {
    sequencer.hold(topic);
    sequencer.observe(topic, 0);
  }
});
afterEach(async () => {
  sequencer.stop();
  await storage.stop();
});

function publish(topic: string, seq: number, payload = "{}"): void {
  const event: LoggedEvent = {
    topic,
    seq,
    position: ++position,
    id: `${topic} ${seq}`,
    type: "note",
    payload,
    createdAt: Date.now(),
  };
  sequencer.accept(event);
}

function comeBack(since: { position: number; seen?: Record<string, number> } | null, isAlone = true) {
  const sent: OutgoingMessage[][] = [];
  const subscriber = createSubscriber("ben", { sendAll: (messages) => void sent.push(messages) });
  const from = since === null ? null : { breaks: 0, seen: {}, isUnbroken: true, ...since };
  const places = levelAtOnce(
    { sequencer, isAlone },
    { subscriber, topics: [one, other], since: from, revoked: new Set() },
  );
  return { places, sent: sent.map((messages) => messages.map(({ id }) => id)), topics: subscriber.topics() };
}

test("[LOG4] [LOG5] what was missed on all topics is written at once, in the order of the log, and the connection is live", () => {
  publish(one, 1);
  publish(other, 1);
  publish(one, 2);
  publish(other, 2);
  const { places, sent, topics } = comeBack({ position: 1, seen: { [other]: 1 } });
  expect(sent).toEqual([[`${one} 2`, `${other} 2`]]);
  expect(topics).toEqual([one, other]);
  expect([...places!]).toEqual([
    [one, { seq: 2, replayed: 1, recovered: true }],
    [other, { seq: 2, replayed: 1, recovered: true }],
  ]);
});

test("[LOG5] where others append, this node knows less than the client or the log went on before it looked, nothing is done", () => {
  publish(one, 1);
  const nothing = { places: null, sent: [], topics: [] };
  expect(comeBack({ position: 0 }, false)).toEqual(nothing);
  expect(comeBack({ position: 0, seen: { [one]: 2 } })).toEqual(nothing);
  sequencer.forgetPublished();
  publish(one, 2);
  expect(comeBack({ position: 0 })).toEqual(nothing);
  expect(comeBack({ position: 1 }).sent).toEqual([[`${one} 2`]]);
});

test("[CON7] of more than may be written without waiting for the client nothing is", () => {
  const large = JSON.stringify({ text: "x".repeat(40 * 1024) });
  publish(one, 1, large);
  publish(other, 1, large);
  expect(comeBack({ position: 0 })).toEqual({ places: null, sent: [], topics: [] });
  expect(comeBack({ position: 1 }).sent).toEqual([[`${other} 1`]]);
});

test("[LOG4] [SUB1] who begins at the heads begins where the others are", () => {
  publish(one, 1);
  const { places, topics } = comeBack(null);
  expect(topics).toEqual([one, other]);
  expect([...places!.values()].map(({ seq }) => seq)).toEqual([1, 0]);
});
