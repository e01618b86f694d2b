/** Proves the order of pipelined requests, whichever of their promises comes first; replay with TEST_SEED. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import { configSchema } from "../../src/config/schema.ts";
import type { PendingReply, Reply, Request, Routes, Services } from "../../src/handlers/context.ts";
import { jsonCodec } from "../../src/protocol/codec.ts";
import { ProtocolError } from "../../src/protocol/errors.ts";
import { RateLimiter } from "../../src/router/rate-limiter.ts";
import { Router } from "../../src/router/router.ts";
import { Counts } from "../../src/telemetry/counts.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { connectionOn } from "../support/server-connection.ts";

const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
console.info(`pipelining: TEST_SEED=${seed}`);

const ack: Reply = { type: "ack", payload: {} };
const forbidden = () => new ProtocolError("forbidden", "No.");
const sendPayload = { conversation_id: "c1", client_message_id: "m1", content: "hello" };
const publishPayload = { conversation_id: "c1", type: "poll.closed", payload: {} };

/** Describes what a request may be: its type, what it is answered, and how its handler goes about it. */
interface Kind {
  type: string;
  payload: object;
  reply: string;
  handle(request: Pick<Request<"publish">, "from">, wait: Wait): Reply | PendingReply | Promise<Reply | PendingReply>;
}
/** A promise that comes when the test lets it. */
type Wait = () => Promise<unknown>;

const kinds = {
  entersLate: {
    type: "message.send",
    payload: sendPayload,
    reply: "ack",
    async handle(_, wait) {
      await wait();
      return { events: 1, settled: wait().then(() => ack) };
    },
  },
  entersAtOnce: {
    type: "publish",
    payload: publishPayload,
    reply: "ack",
    handle: (_, wait) => ({ events: 1, settled: wait().then(() => ack) }),
  },
  conflict: {
    type: "publish",
    payload: publishPayload,
    reply: "forbidden",
    handle(_, wait) {
      const refuse = () => {
        throw forbidden();
      };
      return { events: 1, settled: wait().then(refuse) };
    },
  },
  surprise: {
    type: "message.send",
    payload: sendPayload,
    reply: "internal",
    handle: async () => ({ events: 1, settled: Promise.reject(new Error("nobody knows")) }),
  },
  refusedLate: {
    type: "message.send",
    payload: sendPayload,
    reply: "forbidden",
    async handle(_, wait) {
      await wait();
      throw forbidden();
    },
  },
  refusedAtOnce: {
    type: "publish",
    payload: publishPayload,
    reply: "forbidden",
    handle() {
      throw forbidden();
    },
  },
  notLogged: {
    type: "publish",
    payload: { ...publishPayload, logged: false },
    reply: "ack",
    async handle({ from }) {
      await from.ahead;
      return ack;
    },
  },
  ordinary: {
    type: "typing.stop",
    payload: { conversation_id: "c1" },
    reply: "ack",
    async handle(_, wait) {
      await wait();
      return ack;
    },
  },
  atOnce: { type: "typing.stop", payload: { conversation_id: "c1" }, reply: "ack", handle: () => ack },
  invalid: { type: "typing.stop", payload: {}, reply: "invalid_payload", handle: () => ack },
  unknown: { type: "no.such", payload: {}, reply: "unknown_type", handle: () => ack },
} satisfies Record<string, Kind>;
type KindName = keyof typeof kinds;

const pipelined = new Set(["message.send", "publish"]);
const isInvalid = ({ reply }: Kind) => reply === "invalid_payload" || reply === "unknown_type";

/** A connection of a real router, whose handlers do what the kinds of its requests say. */
function scene({ names, wait, isCrowded = () => false }: { names: KindName[]; wait: Wait; isCrowded?: () => boolean }) {
  const replies: { reply_to: string; type: string; payload: { code?: string } }[] = [];
  /** Requests whose handler has begun, with how many were answered by then. */
  const begun: { id: number; answered: number }[] = [];
  const socket = {
    isPaused: false,
    pause: () => void (socket.isPaused = true),
    resume: () => void (socket.isPaused = false),
    corks: 0,
    cork(write: () => void) {
      socket.corks++;
      write();
    },
    send: (frame: string) => replies.push(JSON.parse(frame)),
    getBufferedAmount: () => 0,
    close() {},
  };
  const handler = (request: Request<"publish">) => {
    const id = Number(request.id);
    begun.push({ id, answered: replies.length });
    return kinds[names[id]!].handle(request, wait);
  };
  const config = v.parse(configSchema, { rate_limits: { enabled: false } });
  const router = new Router({
    services: {
      publisher: {
        get isCrowded() {
          return isCrowded();
        },
      },
      now: () => 0,
      newId: () => "i",
    } as Partial<Services> as Services,
    routes: { "message.send": handler, publish: handler, "typing.stop": handler } as unknown as Routes,
    codecs: { json: jsonCodec, protobuf: jsonCodec },
    limiter: new RateLimiter(config),
    storage: { prove: async () => {} },
    counts: new Counts(),
    logger: createLogSink({ level: "silent", format: "json" }).logger,
  });
  const connection = connectionOn(socket, { lastWordWaitMs: 1 });
  connection.userId = "u1";
  connection.moveTo("authenticating");
  connection.moveTo("live");
  const send = (id: number, more: object = {}) => {
    const { type, payload } = kinds[names[id]!];
    connection.receive(JSON.stringify({ id: String(id), type, payload, ...more }), (frame) =>
      router.route(connection, frame),
    );
  };
  return { connection, socket, replies, begun, send };
}

