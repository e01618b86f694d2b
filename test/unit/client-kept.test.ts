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
function clientOf(userId: string | undefined, server: FakeServer, options: Partial<ClientOptions> = {}) {
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

/** Of nobody's signature: the client looks at it, and the fake server believes it. */
const tokenOf = (sub: string) => `e30.${Buffer.from(JSON.stringify({ sub })).toString("base64url")}.`;
const userOf = (token: string) => JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()).sub as string;
/** Has what anna was told and what she has not sent yet. */
async function storeOfAnna(server: FakeServer, options: Partial<ClientOptions>): Promise<MemoryStore> {
  const store = new MemoryStore();
  const anna = clientOf(undefined, server, { ...options, store });
  anna.start();
  const c = anna.conversation("c");
  c.subscribe(() => {});
  await until(c, ({ status, messages }) => status === "live" && messages.length === 1);
  await anna.stop();
  await anna.conversation("c").send("of anna");
  return store;
}
const privateOnes = { conversations: { c: ["anna", "ben", "carl"], d: ["anna", "ben"] } };
const tokenOptions: [how: string, optionsOf: (userId: string) => Partial<ClientOptions>][] = [
  ["token", (userId) => ({ token: tokenOf(userId) })],
  ["getToken", (userId) => ({ getToken: async () => tokenOf(userId) })],
];

for (const [how, optionsOf] of tokenOptions) {
  test(`[LOG4] [LOG2] whose ${how} it is says whose that is which is kept, also without a connection`, async () => {
    const server = new FakeServer({ ...privateOnes, userOf });
    server.say("c", "carl", "private");
    const store = await storeOfAnna(server, optionsOf("anna"));
    server.stop();
    const ben = clientOf(undefined, server, { ...optionsOf("ben"), store });
    ben.start();
    await ben.conversation("d").send("of ben");
    expect(ben.conversation("c").current.messages).toEqual([]);
    expect(ben.userId).toBe("ben");
    expect(JSON.stringify(await store.read(""))).not.toInclude("anna");
    await ben.stop();
    server.start();
    const anna = clientOf(undefined, server, { ...optionsOf("anna"), store });
    anna.start();
    await anna.request("ping", {});
    await settled();
    expect(sentIn(server)).toEqual([]);
  });

  test(`[LOG4] who comes back with a ${how} finds what was kept, without a connection`, async () => {
    const server = new FakeServer({ ...privateOnes, userOf });
    server.say("c", "carl", "private");
    const store = await storeOfAnna(server, optionsOf("anna"));
    server.stop();
    const anna = clientOf(undefined, server, { ...optionsOf("anna"), store });
    const { messages } = await until(anna.conversation("c"), (view) => view.messages.length === 2);
    expect(messages.map(({ content }) => content)).toEqual(["private", "of anna"]);
  });
}

test("[LOG4] [LOG2] with a token that does not say whose it is nothing is shown or sent before the server has said it", async () => {
  const server = new FakeServer(privateOnes);
  server.say("c", "carl", "private");
  const store = await storeOfAnna(server, { token: "anna" });
  const ben = clientOf(undefined, server, { token: "ben", store });
  const sent = ben.conversation("d").send("of ben");
  await settled();
  expect(ben.conversation("c").current.messages).toEqual([]);
  ben.start();
  await sent;
  await until(ben.conversation("d"), ({ messages }) => messages.at(-1)?.state === "sent");
  expect(sentIn(server)).toEqual([["ben", "of ben"]]);
  expect(JSON.stringify(await store.read(""))).not.toInclude("anna");
});

test("[LOG4] [LOG2] who comes back with a token that does not say whose it is goes on as the device that was kept", async () => {
  const server = new FakeServer(privateOnes);
  server.say("c", "carl", "private");
  const store = await storeOfAnna(server, { token: "anna" });
  const { deviceId } = server.requestsOf("message.send")[0] ?? server.requests[0]!;
  const anna = clientOf(undefined, server, { token: "anna", store });
  anna.start();
  await until(anna.conversation("c"), ({ messages }) => messages.at(-1)?.state === "sent");
  expect(sentIn(server)).toEqual([["anna", "of anna"]]);
  expect(server.requestsOf("message.send")[0]!.deviceId).toBe(deviceId);
});

test("[LOG4] what was written while nobody knew who wrote it is not sent by the next one", async () => {
  const server = new FakeServer({ ...privateOnes, userOf });
  const store = new MemoryStore();
  const getToken = async () => Promise.reject(new Error("no network"));
  await clientOf(undefined, server, { getToken, store }).conversation("d").send("of somebody");
  const ben = clientOf(undefined, server, { token: tokenOf("ben"), store });
  ben.start();
  await ben.conversation("d").send("of ben");
  await until(ben.conversation("d"), ({ messages }) => messages.at(-1)?.state === "sent");
  expect(sentIn(server)).toEqual([["ben", "of ben"]]);
});

test("[LOG4] a token that comes late and is another's ends what was shown, without a connection", async () => {
  const server = new FakeServer({ ...privateOnes, userOf });
  server.say("c", "carl", "private");
  const store = await storeOfAnna(server, { token: tokenOf("anna") });
  server.stop();
  let asked = 0;
  const getToken = async () => (++asked === 1 ? Promise.reject(new Error("no network")) : tokenOf("ben"));
  const ben = clientOf(undefined, server, { getToken, store });
  await until(ben.conversation("c"), ({ messages }) => messages.length === 2);
  ben.start();
  await until(ben.conversation("c"), ({ messages }) => messages.length === 0);
  await ben.conversation("d").send("of ben");
  expect(ben.userId).toBe("ben");
  expect(JSON.stringify(await store.read(""))).not.toInclude("anna");
  expect(JSON.stringify(await store.read("session"))).toInclude("ben");
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
