/** Proves what is remembered of a backend's own topics, and that it is nothing of anybody else [LOG3] [BAK2]. */
import { expect, test } from "bun:test";
import { OwnSent, wasSent } from "../../src/broadcast/own-sent.ts";
import { type Epoch, Epochs } from "../../src/storage/epochs.ts";
import { createSubscriber } from "../support/subscriber.ts";

const topic = "user:robot";
const epoch: Epoch = { id: "epoch001", no: 1, beganAt: 0, broken: false, line: "", createdAt: 0 };
const headAt = (seq: number) => ({ headOf: () => seq });
const robot = () => createSubscriber("robot", { roles: ["service"] });

function open() {
  const epochs = new Epochs();
  epochs.replace([epoch]);
  const sent = new OwnSent(epochs);
  const seqsOf = (subscriber: object) => {
    const all = sent.take(subscriber);
    return Array.from({ length: 12 }, (_, seq) => seq).filter((seq) => wasSent(all, { topic, seq }));
  };
  return { epochs, sent, seqsOf };
}

test("[LOG3] [BAK2] it is what came while the connection was on the topic, less what it was left out of", () => {
  const { sent, seqsOf } = open();
  const subscriber = robot();
  sent.begin(subscriber, topic, 2);
  // One that it is left out of at once, two in a row, and one alone.
  for (const seq of [3, 5, 6, 8]) sent.leaveOut(subscriber, topic, seq);
  sent.end(subscriber, [{ name: topic }], headAt(9));
  sent.leaveOut(subscriber, topic, 10);
  sent.begin(subscriber, topic, 10);
  sent.end(subscriber, [{ name: topic }], headAt(11));
  expect(seqsOf(subscriber)).toEqual([4, 7, 9, 11]);
  expect(seqsOf(subscriber)).toEqual([]);
});

test("[LOG3] [BAK2] nothing is kept of ordinary connections, of topics of others, nor of nothing", () => {
  const { sent } = open();
  const anna = createSubscriber("anna");
  sent.begin(anna, "user:anna", 0);
  sent.end(anna, [{ name: "user:anna" }], headAt(5));
  expect(sent.take(anna).size).toBe(0);
  const subscriber = robot();
  sent.begin(subscriber, "conversation:c1", 0);
  sent.begin(subscriber, topic, 5);
  sent.end(subscriber, [{ name: "conversation:c1" }, { name: topic }], headAt(5));
  expect(sent.take(subscriber).size).toBe(0);
});

test("[LOG3] [BAK2] of very much the oldest is forgotten: it comes twice, and nothing is missing", () => {
  const { sent } = open();
  const subscriber = robot();
  sent.begin(subscriber, topic, 0);
  for (let seq = 2; seq <= 4_000; seq += 2) sent.leaveOut(subscriber, topic, seq);
  sent.end(subscriber, [{ name: topic }], headAt(4_001));
  const all = sent.take(subscriber);
  expect(all.get(topic)).toHaveLength(1_000);
  expect([1, 3_998, 4_000].some((seq) => wasSent(all, { topic, seq }))).toBe(false);
  expect([3_997, 3_999, 4_001].every((seq) => wasSent(all, { topic, seq }))).toBe(true);
});

test("[LOG4] [BAK2] of a log that has gone back nothing counts as sent: its numbers are given out once more", () => {
  const { epochs, sent, seqsOf } = open();
  const subscriber = robot();
  sent.begin(subscriber, topic, 0);
  epochs.replace([epoch, { ...epoch, id: "epoch002", no: 2, beganAt: 3, broken: true }]);
  sent.end(subscriber, [{ name: topic }], headAt(9));
  expect(seqsOf(subscriber)).toEqual([]);
});
