/** Proves what operators see and may do on one node, and that nobody else may. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import * as v from "valibot";
import { type ClientMessageType, clientMessageTypes } from "../../src/protocol/client.ts";
import { serverPayloads } from "../../src/protocol/server.ts";
import { Client } from "../support/client.ts";
import { clientExamples } from "../support/examples.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

const isAdmin = (type: string): type is ClientMessageType => type.startsWith("admin.");
const adminTypes = clientMessageTypes.filter(isAdmin);

let service: Service;
beforeAll(async () => {
  service = await startService({
    settings: { CLUSTER__NODE_ID: "the-node", DIRECTORY__MODE: "managed", OPERATIONS__SHOW_PAYLOADS: "true" },
  });
  // In managed mode an operator has to be known before anybody else can be made known.
  const { Database } = await import("bun:sqlite");
  const database = new Database(`${service.folder}/data/ws-service.db`);
  database.exec("PRAGMA busy_timeout = 5000");
  for (const id of ["root", "root2"]) database.run("INSERT INTO users (user_id) VALUES (?)", [id]);
  database.close();
});
afterAll(() => service.stop());
const { connect } = createPeople(() => service.url);

const operator = (query: Record<string, string> = {}) => connect("root", { roles: "admin", ...query });
async function newUsers(admin: Client, ...names: string[]): Promise<string[]> {
  const ids = names.map(fresh);
  await admin.ask("admin.users.upsert", { user_ids: ids });
  return ids;
}
const idOf = async (client: Client): Promise<string> => (await client.next("connected")).payload.connection_id;
const refusal = async (client: Client, type: string, payload: object) => {
  const reply = await client.request(type, payload);
  return reply.type === "error" ? reply.payload : reply;
};
const topicsOf = (payload: any): string[] =>
  payload.topics.map((it: any) => (typeof it === "string" ? it : it.topic)).sort();

describe("who may", () => {
  test("[ADM1] without the role admin every message is forbidden and changes nothing", async () => {
    expect(adminTypes.length).toBeGreaterThan(13);
    const witness = await connect("root2", { device_id: fresh("d") });
    for (const roles of [undefined, "service"]) {
      const client = await connect("root2", roles === undefined ? {} : { roles });
      for (const type of adminTypes) {
        for (const payload of clientExamples[type]) {
          expect(await refusal(client, type, payload)).toMatchObject({ code: "forbidden", retryable: false });
        }
      }
    }
    await witness.settled();
    const admin = await operator();
    expect(await refusal(admin, "admin.users.disable", { user_id: "u9" })).toMatchObject({ code: "not_found" });
  });

  test("[ADM1] each request is logged with who made it, and so is a refused one", async () => {
    const admin = await operator();
    const connection_id = await idOf(admin);
    const many = Array.from({ length: 12 }, () => fresh("crowd"));
    const request = admin.send("admin.users.upsert", { user_ids: many });
    const line = await service.logged((it) => it.correlation_id === `${connection_id}:${request}`);
    expect(line).toMatchObject({
      level: "info",
      msg: "admin request",
      type: "admin.users.upsert",
      by: "root",
      connection_id,
      request: { user_ids: [...many.slice(0, 10), "and 2 more"] },
    });
    // A console asks on and on: that is for who debugs.
    await admin.ask("admin.nodes");
    await admin.ask("admin.users.upsert", { user_ids: [fresh("last")] });
    expect(service.logs.filter(({ msg, type }) => msg === "admin request" && type === "admin.nodes")).toEqual([]);
    const other = await connect("root2");
    const refused = other.send("admin.stats");
    expect(
      await service.logged(
        (it) => it.correlation_id === `${(other.received[0] as any).payload.connection_id}:${refused}`,
      ),
    ).toMatchObject({
      level: "warn",
      msg: "admin request refused",
      by: "root2",
      type: "admin.stats",
    });
  });

  test("[ADM1] [ENV3] every message has one reply, of its own type or ack, as the schema says", async () => {
    const admin = await operator();
    await newUsers(admin, "u");
    await admin.ask("admin.users.upsert", { user_ids: ["u8", "u9"] });
    for (const type of adminTypes) {
      for (const payload of clientExamples[type]) {
        const reply = await admin.request(type, payload);
        if (reply.type === "error") expect([type, reply.payload.code]).toEqual([type, "not_found"]);
        else {
          expect(reply.type).toBe(type in serverPayloads ? type : "ack");
          v.parse(serverPayloads[reply.type as "ack"], reply.payload);
        }
      }
    }
    expect(await refusal(admin, "admin.nothing", {})).toMatchObject({ code: "unknown_type" });
  });

  test("[ADM1] nobody publishes what looks like an operator's reply", async () => {
    const backend = await connect("root2", { roles: "service" });
    const event = { all: true, type: "admin.stats", payload: {} };
    expect(await refusal(backend, "publish", event)).toMatchObject({ code: "invalid_payload", field: "payload.type" });
  });
});

describe("what is there", () => {
  test("[ADM1] admin.stats counts connections, subscriptions, presence and the log", async () => {
    const admin = await operator();
    const [anna] = await newUsers(admin, "anna");
    const before = await admin.ask("admin.stats");
    expect(before).toMatchObject({ cluster: { nodes: 1 }, missing_nodes: [] });
    expect(before.nodes).toEqual([{ node_id: "the-node", figures: expect.any(Object) }]);
    const c = fresh("c");
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: [anna!] });
    const client = await connect(anna!);
    await client.ask("message.send", { conversation_id: c, client_message_id: "m1", content: "" });
    const after = await admin.ask("admin.stats");
    expect(after.hub.connections).toBeGreaterThanOrEqual(2);
    expect(after.presence.devices).toBeGreaterThanOrEqual(2);
    expect(after.hub.accepted - before.hub.accepted).toBe(1);
    expect(after.subscriptions.subscribes - before.subscriptions.subscribes).toBe(1);
    expect(after.log.events - before.log.events).toBe(1);
    expect(after.log.position).toBe(after.sequencer.position);
  });

  test("[ADM1] admin.connections: filters by user, node and address, and pages without a gap", async () => {
    const admin = await operator();
    const [anna, ben] = await newUsers(admin, "anna", "ben");
    const clients = await Promise.all([
      ...Array.from({ length: 7 }, () => connect(anna!)),
      connect(ben!, { device_id: "phone", roles: "service" }),
    ]);
    const ids = await Promise.all(clients.map(idOf));
    const of = async (payload: object) => admin.ask("admin.connections", payload);
    const annas = await of({ user_id: anna });
    expect(annas.connections.map((it: any) => it.connection_id)).toEqual(ids.slice(0, 7).sort());
    expect(annas).toMatchObject({ total: 7, next: null, missing_nodes: [] });
    expect((await of({ user_id: ben })).connections).toEqual([
      {
        connection_id: ids[7],
        node_id: "the-node",
        user_id: ben,
        device_id: "phone",
        address: "127.0.0.1",
        roles: ["service"],
        format: "json",
        connected_at: expect.any(String),
        last_heard_at: expect.any(String),
        buffered_bytes: 0,
      },
    ]);
    const paged: string[] = [];
    let pages = 0;
    for (let after: string | null | undefined; after !== null; pages++) {
      const page: any = await of({ user_id: anna, limit: 3, ...(after === undefined ? {} : { after }) });
      paged.push(...page.connections.map((it: any) => it.connection_id));
      expect(page.total).toBe(7);
      after = page.next;
    }
    expect(paged).toEqual(ids.slice(0, 7).sort());
    expect(pages).toBe(3);
    const everyone = (await of({ limit: 500 })).connections.map((it: any) => it.connection_id);
    for (const id of ids) expect(everyone).toContain(id);
    expect((await of({ user_id: anna, node_id: "the-node" })).total).toBe(7);
    expect((await of({ user_id: anna, address: "127.0.0.1" })).total).toBe(7);
    expect((await of({ user_id: anna, address: "192.0.2.1" })).total).toBe(0);
    expect((await of({ user_id: "nobody" })).connections).toEqual([]);
    expect(await refusal(admin, "admin.connections", { node_id: "another" })).toMatchObject({
      code: "not_found",
      field: "payload.node_id",
    });
  });

  test("[ADM1] admin.connection tells one connection and its topics", async () => {
    const admin = await operator();
    const [anna] = await newUsers(admin, "anna");
    const client = await connect(anna!, { device_id: "tablet" });
    const connection_id = await idOf(client);
    const { connection } = await admin.ask("admin.connection", { connection_id });
    expect(connection).toMatchObject({
      connection_id,
      user_id: anna,
      device_id: "tablet",
      topics: [`calls:${anna}`, `notifications:${anna}`, `user:${anna}`],
      topic_count: 3,
    });
    expect(await refusal(admin, "admin.connection", { connection_id: "none" })).toMatchObject({ code: "not_found" });
    await client.close();
    await eventually(
      () => refusal(admin, "admin.connection", { connection_id }),
      ({ code }) => code === "not_found",
    );
  });

  test("[ADM1] admin.topics lists what somebody hears, admin.topic its subscribers and head", async () => {
    const admin = await operator();
    const [anna, ben] = await newUsers(admin, "anna", "ben");
    const prefix = fresh("room");
    const conversations = Array.from({ length: 5 }, (_, n) => `${prefix}-${n}`);
    for (const conversation_id of conversations)
      await admin.ask("admin.members.add", { conversation_id, user_ids: [anna!, ben!] });
    const [one, two] = await Promise.all([connect(anna!), connect(ben!)]);
    await one.ask("subscribe", { topics: ["conversation", "typing"] });
    await two.ask("subscribe", { topics: [`conversation:${conversations[0]}`] });
    const whole = await admin.ask("admin.topics", { prefix: `conversation:${prefix}` });
    expect(whole).toEqual({
      topics: conversations.map((id, n) => ({ topic: `conversation:${id}`, subscribers: n === 0 ? 2 : 1 })),
      next: null,
      missing_nodes: [],
    });
    const first = await admin.ask("admin.topics", { prefix: `typing:${prefix}`, limit: 2 });
    const second = await admin.ask("admin.topics", { prefix: `typing:${prefix}`, limit: 2, after: first.next });
    expect([...topicsOf(first), ...topicsOf(second)]).toEqual(conversations.slice(0, 4).map((id) => `typing:${id}`));

    const topic = `conversation:${conversations[0]}`;
    const message = { conversation_id: conversations[0], client_message_id: "m1", content: "" };
    const { seq, position } = await one.ask("message.send", message);
    const found = await admin.ask("admin.topic", { topic });
    expect(found).toMatchObject({
      topic,
      subscribers: 2,
      nodes: [{ node_id: "the-node", subscribers: 2 }],
      head: { seq, position },
      missing_nodes: [],
    });
    expect(found.connections.map((it: any) => it.user_id).sort()).toEqual([anna, ben].sort());
    expect(await admin.ask("admin.topic", { topic: `typing:${conversations[0]}` })).toMatchObject({ head: null });
    const empty = await admin.ask("admin.topic", { topic: `conversation:${prefix}-none` });
    expect(empty).toMatchObject({ subscribers: 0, connections: [], head: { seq: 0, position: 0 } });
    for (const name of ["everyone", "conversation", "nothing:c1"]) {
      expect(await refusal(admin, "admin.topic", { topic: name })).toMatchObject({ field: "payload.topic" });
    }
  });

  test("[ADM1] admin.nodes lists the nodes, and that they answer", async () => {
    const admin = await operator();
    const { nodes, missing_nodes } = await admin.ask("admin.nodes");
    expect(missing_nodes).toEqual([]);
    expect(nodes).toMatchObject([{ node_id: "the-node", answers: true, version: expect.any(String) }]);
    expect(nodes[0].connections).toBeGreaterThan(0);
  });
});

describe("what is done about it", () => {
  test("[ADM1] [AUTH4] admin.disconnect closes with 4011: by user, by connection, by device, and no others", async () => {
    const admin = await operator();
    const [anna, ben] = await newUsers(admin, "anna", "ben");
    const device_id = fresh("phone");
    const open = () =>
      Promise.all([connect(anna!, { device_id }), connect(anna!), connect(ben!, { device_id }), connect(ben!)]);
    const reason = "a leaked token";
    const cases = [
      { of: async () => ({ user_id: anna }), gone: [0, 1] },
      { of: async (clients: Client[]) => ({ connection_id: await idOf(clients[1]!) }), gone: [1] },
      { of: async () => ({ device_id }), gone: [0, 2] },
      { of: async () => ({ device_id, user_id: ben }), gone: [2] },
      { of: async () => ({ user_id: "nobody" }), gone: [] },
    ];
    for (const { of, gone } of cases) {
      const clients = await open();
      const reply = await admin.ask("admin.disconnect", { ...(await of(clients)), reason });
      expect(reply).toEqual({ disconnected: gone.length, missing_nodes: [] });
      for (const [index, client] of clients.entries()) {
        if (gone.includes(index)) expect(await client.closed).toEqual({ code: 4011, reason });
        else {
          await client.settled();
          await client.close();
        }
      }
    }
    const [last] = await open();
    await admin.ask("admin.disconnect", { user_id: anna });
    expect(await last!.closed).toMatchObject({ code: 4011, reason: "disconnected by an administrator" });
    expect(await refusal(admin, "admin.disconnect", { reason })).toMatchObject({
      code: "invalid_payload",
      field: "payload.user_id",
    });
    const long = { user_id: anna, reason: "ü".repeat(62) };
    expect(await refusal(admin, "admin.disconnect", long)).toMatchObject({ field: "payload.reason" });
  });

  test("[ADM1] an operator who disconnects itself gets the reply first", async () => {
    const admin = await operator();
    const reply = await admin.ask("admin.disconnect", { connection_id: await idOf(admin), reason: "bye" });
    expect(reply).toEqual({ disconnected: 1, missing_nodes: [] });
    expect(await admin.closed).toEqual({ code: 4011, reason: "bye" });
  });

  test("[ADM1] admin.subscribe and admin.unsubscribe act on all connections of a user, with the user's own rights", async () => {
    const admin = await operator();
    const [anna] = await newUsers(admin, "anna");
    const [c, foreign] = [fresh("c"), fresh("c")];
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: [anna!] });
    const clients = await Promise.all([connect(anna!), connect(anna!)]);
    const topics = [`conversation:${c}`, `conversation:${foreign}`];
    const { connections } = await admin.ask("admin.subscribe", { user_id: anna, topics });
    expect(connections).toHaveLength(2);
    for (const client of clients) {
      const connection_id = await idOf(client);
      expect(connections).toContainEqual({
        connection_id,
        node_id: "the-node",
        topics: [`conversation:${c}`],
        rejected: [{ topic: `conversation:${foreign}`, code: "forbidden" }],
      });
      const told = await client.next("subscribed", (payload) => topicsOf(payload).includes(`conversation:${c}`));
      expect(told.reply_to).toBeUndefined();
    }
    expect((await admin.ask("admin.topic", { topic: topics[0] })).subscribers).toBe(2);
    const left = await admin.ask("admin.unsubscribe", { user_id: anna, topics: [topics[0]] });
    expect(left.connections.map((it: any) => it.topics)).toEqual([[topics[0]], [topics[0]]]);
    for (const client of clients) {
      expect((await client.next("unsubscribed")).payload).toEqual({ topics: [topics[0]] });
    }
    expect((await admin.ask("admin.topic", { topic: topics[0] })).subscribers).toBe(0);
    const nobody = await admin.ask("admin.subscribe", { user_id: "nobody", topics });
    expect(nobody).toEqual({ connections: [], missing_nodes: [] });
  });

  test("[ADM1] [CON1] admin.block disconnects and keeps out; 0 lifts it", async () => {
    const admin = await operator();
    const [anna] = await newUsers(admin, "anna");
    const attempt = async () => {
      const url = `${service.http}/ws?user_id=${anna}`;
      const headers = {
        connection: "upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      };
      return fetch(url, { headers });
    };
    for (const length of ["10m", 600]) {
      const client = await connect(anna!);
      const asked = Date.now();
      const reply = await admin.ask("admin.block", { user_id: anna, for: length, reason: "spam" });
      expect(reply).toMatchObject({ user_id: anna, disconnected: 1, missing_nodes: [] });
      expect(Date.parse(reply.until)).toBeGreaterThanOrEqual(asked + 600_000);
      expect(await client.closed).toEqual({ code: 4011, reason: "spam" });
      const refused = await attempt();
      expect([refused.status, ((await refused.json()) as any).code]).toEqual([403, "user_disabled"]);
      expect(await admin.ask("admin.block", { user_id: anna, for: 0 })).toEqual({
        user_id: anna,
        until: null,
        disconnected: 0,
        missing_nodes: [],
      });
    }
    await (await connect(anna!)).settled();
    // However short, it is a block and does not lift one.
    const short = await admin.ask("admin.block", { user_id: anna, for: 0.0001 });
    expect(short).toMatchObject({ until: expect.any(String), disconnected: 1 });
    for (const wrong of ["soon", "10", -1, "9999999d", 1e12, "1.5.5m"]) {
      expect(await refusal(admin, "admin.block", { user_id: anna, for: wrong })).toMatchObject({
        code: "invalid_payload",
        field: "payload.for",
      });
    }
  });

  test("[PUB3] [SUB3] members who are added and removed are seen by live connections", async () => {
    const admin = await operator();
    const [anna, ben] = await newUsers(admin, "anna", "ben");
    const c = fresh("c");
    const [one, two] = await Promise.all([connect(anna!), connect(ben!)]);
    for (const client of [one, two]) await client.ask("subscribe", { topics: ["conversation"] });
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: [anna!, ben!] });
    for (const client of [one, two]) {
      const told = await client.next("subscribed", (payload) => topicsOf(payload).includes(`conversation:${c}`));
      expect(told.reply_to).toBeUndefined();
    }
    const say = (content: string) =>
      one.request("message.send", { conversation_id: c, client_message_id: fresh("m"), content });
    await say("hello");
    await two.next("message.new", ({ content }) => content === "hello");
    await admin.ask("admin.members.remove", { conversation_id: c, user_ids: [ben!] });
    expect((await two.next("unsubscribed")).payload).toEqual({
      topics: [`conversation:${c}`],
      reason: "access_revoked",
    });
    expect((await say("without ben")).type).toBe("ack");
    await two.settled();
    expect(two.all("message.new").map(({ payload }) => payload.content)).toEqual(["hello"]);
    const late = { conversation_id: c, client_message_id: "late", content: "" };
    expect(await refusal(two, "message.send", late)).toMatchObject({ code: "forbidden" });
  });

  test("[PUB3] [AUTH4] users are made, disabled with what they have open, and enabled again", async () => {
    const admin = await operator();
    const user = fresh("anna");
    const open = () => Client.open(service.url, { query: { user_id: user } });
    await expect(open()).rejects.toThrow();
    await admin.ask("admin.users.upsert", { user_ids: [user] });
    const client = await connect(user);
    await admin.ask("admin.users.disable", { user_id: user });
    expect(await client.closed).toMatchObject({ code: 4011 });
    await expect(open()).rejects.toThrow();
    // Making it again does not enable it.
    await admin.ask("admin.users.upsert", { user_ids: [user] });
    await expect(open()).rejects.toThrow();
    await admin.ask("admin.users.disable", { user_id: user, disabled: false });
    await (await connect(user)).settled();
  });
});
