/** Proves the stream on a real Redis and real nodes: what is added is published once and in order, whoever dies [PUB2]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Redis } from "ioredis";
import postgres from "postgres";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import {
  arrived,
  examplesOf,
  expectCounted,
  freezeTheDrainer,
  historyOf,
  type InboxScene,
  killEveryDrainer,
} from "../support/ingest.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Service, type ServiceOptions, startService } from "../support/service.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const stream = "ws-ingest";
let server: PostgresServer;
let redis: RedisServer;
let url: string;
let one: Service;
let other: Service;
/** The application. */
let app: Redis;

const startNode = ({ settings, ...options }: ServiceOptions = {}) =>
  startService({
    ...options,
    settings: { STORAGE__URL: url, CLUSTER__URL: redis.url, CLUSTER__INGEST_STREAM: stream, ...settings },
  });

beforeAll(async () => {
  [server, redis] = await Promise.all([startPostgres(), startRedis()]);
  const database = `test_stream_${Math.random().toString(36).slice(2)}`;
  await server.run(`CREATE DATABASE ${database}`);
  url = Object.assign(new URL(server.url), { pathname: `/${database}` }).href;
  await migrate({ url, lockTimeoutMs: 10_000 });
  app = new Redis(redis.url);
  // Added before any node has come, and published once one has.
  await app.xadd(stream, "*", "conversation_id", "early", "type", "order.changed", "payload", '{"n":1}');
  one = await startNode();
  other = await startNode();
});
afterAll(async () => {
  app?.disconnect();
  await Promise.all([one?.stop(), other?.stop()]);
  await Promise.all([server?.stop(), redis?.stop()]);
});
const here = createPeople(() => one.url);
const there = createPeople(() => other.url);

const add = (fields: Record<string, string>, to = stream) => app.xadd(to, "*", ...Object.entries(fields).flat());
const tell = (topic: string, payload: object) =>
  add({ topic, type: "order.changed", payload: JSON.stringify(payload) });
/** The consumer group that the installation has made for itself. */
async function groupOf(): Promise<string> {
  const [[, name]] = (await app.xinfo("GROUPS", stream)) as [[string, string]];
  return name;
}
const emptied = () => until(async () => (await app.xlen(stream)) === 0);

test("[MSG2] [MSG3] [PUB2] entries change messages as requests do; what cannot be is put aside, of a deleted message without what it said", async () => {
  const { topic, clients } = await pair();
  const message_id = fresh("order");
  const change = (type: string, payload: object) =>
    add({ topic, type, payload: JSON.stringify({ message_id, ...payload }) });
  await change("message.new", { sender_id: "shop", content: "one" });
  await change("message.edited", { content: "two" });
  await change("message.reaction", { user_id: "bot", reaction: "👍", added: true });
  await emptied();
  const [message] = await historyOf(clients[0]!, topic);
  expect(message!.payload).toMatchObject({ content: "two", reactions: [{ reaction: "👍", user_ids: ["bot"] }] });
  await change("message.deleted", {});
  await change("message.edited", { content: "three" });
  await emptied();
  for (const client of clients) {
    await client.next("message.deleted");
    expect((await historyOf(client, topic))[0]!.payload).toMatchObject({ content: null });
  }
  const rejected = (await app.xrevrange(`${stream}:rejected`, "+", "-", "COUNT", 1))[0]![1];
  expect(rejected).toContain("payload.message_id: This message is deleted.");
  expect(rejected.join(" ")).not.toContain("three");
});

/** A member of the conversation on each node. */
async function pair() {
  const topic = `conversation:${fresh("c")}`;
  const clients = await Promise.all([here.connect(fresh("anna")), there.connect(fresh("ben"))]);
  for (const client of clients) await client.ask("subscribe", { topics: [topic] });
  return { topic, clients };
}

test("[PUB2] [LOG1] an entry reaches the subscribers of every node, is in the history and leaves the stream", async () => {
  const { topic, clients } = await pair();
  await tell(topic, { n: 1, text: 'ä "€"' });
  await add({ conversation_id: topic.slice("conversation:".length), type: "order.changed", payload: '{"n":2}' });
  for (const client of clients) {
    const events = await arrived(client, topic, 2);
    expectCounted(events, 2);
    expect(events[0]).toMatchObject({ type: "order.changed", payload: { n: 1, text: 'ä "€"' } });
    expect(await historyOf(client, topic)).toEqual(events);
  }
  await emptied();
  expect((await app.xpending(stream, await groupOf()))[0]).toBe(0);
});

