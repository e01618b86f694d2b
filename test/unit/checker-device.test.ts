/** A device of the checker against a server by hand: what it writes down is in the order in which it came [LOG3] [LOG4]. */
import { expect, test } from "bun:test";
import type { ServerWebSocket } from "bun";
import { Device } from "../support/checker/device.ts";
import { factsOf } from "../support/checker/facts.ts";
import { Recorder } from "../support/checker/history.ts";
import { createRandom } from "../support/checker/random.ts";
import { toldRules } from "../support/checker/rules-told.ts";
import { HandSocket } from "../support/hand-sockets.ts";

const topic = "conversation:c1";
const timestamp = "2026-01-02T03:04:05.000Z";

test.each([false, true])(
  "[LOG4] what was sent before a gap is written down before it, also where a device reads both at once; by its outbox: %p",
  async (byOutbox) => {
    const server = Bun.serve({
      port: 0,
      fetch: (request, server) => (server.upgrade(request) ? undefined : new Response(null, { status: 400 })),
      websocket: {
        open(socket) {
          const greeting = new HandSocket(new URL("ws://hand"));
          greeting.addEventListener("message", (event) => socket.send((event as { data: string }).data));
          greeting.greet();
          greeting.say("subscribed", { topics: [], rejected: [], cursor: "e.1" });
        },
        message(socket, text) {
          const { id, type } = JSON.parse(String(text));
          const say = (type: string, payload: object, rest: object) =>
            socket.send(JSON.stringify({ id: `${type} ${id}`, type, timestamp, payload, ...rest }));
          if (type === "subscribe") {
            const topics = [{ topic, seq: 183 }];
            say("subscribed", { topics, rejected: [], cursor: "e.2" }, { reply_to: id });
          }
          if (type !== "message.send") return;
          // One write, as a device that has stood still finds it.
          socket.cork(() => {
            say("ack", { message_id: "m1", topic, seq: 184, position: 7, duplicate: false }, { reply_to: id });
            const topics = [{ topic, seq: 180, recovered: false }];
            say("subscribed", { topics, rejected: [], cursor: "f.1" }, {});
            say("message.new", { conversation_id: "c1", message_id: "m2", sender_id: "ben" }, { topic, seq: 184 });
          });
        },
      },
    });
    const device = new Device({
      userId: "anna",
      deviceId: "d1",
      conversationIds: ["c1"],
      urls: [`ws://127.0.0.1:${server.port}/ws`],
      recorder: new Recorder(),
      random: { ...createRandom(1), chance: () => byOutbox },
    });
    try {
      device.connect();
      expect(await device.until(() => device.state === "live", 5_000)).toBe(true);
      const sent = { conversation_id: "c1", client_message_id: "m1", content: "hello" };
      device.sendMessage(sent);
      expect(await device.until(() => device.newest.get("c1")?.seq === 184, 5_000)).toBe(true);
      // An answer may be written down twice, by whoever asked and by whoever heard of it.
      expect(device.told.slice(0, -2)).not.toEqual([]);
      for (const told of device.told.slice(0, -2)) expect(told).toEqual({ kind: "own", topic, seq: 184 });
      expect(device.told.slice(-2)).toEqual([
        { kind: "anew", topic },
        { kind: "event", topic, seq: 184 },
      ]);
    } finally {
      device.signOff();
      await server.stop(true);
    }
  },
);

