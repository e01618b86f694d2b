/** Proves on a real log that what a node gives out of memory is what the log has, and that it keeps no more than it may [LOG5] [LOG7] [MSG2]. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { RecentEvents } from "../../src/broadcast/recent-events.ts";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import { atOnce } from "../../src/ground/at-once.ts";
import type { EventLog, LoggedEvent, NewEvent, ReplayPage, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { pageAfter, recallPage } from "../../src/subscription/replay-page.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { deleted, edited, message, reacted } from "../contract/messages.ts";
import { newEvent } from "../support/new-event.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });
const topic = "conversation:c1";
const other = "conversation:c2";
const lastSeen = () => 0;
let storage: Storage;
let now: number;
const sequencers: Sequencer[] = [];
beforeEach(async () => {
  now = 1_000;
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
});
afterEach(async () => {
  for (const sequencer of sequencers.splice(0)) sequencer.stop();
  await storage.stop();
});

/** A node with somebody on both topics from the head on; `read` counts its questions to the log. */
async function startNode({
  bytesMax = 1024 * 1024,
  eventsMax = 256,
  retentionMs = Number.POSITIVE_INFINITY,
  isAlone = true,
} = {}) {
  let read = 0;
  const replay: EventLog["replay"] = (query) => {
    read++;
    return storage.log.replay(query);
  };
  const log = { ...storage.log, replay };
  const recent = { bytesMax, eventsMax, retentionMs, now: () => now };
  const sequencer = new Sequencer({ log, publish() {}, hasSubscribers: () => true, recent, logger });
  sequencers.push(sequencer);
  const heads = await storage.log.heads([topic, other]);
  for (const [name, { seq }] of heads) {
    sequencer.hold(name);
    sequencer.observe(name, seq);
    sequencer.release(name);
  }
  const recall = (afterPosition: number, topics = [topic, other]) =>
    recallPage(sequencer, { topics, afterPosition, lastSeen })?.events ?? null;
  const come = async (afterPosition: number, topics = [topic, other]) =>
    atOnce(pageAfter({ log, sequencer, isAlone }, { topics, afterPosition, limit: 200, lastSeen }));
  return { sequencer, recall, come, questions: () => read };
}

/** Appends one; as its node publishes it. */
async function append(event: NewEvent): Promise<LoggedEvent> {
  const [appended] = (await storage.log.append([event])).appended;
  const { id, type, payload, createdAt, compactionKey } = event;
  const { seq, position } = appended!;
  return { topic: event.topic, id, type, payload, createdAt, seq, position, compactionKey };
}

const shown = (events: LoggedEvent[] | null) =>
  events?.map(({ seq, type, payload }) => [seq, type, JSON.parse(payload).content]) ?? null;
const plain = (events: LoggedEvent[]) =>
  events.map(({ topic: name, seq, position, id, type, payload, createdAt }) => {
    return { topic: name, seq, position, id, type, payload, createdAt };
  });
const inLog = async (afterPosition: number): Promise<ReplayPage> =>
  storage.log.replay({ topics: [topic, other], afterPosition, limit: 1_000 });

const audience = {};

test("[LOG5] of a topic without events there is nothing to ask, and the first one is all that there is", async () => {
  const { sequencer, recall } = await startNode();
  expect(recall(0)).toEqual([]);
  await append(newEvent("conversation:c3"));
  sequencer.hear(await append(newEvent(topic)), { audience });
  expect(recall(0)).toHaveLength(1);
});

test("[LOG5] what was published here is given out of memory in the order of the log, from any place in it", async () => {
  const { sequencer, recall, questions } = await startNode();
  for (let count = 0; count < 5; count++) {
    sequencer.hear(await append(newEvent(topic)), { audience });
    sequencer.hear(await append(newEvent(other)), { audience });
  }
  for (let position = 0; position <= 10; position++)
    expect(plain(recall(position)!)).toEqual(plain((await inLog(position)).events));
  expect(questions()).toBe(0);
});

test("[LOG5] what was read of the log for one is there for the next, with what was published since", async () => {
  for (let count = 0; count < 5; count++) await append(newEvent(count % 2 === 0 ? topic : other));
  const { sequencer, recall, come, questions } = await startNode();
  expect(recall(2)).toBe(null);
  await come(2);
  sequencer.hear(await append(newEvent(topic)), { audience });
  expect(plain(recall(2)!)).toEqual(plain((await inLog(2)).events));
  expect(recall(1)).toBe(null);
  expect(questions()).toBe(1);
});

