/** Proves what the docs say of an outage of PostgreSQL: what goes on, what is `unavailable`, and that both are back after it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client } from "../support/client.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { startProxy } from "../support/proxy.ts";
import { type Service, startService } from "../support/service.ts";
import { unavailableTypes } from "../support/unavailable.ts";

let server: PostgresServer;
let service: Service;
beforeAll(async () => {
  server = await startPostgres();
  const url = await server.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  // Keeps known for all of the test what has been asked for before.
  const settings = { DIRECTORY__CACHE_TTL: "1h", EVENTS: "poll.vote=logged,recording=passing" };
  service = await startService({ settings: { STORAGE__URL: url, ...settings } });
});
afterAll(async () => {
  await service?.stop();
  await server?.stop();
});

const connect = (user_id: string) => Client.connect(service.url, { query: { user_id } });
const sdp = "v=0";
const callTo = (to_user_id: string) => ({ call_id: crypto.randomUUID(), to_user_id, media: "audio", sdp });

/** Two users of one conversation, both of them live on it. */
async function pair(conversationId: string, userIds: [string, string]): Promise<[Client, Client]> {
  const clients = [await connect(userIds[0]), await connect(userIds[1])] as [Client, Client];
  const topics = [`conversation:${conversationId}`, `typing:${conversationId}`];
  // The first time it joins, the second time it is remembered as a member.
  for (const client of [...clients, ...clients]) await client.ask("subscribe", { topics });
  return clients;
}

test("[ADM1] while PostgreSQL is there and does not answer admin.stats has all that is not its", async () => {
  const url = new URL(await server.newDatabase());
  await migrateStorage({ url: url.href, lockTimeoutMs: 10_000 });
  const link = await startProxy(Number(url.port));
  url.port = String(link.port);
  // Longer than anybody here waits.
  const frozen = await startService({ settings: { STORAGE__URL: url.href, STORAGE__QUERY_TIMEOUT: "60s" } });
  const root = await Client.connect(frozen.url, { query: { user_id: "root", roles: "admin" } });
  link.freeze();
  const { nodes, missing_nodes } = await root.ask("admin.stats");
  expect(missing_nodes).toEqual([]);
  expect(nodes[0].figures.hub.connections).toBe(1);
  expect(Object.keys(nodes[0].figures.log).sort()).toEqual(["epoch", "held_ms", "losses", "waiting"]);
  link.heal();
  await frozen.stop();
  await link.stop();
});

test.skipIf(process.env.TEST_DATABASE_URL !== undefined)(
  "[ENV4] [PUB1] [TYP1] [CALL3] [CALL4] [CON1] without PostgreSQL typing and calls that exist go on, the rest is unavailable",
  async () => {
    const [anna, ben] = await pair("c1", ["anna", "ben"]);
    const [carl, dora] = await pair("c2", ["carl", "dora"]);
    const [eve, finn] = await pair("c3", ["eve", "finn"]);
    const shop = await Client.connect(service.url, { query: { user_id: "shop", roles: "service" } });
    const { message_id } = await anna.ask("message.send", {
      conversation_id: "c1",
      client_message_id: "m1",
      content: "hello",
    });
    await ben.next("message.new");
    const [active, answered, cancelled] = [callTo("ben"), callTo("dora"), callTo("finn")];
    await carl.ask("call.offer", answered);
    await eve.ask("call.offer", cancelled);
    await anna.ask("call.offer", active);
    await ben.ask("call.answer", { call_id: active.call_id, sdp });

    const { cursor } = await ben.ask("ping");
    await server.halt();
    const refused = async (client: Client, type: string, payload: object) => {
      const reply = await client.request(type, payload);
      return [type, reply.type, reply.payload.code];
    };
    const unavailable: [string, object][] = [
      ["subscribe", { topics: ["conversation:c1"] }],
      ["message.send", { conversation_id: "c1", client_message_id: "m2", content: "hello?" }],
      ["mark.delivered", { conversation_id: "c1", message_ids: [message_id] }],
      ["mark.read", { conversation_id: "c1", up_to_seq: 1 }],
      ["history", { topic: "conversation:c1" }],
      ["members", { conversation_id: "c1" }],
      ["event.send", { conversation_id: "c1", type: "poll.vote", payload: {} }],
      ["subscribe", { topics: ["presence:anna"] }],
      ["ack", { cursor }],
      ["presence.query", { user_ids: ["anna"] }],
      ["presence.update", { status: "busy" }],
      ["call.offer", callTo("anna")],
    ];
    for (const [type, payload] of unavailable)
      expect(await refused(ben, type, payload)).toEqual([type, "error", "unavailable"]);
    const event = { conversation_id: "c1", type: "poll.closed", payload: {} };
    expect(await refused(shop, "publish", event)).toEqual(["publish", "error", "unavailable"]);
    expect((await fetch(`${service.http}/ws?user_id=anna`, { headers: upgrade })).status).toBe(503);
    expect((await fetch(`${service.http}/live`)).status).toBe(200);

    await shop.ask("publish", { ...event, logged: false });
    await ben.next("poll.closed");
    await anna.ask("event.send", { conversation_id: "c1", type: "recording", payload: {} });
    await ben.next("recording");
    await anna.ask("typing.start", { conversation_id: "c1" });
    await ben.next("typing.start");
    await anna.ask("typing.stop", { conversation_id: "c1" });
    await ben.next("typing.stop");
    await ben.ask("unsubscribe", { topics: ["typing:c1"] });
    // Served from what is known here, which is no sign that PostgreSQL is back.
    await ben.ask("subscribe", { topics: ["typing:c1"] });
    expect((await refused(ben, "subscribe", { topics: ["conversation:c1"] }))[2]).toBe("unavailable");
    await anna.ask("call.offer", { call_id: active.call_id, sdp });
    await ben.next("call.offer");
    await anna.ask("call.ice", { call_id: active.call_id, candidates: null });
    await ben.next("call.ice");
    await ben.ask("call.hangup", { call_id: active.call_id });
    await anna.next("call.ended");
    await dora.ask("call.answer", { call_id: answered.call_id, sdp });
    await carl.next("call.answer");
    await eve.ask("call.hangup", { call_id: cancelled.call_id });
    await finn.next("call.ended");

    await server.resume();
    const again = async () => (await anna.request("presence.query", { user_ids: ["anna"] })).type;
    while ((await again()) === "error");
    await anna.ask("call.offer", callTo("ben"));
    // A call's end that could not be logged then is logged now.
    await finn.next("call.ended", (_, { topic }) => topic === "user:finn");
    await ben.ask("subscribe", { topics: ["conversation:c1"] });
    await service.logged(({ msg }) => msg === "the storage takes requests again");
    const lines = service.logs.filter(({ msg }) => /^the storage (refuses|takes) requests/.test(msg));
    expect(lines.map(({ msg }) => msg)).toEqual(["the storage refuses requests", "the storage takes requests again"]);
  },
  60_000,
);