test.each([true, false])(
  "[LOG6] what a device has asked to acknowledge it may find acknowledged in the middle of coming back, and is not told again; nothing else is left out; asked: %p",
  async (hasAsked) => {
    let head = 0;
    let acked = 0;
    let lines = 0;
    let line!: ServerWebSocket<undefined>;
    const say = (type: string, payload: object, rest: object = {}) =>
      void line.send(JSON.stringify({ id: crypto.randomUUID(), type, timestamp, payload, ...rest }));
    const tell = (seq: number) => {
      const payload = { conversation_id: "c1", message_id: `m${seq}`, sender_id: "ben" };
      say("message.new", payload, { topic, seq, position: seq });
    };
    const positionOf = (cursor: string) => Number(cursor.slice("abcdefgh.".length));
    const server = Bun.serve({
      port: 0,
      fetch: (request, server) => (server.upgrade(request) ? undefined : new Response(null, { status: 400 })),
      websocket: {
        open(socket) {
          line = socket;
          lines++;
          const hand = new HandSocket(new URL("ws://hand"));
          hand.addEventListener("message", (event) => socket.send((event as { data: string }).data));
          hand.greet();
        },
        message(socket, text) {
          if (socket !== line) return;
          const { id, type, payload } = JSON.parse(String(text));
          const reply = (type: string, payload: object) => say(type, payload, { reply_to: id });
          const cursor = `abcdefgh.${head}`;
          if (type === "ping") return reply("pong", { cursor });
          if (type === "ack") {
            // The second one it reads late, and its answer finds nobody.
            if (acked > 0) return;
            acked = positionOf(payload.cursor);
            return reply("ack", { cursor });
          }
          if (type !== "subscribe") return;
          if (!payload.topics.includes(topic)) return reply("subscribed", { topics: [], rejected: [], cursor });
          if (lines === 3) {
            acked = 3;
            head = 4;
          }
          if (payload.since === "acked") for (let seq = acked + 1; seq <= head; seq++) tell(seq);
          const recovered = payload.since && { recovered: true };
          reply("subscribed", {
            topics: [{ topic, seq: head, ...recovered }],
            rejected: [],
            cursor: `abcdefgh.${head}`,
          });
        },
      },
    });
    const random = createRandom(1);
    const recorder = new Recorder();
    const device = new Device({
      ...{ userId: "anna", deviceId: "d1", conversationIds: ["c1"], urls: [`ws://127.0.0.1:${server.port}/ws`] },
      recorder,
      // The second line goes on from what was acknowledged, and so does the third one, for that one breaks.
      random: { ...random, chance: (part) => part === 0.1 && lines === 1 },
    });
    const isToldOf = (seq: number) => device.until(() => device.newest.get("c1")?.seq === seq, 5_000);
    try {
      device.connect();
      expect(await device.until(() => device.state === "live", 5_000)).toBe(true);
      tell(++head);
      expect(await isToldOf(1)).toBe(true);
      await device.ping();
      await device.acknowledge();
      tell(++head);
      tell(++head);
      expect(await isToldOf(3)).toBe(true);
      await device.ping();
      if (hasAsked) void device.acknowledge();
      device.dropsReplayAfter = 1;
      device.drop();
      expect(await isToldOf(4)).toBe(true);
      expect(await device.until(() => device.state === "live", 5_000)).toBe(true);
      expect(device.told.flatMap(({ kind, seq }) => (kind === "event" ? [seq] : []))).toEqual([1, 2, 3, 2, 4]);
      const facts = factsOf(recorder.history);
      const left = `anna/d1 was sent ${topic} 3, and did not tell it`;
      expect(toldRules.flatMap((rule) => rule.look(facts)).map(({ text }) => text)).toEqual(hasAsked ? [] : [left]);
    } finally {
      device.signOff();
      await server.stop(true);
    }
  },
);

test("[LOG4] a program that dies while it says goodbye starts again once", async () => {
  const server = Bun.serve({
    port: 0,
    fetch: (request, server) => (server.upgrade(request) ? undefined : new Response(null, { status: 400 })),
    websocket: {
      open(socket) {
        const hand = new HandSocket(new URL("ws://hand"));
        hand.addEventListener("message", (event) => socket.send((event as { data: string }).data));
        hand.greet();
      },
      message(socket, text) {
        const { id, type, payload } = JSON.parse(String(text));
        if (type !== "subscribe") return;
        const topics = payload.topics.includes(topic) ? [{ topic, seq: 1 }] : [];
        const answer = { topics, rejected: [], cursor: "abcdefgh.1" };
        socket.send(JSON.stringify({ id: `s${id}`, type: "subscribed", timestamp, payload: answer, reply_to: id }));
      },
    },
  });
  const random = createRandom(1);
  let starts = 0;
  let dies = false;
  const device = new Device({
    ...{ userId: "anna", deviceId: "d1", conversationIds: ["c1"], urls: [`ws://127.0.0.1:${server.port}/ws`] },
    recorder: new Recorder(),
    random: { ...random, chance: (part) => dies && part === 0.3, between: (least) => [least, starts++][0]! },
  });
  const isLive = () => device.until(() => device.state === "live", 5_000);
  try {
    device.connect();
    expect(await isLive()).toBe(true);
    // Then a place is kept.
    device.leave();
    expect(await isLive()).toBe(true);
    dies = true;
    starts = 0;
    device.leave();
    device.drop();
    expect(await isLive()).toBe(true);
    expect(starts).toBe(1);
  } finally {
    device.signOff();
    await server.stop(true);
  }
});