const anyNames = fc.array(fc.constantFrom(...(Object.keys(kinds) as KindName[])), { minLength: 1, maxLength: 9 });
const answered = ({ reply_to, type, payload }: { reply_to: string; type: string; payload: { code?: string } }) =>
  `${reply_to} ${type === "error" ? payload.code : type}`;

/** Everything that makes sense has begun, in order, what is not pipelined once all before it was answered. */
function expectBegunInOrder(names: KindName[], begun: { id: number; answered: number }[]): void {
  const sound = [...names.keys()].filter((id) => !isInvalid(kinds[names[id]!]));
  expect(begun.map(({ id }) => id)).toEqual(sound);
  const early = begun.filter(({ id, answered }) => answered < id && !pipelined.has(kinds[names[id]!].type));
  expect(early).toEqual([]);
}

test("[ENV7] [ENV3] whatever is mixed and whichever comes first: taken up in order, answered in order, one reply each", async () => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), anyNames, fc.infiniteStream(fc.boolean()), async (scheduler, names, crowded) => {
      const { connection, replies, begun, send } = scene({
        names,
        wait: () => scheduler.schedule(Promise.resolve()),
        isCrowded: () => crowded.next().value!,
      });
      const arrivals = names.map((_, id) => async () => send(id));
      const { task } = scheduler.scheduleSequence(arrivals);
      await scheduler.waitFor(task.then(() => connection.finish()));
      expect(replies.map(answered)).toEqual(names.map((name, id) => `${id} ${kinds[name].reply}`));
      expectBegunInOrder(names, begun);
    }),
    { seed, numRuns: 300, endOnFailure: true },
  );
});

test("[ENV7] what was read before the client has gone takes effect, in order", async () => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), anyNames, async (scheduler, names) => {
      const { connection, begun, send } = scene({ names, wait: () => scheduler.schedule(Promise.resolve()) });
      for (const id of names.keys()) send(id);
      const gone = scheduler.schedule(Promise.resolve()).then(() => connection.noteClosed());
      await scheduler.waitFor(gone.then(() => connection.finish()));
      const sound = [...names.keys()].filter((id) => !isInvalid(kinds[names[id]!]));
      expect(begun.map(({ id }) => id)).toEqual(sound);
    }),
    { seed, numRuns: 100, endOnFailure: true },
  );
});

test("[ENV7] [AUTH4] where the service closes, what has its place is not undone, and nothing more is taken up", async () => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), anyNames, async (scheduler, names) => {
      const { connection, begun, replies, send } = scene({ names, wait: () => scheduler.schedule(Promise.resolve()) });
      for (const id of names.keys()) send(id);
      let [begunThen, repliesThen] = [0, 0];
      const closed = scheduler.schedule(Promise.resolve()).then(() => {
        connection.close(4011, "revoked");
        [begunThen, repliesThen] = [begun.length, replies.length];
      });
      await scheduler.waitFor(closed.then(() => connection.finish()));
      expect(replies.length).toBe(repliesThen);
      // One may have been read, and waits for what is before it: what only asks is dropped then.
      expect(begun.length - begunThen).toBeLessThanOrEqual(1);
    }),
    { seed, numRuns: 100, endOnFailure: true },
  );
});

test("[ENV7] a pipelined request begins before those before it are answered; what is durable together is answered in one piece", async () => {
  const names: KindName[] = ["entersAtOnce", "entersAtOnce", "conflict", "entersAtOnce", "ordinary"];
  const held = Promise.withResolvers<void>();
  const { connection, socket, begun, replies, send } = scene({ names, wait: () => held.promise });
  for (const id of names.keys()) send(id);
  expect(begun).toEqual([0, 1, 2, 3].map((id) => ({ id, answered: 0 })));
  held.resolve();
  await connection.finish();
  expect(begun.at(-1)).toEqual({ id: 4, answered: 4 });
  expect(replies.map(answered)).toEqual(["0 ack", "1 ack", "2 forbidden", "3 ack", "4 ack"]);
  expect(socket.corks).toBe(1);
});

test("[ENV7] [DRN] what is unanswered is bounded, reading pauses above it and goes on; draining waits for all of it", async () => {
  for (const { more, atOnce } of [
    { more: {}, atOnce: 500 },
    // By bytes as well: a few large ones are as much as many small ones.
    { more: { padding: "x".repeat(300 * 1024) }, atOnce: 4 },
  ]) {
    const count = atOnce + 70;
    const names = Array.from({ length: count }, (): KindName => "entersAtOnce");
    const waiting: (() => void)[] = [];
    const wait = () => new Promise<void>((resolve) => waiting.push(resolve));
    const { connection, socket, begun, replies, send } = scene({ names, wait });
    for (let id = 0; id < atOnce + 3; id++) send(id, more);
    expect([begun.length, socket.isPaused]).toEqual([atOnce, false]);
    for (let id = atOnce + 3; id < count; id++) send(id);
    expect([begun.length, socket.isPaused]).toEqual([atOnce, true]);
    while (replies.length < 10) {
      waiting.shift()?.();
      await Promise.resolve();
    }
    expect(socket.isPaused).toBe(false);
    let isFinished = false;
    const finished = connection.finish().then(() => {
      isFinished = true;
    });
    while (!isFinished) {
      expect(replies.length).toBeLessThanOrEqual(count);
      waiting.shift()?.();
      await Promise.resolve();
    }
    await finished;
    expect(replies.map(({ reply_to }) => Number(reply_to))).toEqual([...names.keys()]);
  }
});
