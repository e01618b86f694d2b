/** Breaks each invariant on purpose: one connection or one topic stops, the rest goes on, and it is counted and told. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import * as v from "valibot";
import { Publisher } from "../../src/broadcast/publisher.ts";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import { createLocalBus } from "../../src/cluster/local/bus.ts";
import { configSchema } from "../../src/config/schema.ts";
import { type Invariant, InvariantBroken } from "../../src/ground/assert.ts";
import type { Reply, Routes, Services } from "../../src/handlers/context.ts";
import { jsonCodec } from "../../src/protocol/codec.ts";
import { RateLimiter } from "../../src/router/rate-limiter.ts";
import { Router } from "../../src/router/router.ts";
import type { EventLog, LoggedEvent, MovedPage, Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { catchUp } from "../../src/subscription/catch-up.ts";
import { Counts } from "../../src/telemetry/counts.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { connectionOn } from "../support/server-connection.ts";
import { createSubscriber } from "../support/subscriber.ts";

const [one, other] = ["conversation:c1", "conversation:c2"];
let storage: Storage;
let counts: Counts;
let told: object[];
const logger = { error: (facts: object) => void told.push(facts), isLevelEnabled: () => false } as never;
beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  counts = new Counts();
  told = [];
});
afterEach(() => storage.stop());

/** That one was broken so often, told of each time, and no other. */
function expectBroken(invariant: Invariant, times = 1): void {
  expect(Object.entries(counts.broken).filter(([, count]) => count > 0)).toEqual([[invariant, times]]);
  expect(told).toHaveLength(times);
  expect(told.at(-1)).toMatchObject({ invariant, err: expect.any(InvariantBroken) });
}

/** A node on which somebody hears both topics from their start. */
function node(log: Partial<EventLog> = {}) {
  const published: string[] = [];
  const sequencer = new Sequencer({
    log: { ...storage.log, ...log },
    publish: ({ topic, seq }) => void published.push(`${topic}:${seq}`),
    hasSubscribers: () => true,
    counts,
    logger,
  });
  for (const topic of [one, other]) {
    sequencer.hold(topic!);
    sequencer.observe(topic!, 0);
  }
  return { sequencer, published };
}

async function logged(topic: string): Promise<LoggedEvent[]> {
  const { events } = await storage.log.range({ topic, afterSeq: 0, throughSeq: 100, limit: 100 });
  return events;
}

test("[LOG3] topic_order: what does not follow the head stops its topic until the log is read, and no other", async () => {
  const { sequencer, published } = node();
  await storage.log.append([...newEvents(one!, 3), ...newEvents(other!, 2)]);
  const [first, second, third] = await logged(one!);
  const late = { ...second! };
  sequencer.accept(late);
  late.seq = 3;
  sequencer.accept(first!);
  sequencer.accept(third!);
  for (const event of await logged(other!)) sequencer.accept(event);
  expect(published).toEqual([`${one}:1`, `${other}:1`, `${other}:2`]);
  expectBroken("topic_order");
  sequencer.batchAccepted({ previousPosition: 0, lastPosition: 5 });
  expect(sequencer.safePosition).toBe(0);
  await sequencer.repair();
  expect(published.slice(3)).toEqual([`${one}:2`, `${one}:3`]);
  expect(sequencer.safePosition).toBe(5);
  await storage.log.append([newEvent(one!)]);
  sequencer.accept((await logged(one!))[3]!);
  expect(published.at(-1)).toBe(`${one}:4`);
});

test("[LOG1] [LOG3] append: numbers that do not grow are not published, and the log's own are", async () => {
  const { sequencer, published } = node();
  const log: EventLog = {
    ...storage.log,
    async append(events) {
      const result = await storage.log.append(events);
      const [a, b] = result.appended.filter(({ topic }) => topic === one);
      [a!.seq, b!.seq] = [b!.seq, a!.seq];
      return result;
    },
  };
  const heard: string[] = [];
  const bus = createLocalBus();
  bus.publish = (topic, message) => {
    if (message.kind === "logged") heard.push(`${topic}:${message.event.seq}`);
  };
  const publisher = new Publisher({ log, sequencer, bus, counts, logger, waitingMax: 10 });
  const appended = await publisher.appendAll([...newEvents(one!, 2), newEvent(other!)]);
  expect(appended.map(({ position }) => position)).toEqual([1, 2, 3]);
  expect(published).toEqual([`${other}:1`]);
  expect(heard).toEqual([`${one}:2`, `${other}:1`]);
  expectBroken("append");
  await sequencer.repair();
  expect(published).toEqual([`${other}:1`, `${one}:1`, `${one}:2`]);
});

test("[LOG4] cursor: one that would go back is not given", async () => {
  let watermark = 7;
  const { sequencer } = node({ watermark: async () => watermark });
  await sequencer.start();
  const { cursor } = sequencer;
  watermark = 5;
  await sequencer.start();
  sequencer.stop();
  expect(() => sequencer.cursor).toThrow(InvariantBroken);
  expect(cursor).toBe(storage.log.epochs.cursorOf(7));
});

test("[LOG4] cursor: what comes below one that was given out is published all the same", async () => {
  const page: MovedPage = { heads: [], position: 9, more: false, watermark: 9, end: 9 };
  const { sequencer, published } = node({ movedSince: async () => page });
  await sequencer.repair();
  expect(sequencer.cursor).toBe(storage.log.epochs.cursorOf(9));
  await storage.log.append([newEvent(one!)]);
  sequencer.accept((await logged(one!))[0]!);
  expect(published).toEqual([`${one}:1`]);
  expectBroken("cursor");
});

