/** Proves what a connection with role `service` may see of others, that it has no part in it, and whom it reaches, on both engines [BAK1]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { migrateStorage } from "../../src/storage/migrate.ts";
import type { Client } from "../support/client.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Service, startService } from "../support/service.ts";
import { signToken } from "../support/tokens.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

const settings = { DIRECTORY__MODE: "managed", PRESENCE__UPDATE_INTERVAL: "50ms" };

/** Where clients are, and where backends are: one node, or two. */
interface Place {
  users: Service;
  backends: Service;
  stop(): Promise<void>;
}

async function startSqlite(): Promise<Place> {
  const service = await startService({ settings });
  return { users: service, backends: service, stop: () => service.stop() };
}

async function startPostgresAndRedis(): Promise<Place> {
  const [server, redis]: [PostgresServer, RedisServer] = await Promise.all([startPostgres(), startRedis()]);
  const url = await server.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  const startNode = () => startService({ settings: { ...settings, STORAGE__URL: url, CLUSTER__URL: redis.url } });
  const [users, backends] = await Promise.all([startNode(), startNode()]);
  return {
    users,
    backends,
    async stop() {
      await Promise.all([users.stop(), backends.stop()]);
      await Promise.all([server.stop(), redis.stop()]);
    },
  };
}

const isOf = (userId: string) => (payload: any) => payload.user_id === userId;
const namesOf = (topics: { topic: string }[]) => topics.map(({ topic }) => topic);

