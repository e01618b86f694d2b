/** A device of the checker against a server by hand: what it writes down is in the order in which it came [LOG3] [LOG4]. */
import { expect, test } from "bun:test";
import { Device } from "../support/checker/device.ts";
import { Recorder } from "../support/checker/history.ts";
import { createRandom } from "../support/checker/random.ts";
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
