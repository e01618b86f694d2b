/** Proves on a real log what a replay says of events that retention removes while it runs. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import type { OutgoingMessage } from "../../src/protocol/envelope.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { catchUp } from "../../src/subscription/catch-up.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { newEvents } from "../support/new-event.ts";
import { createSubscriber } from "../support/subscriber.ts";

const topic = "conversation:c1";
let storage: Storage;
let sequencer: Sequencer;
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  await storage.log.append(newEvents(topic, 10));
  const { logger } = createLogSink({ level: "silent", format: "json" });
  sequencer = new Sequencer({ log: storage.log, publish() {}, hasSubscribers: () => false, logger });
  await sequencer.start();
});
afterEach(async () => {
  sequencer.stop();
  await storage.stop();
});

/** Replays everything in pages of three; `drained` runs after each page. */
async function replayWhile(
  drained: (page: number) => Promise<void>,
  seen: Record<string, number> = {},
  isUnbroken = true,
) {
  const sent: OutgoingMessage[] = [];
  let page = 0;
  const subscriber = createSubscriber("ben", {
    sendAll: (messages) => void sent.push(...messages),
    drained: () => drained(++page),
  });
  const places = await catchUp(
    { log: storage.log, sequencer, pageSize: 3 },
    { subscriber, topics: [topic], since: { position: 0, breaks: 0, seen, isUnbroken }, revoked: new Set() },
  );
  return { seqs: sent.map(({ seq }) => seq), place: places.get(topic) };
}

const keepNewest = (eventsPerTopic: number) =>
  storage.log.trim({ createdBefore: 0, eventsPerTopic, batch: 100 }).then(() => {});

test("[LOG5] retention that overtakes a replay is no silent gap: recovered is false", async () => {
  const { seqs, place } = await replayWhile(async (page) => {
    if (page === 1) await keepNewest(4);
  });
  expect(seqs).toEqual([1, 2, 3, 7, 8, 9, 10]);
  expect(place).toEqual({ seq: 10, replayed: 7, recovered: false });
});

test("[LOG5] retention of what the replay has sent already loses nothing", async () => {
  const { seqs, place } = await replayWhile(async (page) => {
    if (page === 2) await keepNewest(4);
  });
  expect(seqs).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  expect(place).toEqual({ seq: 10, replayed: 10, recovered: true });
});

test("[LOG4] [LOG5] a log that goes back while the replay runs ends it: recovered is false, and the connection is live at the head", async () => {
  const { epochs } = storage.log;
  const broken = { ...epochs.current, id: "wentback", no: epochs.current.no + 1, beganAt: 2, broken: true };
  const { seqs, place } = await replayWhile(async (page) => {
    if (page === 1) epochs.replace([...epochs.list, broken]);
  });
  expect(seqs).toEqual([1, 2, 3]);
  expect(place).toEqual({ seq: 10, replayed: 0, recovered: false });
  expect(sequencer.safePosition).toBe(2);
});

test("[LOG5] a log that grows past what was seen while the replay runs is still another one", async () => {
  const { seqs, place } = await replayWhile(
    async (page) => {
      if (page === 3) await storage.log.append(newEvents(topic, 4));
    },
    { [topic]: 12 },
  );
  expect(seqs).toEqual([13, 14]);
  expect(place).toEqual({ seq: 14, replayed: 2, recovered: false });
});

test("[LOG4] of a log that has broken since nothing is said to be recovered: nobody knows what of it the client has", async () => {
  const { seqs, place } = await replayWhile(async () => {}, {}, false);
  expect(seqs).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  expect(place).toEqual({ seq: 10, replayed: 10, recovered: false });
});

test("[LOG4] [SUB1] who begins at the head of a topic that is followed here begins where the others are, and asks nothing", async () => {
  const heads: string[][] = [];
  const log = {
    replay: storage.log.replay,
    heads(topics: string[]) {
      heads.push(topics);
      return storage.log.heads(topics);
    },
  };
  const other = "conversation:c2";
  const begin = async () => {
    const request = {
      subscriber: createSubscriber("ben"),
      topics: [topic, other],
      since: null,
      revoked: new Set<string>(),
    };
    return [...(await catchUp({ log, sequencer }, request)).values()].map(({ seq }) => seq);
  };
  // An event that comes before anybody has looked says nothing of how far the log is.
  sequencer.hold(topic);
  const [event] = (await storage.log.page({ topic, limit: 5 })).events;
  sequencer.accept(event!);
  expect(await begin()).toEqual([10, 0]);
  expect(await begin()).toEqual([10, 0]);
  const { appended } = await storage.log.append(newEvents(topic, 1));
  sequencer.accept({ ...event!, seq: 11, position: appended[0]!.position, id: "eleventh" });
  expect(await begin()).toEqual([11, 0]);
  expect(heads).toEqual([[topic, other]]);
});