test("[PUB2] what was added before the first node came is published", async () => {
  const client = await here.connect(fresh("anna"));
  expectCounted(await historyOf(client, "conversation:early"), 1);
});

test("[PUB2] users get it on their own topics, notifications among the notifications", async () => {
  const users = [fresh("anna"), fresh("ben")];
  const clients = [await here.connect(users[0]!), await there.connect(users[1]!)];
  await add({ user_ids: JSON.stringify([...users, users[0]!]), type: "order.paid", payload: '{"n":1}' });
  await add({ user_ids: JSON.stringify(users), type: "notification", payload: '{"title":"hello"}' });
  for (const [index, client] of clients.entries()) {
    expectCounted(await arrived(client, `user:${users[index]}`, 1), 1);
    const [note] = await arrived(client, `notifications:${users[index]}`, 1);
    expect(note).toMatchObject({ seq: 1, type: "notification", payload: { title: "hello" } });
  }
});

test("[TYP2] [PUB1] [PUB2] a message ends its author's typing, on whichever node that is", async () => {
  const { topic, clients } = await pair();
  const c = topic.slice("conversation:".length);
  for (const client of clients) await client.ask("subscribe", { topics: [`typing:${c}`] });
  for (const [index, client] of clients.entries()) {
    const sender_id = client.received[0]!.payload.user_id;
    await client.ask("typing.start", { conversation_id: c });
    const message = { sender_id, content: "sent elsewhere" };
    await add({ topic, type: "message.new", payload: JSON.stringify(message) });
    await clients[1 - index]!.next("typing.stop", ({ user_id }) => user_id === sender_id);
  }
});

test("[PUB1] [PUB2] except_device leaves that device out on every node, live only, and nobody else", async () => {
  const user = fresh("anna");
  const phone = await there.connect(user, { device_id: "phone" });
  const laptop = await here.connect(user, { device_id: "laptop" });
  const topic = `user:${user}`;
  for (const [n, except_device] of [
    [1, "phone"],
    [2, "laptop"],
    [3, "nobodys"],
  ] as const) {
    await add({ topic, type: "draft.saved", payload: JSON.stringify({ n }), except_device });
  }
  await tell(topic, { n: 4 });
  await phone.next("order.changed");
  await laptop.next("order.changed");
  expect(phone.all("draft.saved").map(({ payload }) => payload.n)).toEqual([2, 3]);
  expect(laptop.all("draft.saved").map(({ payload }) => payload.n)).toEqual([1, 3]);
  expectCounted(await historyOf(phone, topic), 4);
});

test("[PUB2] [LOG2] the same event_key publishes once", async () => {
  const { topic, clients } = await pair();
  for (const [n, event_key] of [
    [1, "order-7"],
    [1, "order-7"],
    [2, "order-8"],
  ] as const)
    await add({ topic, type: "order.paid", payload: JSON.stringify({ n }), event_key });
  expectCounted(await arrived(clients[0]!, topic, 2), 2);
  await emptied();
  expectCounted(await historyOf(clients[1]!, topic), 2);
});

test("[LOG2] [PUB1] [PUB2] a message_id and an event_key are their topic's, whichever way they come and whoever sends", async () => {
  const { topic, clients } = await pair();
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  const publishers = await Promise.all([here.backend(), there.backend()]);
  const taken = async () => {
    await emptied();
    await until(async () => (await sql`SELECT FROM ws.outbox`).length === 0);
  };
  const events: { type: string; payload: Record<string, string | number>; event_key?: string; field: string }[] = [
    {
      type: "message.new",
      payload: { message_id: fresh("m"), sender_id: "robot", content: "hello" },
      field: "payload.message_id",
    },
    { type: "order.paid", payload: { n: 1 }, event_key: fresh("order"), field: "event_key" },
  ];
  for (const { field, ...event } of events) {
    /** By SQL, by the stream and by two publishers, all at once. */
    const sayEverywhere = async (payload: typeof event.payload) => {
      await sql`SELECT ws.publish(${topic}, ${event.type}, ${sql.json(payload)}, ${event.event_key ?? null})`;
      await add({ topic, ...event, payload: JSON.stringify(payload) });
      const said = publishers.map((publisher) => publisher.request("publish", { topic, ...event, payload }));
      return (await Promise.all(said)).map((answer) => answer.payload);
    };
    for (let time = 0; time < 2; time++)
      for (const { published } of await sayEverywhere(event.payload)) expect(published).toHaveLength(1);
    await taken();
    for (const answer of await sayEverywhere({ ...event.payload, content: "else" }))
      expect(answer).toMatchObject({ code: "conflict", field: `payload.${field}` });
    await taken();
    const reason = `${field}: Something else was published under this key to ${topic}.`;
    expect(await sql`SELECT FROM ws.outbox_rejected WHERE reason = ${reason}`).toHaveLength(1);
    const aside = await app.xrange(`${stream}:rejected`, "-", "+");
    expect(aside.filter(([, fields]) => fields.includes(reason))).toHaveLength(1);
  }
  await sql.end();
  const history = await historyOf(clients[0]!, topic);
  expect(history.map(({ type }) => type)).toEqual(events.map(({ type }) => type));
});