test.skipIf(process.env.TEST_DATABASE_URL !== undefined)(
  "[BAK3] [CALL1] without PostgreSQL a call to somebody without a device is taken like any, and told of once that is back, once",
  async () => {
    const url = await server.newDatabase();
    await migrateStorage({ url, lockTimeoutMs: 10_000 });
    const settings = { STORAGE__URL: url, DIRECTORY__MODE: "managed", DIRECTORY__CACHE_TTL: "1h" };
    const managed = await startService({ settings });
    const come = (query: Record<string, string>) => Client.connect(managed.url, { query });
    const root = await come({ user_id: "root", roles: "admin,service" });
    await root.ask("admin.users.upsert", { user_ids: ["anna", "ben", "carl"] });
    await root.ask("admin.members.add", { conversation_id: "c1", user_ids: ["anna", "ben", "carl"] });
    await root.ask("subscribe", { topics: ["missed"] });
    const anna = await come({ user_id: "anna" });
    const carl = await come({ user_id: "carl" });
    // Their memberships are remembered by it.
    for (const user of ["ben", "carl"]) await anna.ask("call.offer", { ...callTo(user), conversation_id: "c1" });
    await server.halt();
    const call = { ...callTo("ben"), conversation_id: "c1" };
    for (let at = 0; at < 2; at++) expect(await anna.ask("call.offer", call)).toEqual({});
    // One with a device is told apart by nothing.
    const reached = { ...callTo("carl"), conversation_id: "c1" };
    expect(await anna.ask("call.offer", reached)).toEqual({});
    await carl.next("call.incoming", ({ call_id }) => call_id === reached.call_id);
    await server.resume();
    await root.next("call.unreached", ({ call_id }) => call_id === call.call_id);
    await anna.ask("call.offer", call);
    await root.settled();
    const told = root.all("call.unreached").filter(({ payload }) => payload.call_id === call.call_id);
    expect(told).toHaveLength(1);
    await managed.stop();
  },
  60_000,
);

test.skipIf(process.env.TEST_DATABASE_URL !== undefined)(
  "[ENV4] without PostgreSQL every request is either served or unavailable, and nothing is a fault",
  async () => {
    const queries = Array.from({ length: 24 }, (_, at) => ({ user_id: `w${at}`, roles: "service,admin" }));
    const clients = await Promise.all(queries.map((query) => Client.connect(service.url, { query })));
    // Most of them are looked up to the end by then.
    for (const client of clients) await client.ask("presence.query", { user_ids: ["u2"] });
    await server.halt();
    // Says more than what is so already, which is kept nowhere.
    const filledIn = { "presence.update": { status: "busy" } };
    expect(await unavailableTypes(clients, { examplesMax: 1, filledIn })).toEqual([
      "ack",
      "admin.block",
      "admin.conversations.update",
      "admin.members",
      "admin.members.add",
      "admin.members.remove",
      "admin.members.update",
      "admin.topic",
      "admin.user",
      "admin.users.disable",
      "admin.users.erase",
      "admin.users.erasure",
      "admin.users.upsert",
      "authenticate",
      "call.offer",
      "event.send",
      "history",
      "mark.delivered",
      "mark.read",
      "members",
      "message.delete",
      "message.edit",
      "message.send",
      "presence.query",
      "presence.update",
      "publish",
      "reaction.add",
      "reaction.remove",
      "subscribe",
      "typing.start",
    ]);
    await server.resume();
    expect(service.logs.filter(({ msg }) => msg === "handler failed")).toEqual([]);
  },
  60_000,
);

const upgrade = {
  connection: "upgrade",
  upgrade: "websocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
};
