/** Holds the client to what it keeps on a device where that is another user's, is not what it was, or is refused. */
import { afterEach, expect, test } from "bun:test";
import type { ClientOptions } from "../../src/client/client.ts";
import { Client } from "../../src/client/client.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";
import { FakeServer, until } from "../../src/client/testing.ts";

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
const running: Client[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((client) => client.stop()));
});

/** One that has not started. */
function clientOf(userId: string, server: FakeServer, options: Partial<ClientOptions> = {}) {
  const client = new Client({ url: "ws://fake/ws", userId, webSocket: server.webSocket, ...options });
  const errors: unknown[] = [];
  client.on("error", (error) => errors.push(error));
  running.push(client);
  return Object.assign(client, { errors });
}
const sentIn = (server: FakeServer) =>
  server.requestsOf("message.send").map(({ userId, payload }) => [userId, payload.content]);

test("[LOG2] [LOG4] what somebody has written who was never connected is not sent by the next user of the device", async () => {
  const server = new FakeServer({ isOpen: true });
  const store = new MemoryStore();
  await clientOf("anna", server, { store }).conversation("c").send("of anna");
  const ben = clientOf("ben", server, { store });
  const sent = ben.conversation("c").send("of ben");
  ben.start();
  expect(await sent).toMatchObject({ content: "of ben" });
  await until(ben.conversation("c"), ({ messages }) => messages.at(-1)?.state === "sent");
  expect(sentIn(server)).toEqual([["ben", "of ben"]]);
});

test("[LOG2] [LOG4] what somebody has written and not sent is not sent by the next user, however early that one writes", async () => {
  const server = new FakeServer({ isOpen: true });
  const store = new MemoryStore();
  const anna = clientOf("anna", server, { store });
  anna.start();
  await anna.request("ping", {});
  await anna.stop();
  await anna.conversation("c").send("of anna");
  const ben = clientOf("ben", server, { store });
  const sent = ben.conversation("c").send("of ben");
  ben.start();
  expect(await sent).toMatchObject({ content: "of ben" });
  await until(ben.conversation("c"), ({ messages }) => messages.at(-1)?.state === "sent");
  expect(sentIn(server)).toEqual([["ben", "of ben"]]);
});

test("[LOG4] the next user of a device sees nothing of the one before, also without a connection", async () => {
  const server = new FakeServer({ conversations: { c: ["anna", "carl"] } });
  server.say("c", "carl", "private");
  const store = new MemoryStore();
  const anna = clientOf("anna", server, { store });
  anna.start();
  const c = anna.conversation("c");
  c.subscribe(() => {});
  await until(c, ({ status, messages }) => status === "live" && messages.length === 1);
  await anna.stop();
  const ben = clientOf("ben", server, { store });
  ben.conversations().subscribe(() => {});
  await settled();
  expect(ben.conversation("c").current).toMatchObject({ status: "loading", messages: [] });
  expect(ben.conversations().current.items).toEqual([]);
  expect(JSON.stringify(await store.read(""))).not.toInclude("private");
});

test("[LOG4] a conversation that is kept otherwise than it should be is loaded anew, and the others are as they were kept", async () => {
  const server = new FakeServer({ conversations: { a: ["anna", "carl"], b: ["anna", "carl"] } });
  for (const id of ["a", "b"]) server.say(id, "carl", `in ${id}`);
  const store = new MemoryStore();
  const before = clientOf("anna", server, { store });
  before.start();
  before.conversations().subscribe(() => {});
  await until(before.conversations(), ({ status, items }) => status === "live" && items.length === 2);
  await before.stop();
  await store.write([["conversation/a", { messages: null }]]);
  const anna = clientOf("anna", server, { store });
  anna.conversations().subscribe(() => {});
  await until(anna.conversations(), ({ items }) => items.length === 1);
  expect(anna.conversations().current.items.map(({ id }) => id)).toEqual(["b"]);
  expect(anna.errors).toHaveLength(1);
  anna.start();
  await until(anna.conversations(), ({ status, items }) => status === "live" && items.length === 2);
  for (const { id, lastMessage } of anna.conversations().current.items) expect(lastMessage?.content).toBe(`in ${id}`);
});

test("[LOG4] [LOG8] what is loaded anew while a page is on its way has its newest page as well", async () => {
  const server = new FakeServer({ conversations: { c: ["anna", "carl"] } });
  for (let n = 1; n <= 60; n++) server.say("c", "carl", `${n}`);
  const anna = clientOf("anna", server);
  anna.start();
  const c = anna.conversation("c");
  c.subscribe(() => {});
  const release = server.hold("history");
  await server.received("history");
  c.reload();
  await until(c, ({ status }) => status === "live");
  release();
  await until(c, ({ isLoadingOlder, messages }) => !isLoadingOlder && messages.length > 0);
  expect(c.current.messages).toHaveLength(51);
});