test("[LOG3] [LOG5] catch_up: a replay that would send something twice ends before it does", async () => {
  const { sequencer } = node();
  // One that the node does not follow: it is read.
  const topic = "conversation:unheard";
  await storage.log.append(newEvents(topic, 3));
  const log: Pick<EventLog, "heads" | "replay"> = {
    heads: storage.log.heads,
    async replay(query) {
      const page = await storage.log.replay(query);
      return { ...page, events: [...page.events, page.events[1]!] };
    },
  };
  const sent: unknown[] = [];
  const subscriber = createSubscriber("ben", { sendAll: (messages) => void sent.push(...messages) });
  const since = { position: 0, breaks: 0, seen: {}, isUnbroken: true };
  const request = { subscriber, topics: [topic], since, revoked: new Set<string>() };
  const failure = await Promise.resolve(catchUp({ log, sequencer }, request)).catch((error) => error);
  expect(failure).toBeInstanceOf(InvariantBroken);
  expect(sent).toEqual([]);
});

const pong: Reply = { type: "pong", payload: { server_time: "2026-01-02T00:00:00.000Z" } };

/** A connection of a real router, on a socket that writes down what it is told. */
function connected(handler: () => Reply | Promise<Reply>, codec = jsonCodec) {
  const frames: { type: string; reply_to?: string }[] = [];
  const closes: number[] = [];
  const socket = {
    cork: (write: () => void) => write(),
    send: (frame: string) => frames.push(JSON.parse(frame)),
    getBufferedAmount: () => 0,
    close: (code: number) => void closes.push(code),
  };
  const router = new Router({
    services: { publisher: { isCrowded: false }, now: () => 0, newId: () => "i" } as unknown as Services,
    routes: { ping: handler } as unknown as Routes,
    codecs: { json: jsonCodec, protobuf: jsonCodec },
    limiter: new RateLimiter(v.parse(configSchema, { rate_limits: { enabled: false } })),
    storage: { prove: async () => {} },
    counts,
    logger,
  });
  const connection = connectionOn(socket, { codec, lastWordWaitMs: 1 });
  const ask = () => router.route(connection, JSON.stringify({ id: "1", type: "ping" }));
  return { connection, frames, closes, ask };
}

test("[ENV3] [ENV5] reply_order: a request that would be answered twice ends its connection with 4100", async () => {
  const { connection, frames, closes, ask } = connected(async () => pong);
  await ask();
  connection.takenUp--;
  await ask();
  expect(frames.map(({ type }) => type)).toEqual(["pong"]);
  expect(closes).toEqual([4100]);
  expect(counts.broken.reply_order).toBe(1);
  expect(told.at(-1)).toMatchObject({ invariant: "reply_order", connection_id: "k1", place: 1 });
});

test("[ENV3] [ENV5] what fails after a reply is told once, as what it is, and ends its connection with 4100", async () => {
  const after = [() => Promise.reject(new Error("too late")), () => JSON.parse("at once")];
  for (const failing of after) {
    told = [];
    const { frames, closes, ask } = connected(async () => ({ ...pong, after: failing }));
    await ask();
    expect([frames.map(({ type }) => type), closes]).toEqual([["pong"], [4100]]);
    expect(told).toMatchObject([{ type: "ping", correlation_id: "k1:1", connection_id: "k1", err: expect.any(Error) }]);
  }
  expect([counts.broken.reply_order, counts.errors]).toEqual([0, {}]);
});

test("[ENV5] whatever is found broken while a request is handled ends its connection with 4100, without a reply", async () => {
  const { frames, closes, ask } = connected(() => {
    throw new InvariantBroken("cursor", { position: 5, given: 7 });
  });
  await ask();
  expect([frames, closes]).toEqual([[], [4100]]);
  expectBroken("cursor");
});

test("[ENV4] a handler that fails is named in the log with its message, and its client learns nothing of it", async () => {
  const { frames, closes, ask } = connected(() => {
    throw new Error("nobody knows");
  });
  await ask();
  expect([frames, closes]).toMatchObject([[{ type: "error", payload: { code: "internal" } }], []]);
  expect(told).toMatchObject([{ type: "ping", correlation_id: "k1:1", connection_id: "k1" }]);
});

test("[ENV4] so is the handler of a reply that cannot be written", async () => {
  const unwritable = { ...pong, payload: { server_time: 1n } } as unknown as Reply;
  const withoutForm: typeof jsonCodec = {
    ...jsonCodec,
    encode(message) {
      if (message.type === "pong") throw new TypeError("has no such form");
      return jsonCodec.encode(message);
    },
  };
  const cases = [[() => unwritable], [async () => unwritable], [() => pong, withoutForm]] as const;
  for (const [handler, codec] of cases) {
    told = [];
    const { frames, closes, ask } = connected(handler, codec);
    await ask();
    expect([frames, closes]).toMatchObject([[{ type: "error", payload: { code: "internal" } }], []]);
    expect(told).toMatchObject([{ type: "ping", correlation_id: "k1:1", err: expect.any(TypeError) }]);
  }
});

test("[SUB5] connection_state: who is closed never comes to life again", () => {
  const { connection } = connected(() => pong);
  connection.moveTo("authenticating");
  connection.close(1000, "");
  for (const state of ["authenticating", "live", "anonymous", "closing"] as const)
    expect(() => connection.moveTo(state)).toThrow(InvariantBroken);
  connection.noteClosed();
  expect(() => connection.moveTo("live")).toThrow(InvariantBroken);
  expect(connection.state).toBe("closed");
});