describe.each([
  ["SQLite, one node", startSqlite],
  ["PostgreSQL and Redis, two nodes", startPostgresAndRedis],
])("%s", (_, start) => {
  let place: Place;
  beforeAll(async () => {
    place = await start();
  });
  afterAll(() => place?.stop());
  const { connect } = createPeople(() => place.users.url);
  const { backend, connect: connectBackend } = createPeople(() => place.backends.url);

  /** A conversation of anna and ben, who are here, an operator and a backend. */
  async function scene() {
    const [c, anna, ben] = [fresh("c"), fresh("anna"), fresh("ben")];
    const admin = await connect(fresh("root"), { roles: "admin" });
    await admin.ask("admin.users.upsert", { user_ids: [anna, ben] });
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: [anna, ben] });
    const clients = { anna: await connect(anna), ben: await connect(ben) };
    return { c, anna, ben, clients, admin, server: await backend() };
  }

  test("[BAK1] it hears any conversation and who types there, and is no member by that", async () => {
    const { c, anna, clients, server } = await scene();
    const topics = [`conversation:${c}`, `typing:${c}`];
    expect(namesOf((await server.ask("subscribe", { topics })).topics)).toEqual(topics);
    await clients.anna.ask("typing.start", { conversation_id: c });
    await server.next("typing.start", isOf(anna));
    const [{ seq }] = await sendAll(clients.anna, c, ["hello"]);
    expect(await server.next("message.new")).toMatchObject({ topic: topics[0], seq, payload: { content: "hello" } });
    await server.next("typing.stop", isOf(anna));
    // It speaks as nobody there, and marks nothing.
    for (const [type, payload] of [
      ["message.send", { client_message_id: "m1", content: "I, too" }],
      ["mark.read", { up_to_seq: seq }],
      ["mark.delivered", { up_to_seq: seq }],
      ["typing.start", {}],
    ] as const) {
      const { payload: refusal } = await server.request(type, { conversation_id: c, ...payload });
      expect(refusal).toMatchObject({ code: "forbidden", field: "payload.conversation_id" });
    }
    // All of its own are none.
    const own = await server.ask("subscribe", { topics: ["conversation", "typing", "presence"] });
    expect(own).toMatchObject({ topics: [], rejected: [] });
  });

  test("[BAK1] [SUB3] no change of members takes it off, not even its own removal", async () => {
    const { c, ben, clients, admin } = await scene();
    const robot = fresh("robot");
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: [robot] });
    const server = await connectBackend(robot, { roles: "service" });
    await server.ask("subscribe", { topics: [`conversation:${c}`, `typing:${c}`, `presence:${ben}`] });
    await clients.ben.ask("subscribe", { topics: [`conversation:${c}`] });
    await admin.ask("admin.members.remove", { conversation_id: c, user_ids: [robot, ben] });
    await clients.ben.next("unsubscribed", ({ reason }) => reason === "access_revoked");
    const [{ seq }] = await sendAll(clients.anna, c, ["still there?"]);
    await server.next("message.new", (_payload, message) => message.seq === seq);
    await clients.ben.ask("presence.update", { status: "busy" });
    await server.next("presence.update", isOf(ben));
    expect(server.all("unsubscribed")).toEqual([]);
  });

  test("[BAK1] [PRE5] [SUB3] it watches the presence of anybody, and of whoever comes into a conversation", async () => {
    const { c, anna, ben, admin, server, clients } = await scene();
    const stranger = fresh("stranger");
    const asked = { topics: ["presence"], filters: { conversation_id: c, user_ids: [stranger] } };
    const { topics, rejected } = await server.ask("subscribe", asked);
    expect(rejected).toEqual([]);
    expect(new Set(namesOf(topics))).toEqual(new Set([anna, ben, stranger].map((id) => `presence:${id}`)));
    const shown = topics.find(({ topic }: any) => topic === `presence:${anna}`);
    expect(shown.snapshot.presence).toMatchObject({ status: "online" });
    await admin.ask("admin.users.upsert", { user_ids: [stranger] });
    await connect(stranger);
    await server.next("presence.online", isOf(stranger));
    const carl = fresh("carl");
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: [carl] });
    const joined = await server.next("subscribed", ({ topics }) => namesOf(topics).includes(`presence:${carl}`));
    expect(joined.payload.topics[0].snapshot.presence).toEqual({ user_id: carl, status: "offline" });
    await clients.ben.close();
    await server.next("presence.offline", isOf(ben));
  });

  test("[BAK1] [SUB4] it leaves the presence of a conversation's members by its id, as it has come", async () => {
    const { c, anna, ben, server } = await scene();
    const watched = { topics: ["presence"], filters: { conversation_id: c } };
    const expected = [`presence:${anna}`, `presence:${ben}`];
    expect(namesOf((await server.ask("subscribe", watched)).topics).sort()).toEqual(expected);
    expect((await server.ask("unsubscribe", watched)).topics.sort()).toEqual(expected);
  });

  test("[BAK1] [PRE4] presence.query is answered truthfully, but for the invisible, who are offline", async () => {
    const { anna, ben, clients, server } = await scene();
    await clients.ben.ask("presence.update", { status: "busy", status_text: "lunch" });
    const ask = async (client: Client) => (await client.ask("presence.query", { user_ids: [anna, ben] })).users;
    expect(await ask(server)).toEqual([
      { user_id: anna, status: "online" },
      { user_id: ben, status: "busy", status_text: "lunch" },
    ]);
    await clients.ben.ask("presence.update", { status: "invisible" });
    const [, hidden] = await ask(server);
    expect(hidden).toEqual({ user_id: ben, status: "offline", last_seen: expect.any(String) });
    // Somebody who shares nothing with them, and has no role, learns nothing at all.
    const user = fresh("eve");
    const operator = await connect(fresh("root"), { roles: "admin" });
    await operator.ask("admin.users.upsert", { user_ids: [user] });
    for (const client of [await connect(user), operator]) {
      expect(await ask(client)).toEqual([anna, ben].map((user_id) => ({ user_id, status: "offline" })));
    }
  });

  test("[BAK1] [LOG8] it reads the history of everything that is logged, and of nothing else", async () => {
    const { c, anna, clients, server } = await scene();
    await sendAll(clients.anna, c, ["one", "two"]);
    await server.ask("publish", { user_ids: [anna], type: "notification", payload: { n: 1 } });
    await server.ask("publish", { user_ids: [anna], type: "order.paid", payload: { n: 2 } });
    const typesOf = async (topic: string) =>
      (await server.ask("history", { topic })).events.map(({ type }: any) => type);
    expect(await typesOf(`conversation:${c}`)).toEqual(["message.new", "message.new"]);
    expect(await typesOf(`notifications:${anna}`)).toEqual(["notification"]);
    expect(await typesOf(`user:${anna}`)).toEqual(["order.paid"]);
    expect(await typesOf(`conversation:${fresh("nowhere")}`)).toEqual([]);
    const stranger = await connect(fresh("root"), { roles: "admin" });
    for (const topic of [`typing:${c}`, `presence:${anna}`, `calls:${anna}`, "log", "conversation"])
      expect((await server.request("history", { topic })).payload).toMatchObject({ code: "forbidden" });
    for (const topic of [`conversation:${c}`, `notifications:${anna}`, `user:${anna}`])
      expect((await stranger.request("history", { topic })).payload).toMatchObject({ code: "forbidden" });
    // On them is their user alone, whatever is in the log.
    const own = [`user:${anna}`, `notifications:${anna}`, `calls:${anna}`];
    expect((await server.ask("subscribe", { topics: own })).rejected).toEqual(
      own.map((topic) => ({ topic, code: "forbidden" })),
    );
  });

  test("[PUB1] [TYP2] a published message ends its author's typing, logged or not, and leaves out one device, on whichever node", async () => {
    const { c, anna, ben, clients, server } = await scene();
    const tablet = await connect(ben, { device_id: "tablet" });
    const listeners = [clients.ben, tablet];
    for (const listener of listeners) await listener.ask("subscribe", { topics: [`conversation:${c}`, `typing:${c}`] });
    for (const [n, logged] of [true, false].entries()) {
      await clients.anna.ask("typing.start", { conversation_id: c });
      await tablet.until(() => (tablet.all("typing.start").length > n ? true : undefined));
      const payload = { sender_id: anna, content: String(logged) };
      const said = { conversation_id: c, type: "message.new", payload, logged, except_device: "tablet" };
      const { receivers } = await server.ask("publish", said);
      // Of other nodes nobody asks.
      expect(receivers).toBe(place.users === place.backends ? 1 : 0);
      await tablet.until(() => (tablet.all("typing.stop").length > n ? true : undefined));
      await clients.ben.next("message.new", ({ content }) => content === String(logged));
    }
    for (const topic of [`conversation:${c}`, `user:${ben}`])
      await server.ask("publish", { topic, type: "app.end", payload: {} });
    await tablet.until(() => (tablet.all("app.end").length === 2 ? true : undefined));
    expect(tablet.all("message.new")).toEqual([]);
  });
});