test("[PUB2] [PUB1] what can never be published is put aside with its reason and holds up nothing", async () => {
  const { topic, clients } = await pair();
  const good = { topic, type: "order.changed", payload: "{}" };
  const unwieldy = Array.from({ length: 400 }, () => crypto.randomUUID()).join("");
  const messageNamed = (message_id: string) => ({
    ...good,
    type: "message.new",
    payload: JSON.stringify({ message_id, sender_id: "robot", content: "hello" }),
  });
  const faults: [fields: Record<string, string>, reason: RegExp][] = [
    [{ topic }, /^type: is missing\.$/],
    [{ topic, type: "order.changed" }, /^payload: is missing\.$/],
    [{ topic, payload: "{}" }, /^type: is missing\.$/],
    [
      { ...good, foo: "bar" },
      /^foo: is no field of an entry, which has topic, conversation_id, user_ids, type, payload, event_key and except_device\.$/,
    ],
    // Entries are logged, and what goes to everyone is not: these would promise what is not kept.
    [{ all: "true", type: "a", payload: "{}" }, /^all: is no field of an entry/],
    [{ ...good, logged: "false" }, /^logged: is no field of an entry/],
    [{ ...good, ["x".repeat(1_000)]: "1" }, /^x{64}: is no field of an entry/],
    [{ ...good, payload: "{" }, /^payload: This is not JSON/],
    [{ ...good, payload: "[1]" }, /^payload: This is not a JSON object/],
    [{ ...good, payload: `${'{"a":'.repeat(31)}1${"}".repeat(31)}` }, /^payload: This is nested too deep/],
    [{ ...good, topic: "conversation" }, /^topic: This is not the whole name of a topic/],
    [{ ...good, topic: "typing:c1" }, /^topic: Events of this topic are not logged/],
    [{ ...good, conversation_id: "c1" }, /^topic: needs exactly one of topic, conversation_id and user_ids\.$/],
    [{ type: "a", payload: "{}" }, /^topic: needs exactly one of topic, conversation_id and user_ids\.$/],
    [{ ...good, type: "Order" }, /^type: must match/],
    [{ ...good, type: "ack" }, /^type: This type is a reply/],
    [{ ...good, event_key: "two words" }, /^event_key: must be printable/],
    [{ ...good, except_device: "" }, /^except_device: must not be empty/],
    [{ ...good, except_device: "x".repeat(64 * 1024) }, /^except_device: must have at most 128 characters/],
    [{ user_ids: "u1,u2", type: "a", payload: "{}" }, /^user_ids: This is not JSON/],
    [{ user_ids: "[]", type: "a", payload: "{}" }, /^user_ids: must name at least one/],
    [
      { ...good, type: "message.new", payload: '{"conversation_id":"c1","sender_id":"robot","content":"hello"}' },
      /^payload\.conversation_id: This is not the conversation that it is published to\.$/,
    ],
    [
      { ...good, type: "message.new", payload: '{"sender_id":7,"content":"hello"}' },
      /^payload\.sender_id: This is not the payload of message\.new: sender_id must be string\.$/,
    ],
    // Ids that nobody could name in a receipt, and no index could hold.
    [messageNamed("\0"), /^payload\.message_id: must be printable/],
    [messageNamed(unwieldy), /^payload\.message_id: must have at most 128 characters/],
  ];
  await app.del(`${stream}:rejected`);
  await tell(topic, { n: 1 });
  const ids: (string | null)[] = [];
  for (const [fields] of faults) ids.push(await add(fields));
  await tell(topic, { n: 2 });
  for (const client of clients) expectCounted(await arrived(client, topic, 2), 2);
  await emptied();
  const rejected = await app.xrange(`${stream}:rejected`, "-", "+");
  expect(rejected).toHaveLength(faults.length);
  for (const [index, [, flat]] of rejected.entries()) {
    const [fields, reason] = faults[index]!;
    const kept = Object.fromEntries(Array.from({ length: flat.length / 2 }, (_, at) => flat.slice(at * 2, at * 2 + 2)));
    expect(kept).toEqual({ entry_id: ids[index], reason: expect.stringMatching(reason), ...fields });
  }
});