test("[LOG3] of a topic that has a hole here nothing is given out beyond it, and who has seen more elsewhere asks the log", async () => {
  const { sequencer, recall } = await startNode();
  sequencer.hear(await append(newEvent(topic)), { audience });
  await append(newEvent(topic));
  sequencer.hear(await append(newEvent(topic)), { audience });
  expect(shown(recall(0, [topic]))).toHaveLength(1);
  expect(recallPage(sequencer, { topics: [topic], afterPosition: 0, lastSeen: () => 2 })).toBe(null);
  await sequencer.repair();
  expect(shown(recall(0, [topic]))).toHaveLength(3);
});

test("[LOG3] an event that comes before anybody has looked at the log says nothing of how far that is", async () => {
  const { sequencer, recall, come } = await startNode();
  const third = "conversation:c3";
  const [early] = [await append(newEvent(third)), await append(newEvent(third))];
  sequencer.hold(third);
  sequencer.hear(early!, { audience });
  expect(recall(0, [third])).toBe(null);
  expect((await come(0, [third])).events).toHaveLength(2);
  expect(recall(0, [third])).toHaveLength(2);
});

test("[MSG2] [MSG3] an edit, a deletion and a reaction take out what they change; the log has it as it is", async () => {
  const { sequencer, recall, come } = await startNode();
  for (const id of ["m1", "m2", "m3", "m4"]) sequencer.hear(await append(message(id, id)), { audience });
  sequencer.hear(await append(edited("m1", "other")), { audience });
  expect([recall(0), shown(recall(1))?.length]).toEqual([null, 4]);
  await come(0);
  expect(shown(recall(0))![0]).toEqual([1, "message.new", "other"]);
  sequencer.hear(await append(reacted("m2", ["ben", "👍", true])), { audience });
  expect([recall(1), shown(recall(2))?.length]).toEqual([null, 4]);
  sequencer.hear(await append(deleted("m3")), { audience });
  expect([recall(2), shown(recall(3))?.length]).toEqual([null, 4]);
  await come(0);
  expect(plain(recall(0)!)).toEqual(plain((await inLog(0)).events));
});

test("[MSG2] [MSG3] what another node has changed is read, though this one keeps it and has not heard of that", async () => {
  const { sequencer, come, questions } = await startNode({ isAlone: false });
  for (const id of ["m1", "m2"]) sequencer.hear(await append(message(id, id)), { audience });
  expect(shown((await come(0, [topic])).events)).toHaveLength(2);
  expect(questions()).toBe(0);
  await append(edited("m1", "other"));
  expect(shown((await come(0, [topic])).events)![0]).toEqual([1, "message.new", "other"]);
  const gone = await append(deleted("m2"));
  const { events } = await come(0, [topic]);
  expect(plain(events)).toEqual(plain((await inLog(0)).events));
  // Read anew, it is known here up to its end.
  expect(questions()).toBe(2);
  sequencer.hear(gone, { audience });
  await come(0, [topic]);
  expect(questions()).toBe(2);
});

test("[MSG2] a text goes as soon as its deletion is heard of, also above a gap", async () => {
  const { sequencer, recall } = await startNode();
  sequencer.hear(await append(message("m1", "secret")), { audience });
  await append(newEvent(topic));
  expect(shown(recall(0))).toHaveLength(1);
  sequencer.hear(await append(deleted("m1")), { audience });
  expect(recall(0)).toBe(null);
});

test("[MSG2] what was being read while a deletion was heard of is kept for nobody", async () => {
  await append(message("m1", "secret"));
  const { sequencer, recall } = await startNode();
  const { deletions } = sequencer;
  const page = await inLog(0);
  const deletion = await append(deleted("m1"));
  sequencer.hear(deletion, { audience });
  sequencer.noteRead(page, { afterPosition: 0, deletions });
  expect(recall(0)).toBe(null);
});

const receipt = (userId: string, upToSeq: number) =>
  newEvent(topic, {
    type: "message.read",
    payload: JSON.stringify({ conversation_id: "c1", user_id: userId, message_ids: [], up_to_seq: upToSeq }),
    compactionKey: `read:c1:${userId}`,
  });

test("[LOG7] of receipts the newest is given out, and where nobody can tell the log is asked", async () => {
  const { sequencer, recall, come } = await startNode();
  sequencer.hear(await append(message("m1", "one")), { audience });
  for (const user of ["ann", "ben"]) sequencer.hear(await append(receipt(user, 1)), { audience });
  sequencer.hear(await append(message("m2", "two")), { audience });
  sequencer.hear(await append(receipt("ann", 2)), { audience });
  expect(plain(recall(0)!)).toEqual(plain((await inLog(0)).events));
  expect(recall(0)!.map(({ seq }) => seq)).toEqual([1, 3, 4, 5]);
  sequencer.forgetPublished();
  await come(0);
  sequencer.hear(await append(receipt("ben", 2)), { audience });
  expect([recall(0), recall(2)]).toEqual([null, null]);
  expect(plain(recall(3)!)).toEqual(plain((await inLog(3)).events));
});