test("[BAK1] [PUB3] in an open directory it joins nothing by subscribing, asking and reading", async () => {
  const service = await startService();
  const { connect, backend } = createPeople(() => service.url);
  const [anna, server] = [await connect("anna"), await backend()];
  await sendAll(anna, "c1", ["hello"]);
  await server.ask("subscribe", { topics: ["conversation:c1", "typing:c1"] });
  await server.ask("subscribe", { topics: ["presence"], filters: { conversation_id: "c1" } });
  await server.ask("history", { topic: "conversation:c1" });
  const watched = await anna.ask("subscribe", { topics: ["presence"], filters: { conversation_id: "c1" } });
  expect(watched.topics).toEqual([]);
  expect((await server.ask("subscribe", { topics: ["conversation"] })).topics).toEqual([]);
  await Promise.all([anna.close(), server.close()]);
  await service.stop();
});

test("[BAK1] [PRE2] with presence.service_sees_invisible a backend is told of the invisible, and nobody else is", async () => {
  const service = await startService({
    settings: { PRESENCE__SERVICE_SEES_INVISIBLE: "true", PRESENCE__UPDATE_INTERVAL: "50ms" },
  });
  const { connect, backend, gather } = createPeople(() => service.url);
  const [anna, ben] = (await gather("c1", ["anna", "ben"])) as [Client, Client];
  const server = await backend();
  await server.ask("subscribe", { topics: ["presence:ben"] });
  await ben.ask("presence.update", {
    status: "invisible",
    status_text: "at the dentist",
    expires_at: "2999-01-01T00:00:00Z",
  });
  const ask = async (client: Client) => (await client.ask("presence.query", { user_ids: ["ben"] })).users[0];
  expect(await ask(server)).toEqual({ user_id: "ben", status: "invisible", status_text: "at the dentist" });
  const hidden = { user_id: "ben", status: "offline", last_seen: expect.any(String) };
  const operator = await connect("root", { roles: "admin" });
  expect(await ask(anna)).toEqual(hidden);
  expect((await ask(operator)).status).toBe("offline");
  // Events and snapshots are the same for all who watch.
  await server.next("presence.offline");
  const { topics } = await (await backend()).ask("subscribe", { topics: ["presence:ben"] });
  expect(topics[0].snapshot.presence).toEqual(hidden);
  await ben.close();
  await eventually(
    () => ask(server),
    ({ status }) => status === "offline",
  );
  await Promise.all([anna, server, operator].map((client) => client.close()));
  await service.stop();
});

test("[BAK1] [AUTH3] the rights end with the role: a refresh without it leaves what its user may not hear", async () => {
  const secret = "a secret of at least thirty-two bytes";
  const service = await startService({
    settings: { AUTH__MODE: "token", AUTH__SECRET: secret, DIRECTORY__MODE: "managed" },
  });
  const { connect } = createPeople(() => service.url);
  const exp = Math.floor(Date.now() / 1_000) + 600;
  const token = (sub: string, claims: object = {}) => signToken({ sub, exp, ...claims });
  const admin = await connect("root", { token: await token("root", { roles: ["admin"] }) });
  await admin.ask("admin.users.upsert", { user_ids: ["robot", "anna"] });
  await admin.ask("admin.members.add", { conversation_id: "mine", user_ids: ["robot"] });
  const robot = await connect("robot", { token: await token("robot", { roles: ["service"] }) });
  const topics = ["conversation:mine", "conversation:other", "typing:other", "presence:anna"];
  expect(namesOf((await robot.ask("subscribe", { topics })).topics)).toEqual(topics);
  await robot.ask("authenticate", { token: await token("robot") });
  const left = await robot.next("unsubscribed", ({ reason }) => reason === "access_revoked");
  expect(new Set(left.payload.topics)).toEqual(new Set(topics.slice(1)));
  expect((await robot.request("history", { topic: "conversation:other" })).payload.code).toBe("forbidden");
  await Promise.all([robot.close(), admin.close()]);
  await service.stop();
});