test("[PUB2] [LOG3] what a consumer had read and not acknowledged when it died comes first", async () => {
  const { topic, clients } = await pair();
  await Promise.all([one.kill(), other.kill()]);
  for (let n = 1; n <= 40; n++) await tell(topic, { n });
  const group = await groupOf();
  await app.xreadgroup("GROUP", group, "somebody else", "COUNT", 30, "STREAMS", stream, ">");
  // Deleted while it was pending: it is as if it had never been.
  const deleted = await tell(topic, { n: 1_000 });
  await app.xreadgroup("GROUP", group, "somebody else", "COUNT", 30, "STREAMS", stream, ">");
  await app.xdel(stream, deleted!);
  for (let n = 41; n <= 50; n++) await tell(topic, { n });
  await Promise.all(clients.map(({ closed }) => closed));
  await Promise.all([one.stop(), other.stop()]);
  [one, other] = await Promise.all([startNode(), startNode()]);
  const client = await there.connect(fresh("carl"));
  await emptied();
  expectCounted(await historyOf(client, topic), 50);
  expect((await app.xpending(stream, await groupOf()))[0]).toBe(0);
});

test("[PUB2] the examples of the docs do what they say", async () => {
  const [anna, ben] = await Promise.all([here.connect("anna"), there.connect("ben")]);
  await ben.ask("subscribe", { topics: ["conversation:c1"] });
  const [adding] = await examplesOf("sh", "Publishing from the application");
  for (const line of adding!.trim().split("\n")) {
    // A shell would take off the quotes just so.
    const [, command, ...args] = [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
    await app.call(command!, ...args);
  }
  expect(await ben.next("poll.closed")).toMatchObject({ topic: "conversation:c1", payload: { poll_id: "p1" } });
  for (const client of [anna, ben]) {
    expect(await client.next("notification")).toMatchObject({ payload: { title: "Your order is on its way" } });
  }
});

/** Adds entries from 1 on for as long as it should. @returns how many */
async function addWhile(topic: string, isWanted: (count: number) => boolean): Promise<number> {
  let count = 0;
  while (isWanted(count)) {
    const pipeline = app.pipeline();
    for (let more = 0; more < 10; more++) {
      pipeline.xadd(stream, "*", "topic", topic, "type", "order.changed", "payload", JSON.stringify({ n: ++count }));
    }
    await pipeline.exec();
    // Redis takes them far faster than they can be made durable.
    await until(async () => (await app.xlen(stream)) < 3_000);
  }
  return count;
}

const scene: InboxScene = {
  inbox: "stream",
  nodes: () => [one, other],
  async renewNodes() {
    await Promise.all([one.stop(), other.stop()]);
    [one, other] = await Promise.all([startNode(), startNode()]);
  },
  startBystander: () => startNode({ settings: { CLUSTER__INGEST_STREAM: "" } }),
  handInWhile: addWhile,
  emptied,
};

test("[PUB2] [LOG3] kill -9 of every node that drains, amid thousands of entries: every entry once, in order", () =>
  killEveryDrainer(scene));

test("[PUB2] [LOG3] a node that froze and lost its turn unawares changes nothing when it wakes", async () =>
  freezeTheDrainer(scene, await pair()));

test("[PUB2] after Redis has lost everything the stream is read anew", async () => {
  await redis.kill();
  await redis.restart();
  const client = await here.connect(fresh("dora"));
  const topic = `conversation:${fresh("c")}`;
  await until(async () => (await app.ping().catch(() => "")) === "PONG");
  for (const n of [1, 2, 3]) await tell(topic, { n });
  await emptied();
  expectCounted(await historyOf(client, topic), 3);
});
