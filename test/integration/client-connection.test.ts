/** Plays the client's connection against the real service: it comes live, comes back, and tells each event once. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import type { News } from "../../src/client/core.ts";
import { connection, stopConnections, watchedSockets } from "../support/connections.ts";
import { type Service, startService } from "../support/service.ts";

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterEach(() => stopConnections());
afterAll(() => service.stop());

const isMessage = (content: string) => (news: News) =>
  news.kind === "event" && news.event.type === "message.new" && news.event.payload.content === content;

function send(from: ReturnType<typeof connection>, conversation_id: string, content: string) {
  return from.connection.request("message.send", { conversation_id, client_message_id: content, content });
}

test("[CON5] [SUB2] it comes live, is told of its own topics, and answers requests that were asked before", async () => {
  const anna = connection({ url: service.url, userId: "anna" });
  const pong = anna.connection.request("ping", {});
  anna.connection.start();
  await anna.live();
  expect((await pong).server_time).toBeString();
  expect(anna.connection.userId).toBe("anna");
  expect(anna.connection.deviceId).toBeString();
  await anna.told((news) => news.kind === "subscribed" && news.topics.some(({ topic }) => topic === "user:anna"));
});

test("[LOG3] [SUB6] what others say comes once over a reconnect, and what it has said itself not at all", async () => {
  const sockets = watchedSockets();
  const anna = connection({ url: service.url, userId: "anna", webSocket: sockets.webSocket });
  const ben = connection({ url: service.url, userId: "ben" });
  for (const it of [anna, ben]) {
    it.connection.start();
    await it.connection.follow(["conversation"], { conversation_id: "c1" }).ready;
  }
  await send(ben, "c1", "one");
  await anna.told(isMessage("one"));
  await send(anna, "c1", "mine");
  sockets.cut();
  await anna.state(({ status }) => status === "waiting");
  await send(ben, "c1", "two");
  await anna.told(isMessage("two"));
  expect(anna.events("message.new").map(({ payload }) => payload.content)).toEqual(["one", "two"]);
});

test("[SUB1] what is followed while it comes back is asked for as well", async () => {
  const anna = connection({ url: service.url, userId: "anna" });
  const ready = new Promise((resolve) => {
    const unlisten = anna.connection.onNews(() => {
      unlisten();
      expect(anna.connection.state.status).toBe("connecting");
      resolve(anna.connection.follow(["conversation:c1"]).ready);
    });
  });
  anna.connection.start();
  await ready;
  await anna.live();
});