test("[LOG5] [LOG7] what retention may have removed is left to the log, by its age, by its number, and after half a minute whatever it is", async () => {
  const { sequencer, recall } = await startNode({ retentionMs: 10_000, eventsMax: 3 });
  for (let count = 0; count < 4; count++)
    sequencer.hear(await append(newEvent(topic, { createdAt: count * 1_000 })), { audience });
  expect([recall(0, [topic]), recall(1, [topic])?.length]).toEqual([null, 3]);
  now = 11_500;
  expect([recall(1, [topic]), recall(2, [topic])?.length]).toEqual([null, 2]);
  const patient = await startNode();
  patient.sequencer.hear(await append(newEvent(topic)), { audience });
  now += 30_000;
  expect(patient.recall(4, [topic])).toHaveLength(1);
  now += 1;
  expect(patient.recall(4, [topic])).toBe(null);
});

test("[LOG4] of a log that has gone back nothing is kept", async () => {
  const { sequencer, recall } = await startNode();
  await sequencer.start();
  sequencer.hear(await append(newEvent(topic)), { audience });
  const { epochs } = storage.log;
  epochs.replace([
    ...epochs.list,
    { ...epochs.current, id: "wentback", no: epochs.current.no + 1, beganAt: 0, broken: true },
  ]);
  expect(recall(0, [topic])).toBe(null);
});

const random = (seed: number) => () => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return seed / 2 ** 32;
};

test("[LOG3] [MSG2] [MSG3] [LOG7] whatever happens, what is given out of memory by a node that is level is what the log has", async () => {
  let given = 0;
  for (let seed = 1; seed <= 12; seed++) {
    const chance = random(seed);
    const pick = (count: number) => Math.floor(chance() * count);
    const { sequencer, recall, come } = await startNode({ eventsMax: 40 });
    const messages: string[] = [];
    let position = await storage.log.watermark();
    const begin = position;
    for (let step = 0; step < 120; step++) {
      const of = messages[pick(messages.length)] ?? "none";
      const id = `m${seed}-${step}`;
      const made = [
        () => message(id, `text ${id}`),
        () => newEvent(other),
        () => edited(of, `edit ${step}`),
        () => reacted(of, [`u${pick(3)}`, "👍", pick(2) === 0]),
        () => receipt(`u${pick(3)}`, step),
        () => deleted(of),
      ][Math.floor(6 * chance() ** 1.5)]!();
      if (made.type === "message.new" && made.topic === topic) messages.push(id);
      const event = await append(made);
      if (event.seq > 0) position = event.position;
      // Some words of other nodes are lost.
      if (event.seq > 0 && pick(8) > 0) sequencer.hear(event, { audience });
      if (pick(10) === 0) await come(begin + pick(position - begin + 1));
      if (pick(4) > 0) continue;
      await sequencer.repair();
      const after = begin + pick(position - begin + 1);
      const recalled = recall(after);
      if (recalled === null) continue;
      given++;
      expect(plain(recalled)).toEqual(plain((await inLog(after)).events));
    }
    sequencer.stop();
  }
  expect(given).toBeGreaterThan(50);
});

test("[LOG3] what is large is given out whole or not at all, also where it takes more room once it was", async () => {
  const { sequencer, come } = await startNode();
  for (let at = 0; at < 20; at++) {
    const payload = JSON.stringify({ text: "x".repeat(20_000) });
    sequencer.hear(await append(newEvent(topic, { payload })), { audience });
  }
  for (let round = 0; round < 3; round++) expect((await come(0, [topic])).events).toHaveLength(20);
});

test("memory is bounded over all topics: those that were not in use for the longest go first, and those somebody catches up on last", () => {
  const recent = new RecentEvents({ bytesMax: 20_000 });
  const event = (name: string, seq: number): LoggedEvent => {
    const payload = JSON.stringify({ text: "x".repeat(500) });
    return { topic: name, seq, position: seq, id: `${name}${seq}`, type: "t", payload, createdAt: 0 };
  };
  recent.hold("held");
  recent.add(event("held", 1));
  for (let index = 0; index < 100; index++) {
    recent.add(event(`t${index}`, 1));
    expect(recent.after("t0", 0)).toHaveLength(1);
    expect(recent.bytes).toBeLessThanOrEqual(20_000);
  }
  expect([recent.after("t1", 0), recent.after("t99", 0)?.length, recent.after("held", 0)?.length]).toEqual([
    null,
    1,
    1,
  ]);
  // Of one topic the newest stay.
  for (let seq = 2; seq <= 200; seq++) recent.add(event("t0", seq));
  expect(recent.bytes).toBeLessThanOrEqual(20_000);
  for (const name of Array.from({ length: 100 }, (_, index) => `t${index}`)) recent.drop(name);
  recent.drop("held");
  expect(recent.bytes).toBe(0);
});
