/** Proves the outbox on a real PostgreSQL and real nodes: what commits is published once and in order, whoever dies [PUB2]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import {
  arrived,
  drainerOf,
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
import { eventually, until } from "../support/until.ts";

setDefaultTimeout(60_000);

let server: PostgresServer;
let redis: RedisServer;
let url: string;
let one: Service;
let other: Service;
/** The application. */
let sql: postgres.Sql;

const startNode = ({ settings, ...options }: ServiceOptions = {}) =>
  startService({ ...options, settings: { STORAGE__URL: url, CLUSTER__URL: redis.url, ...settings } });

beforeAll(async () => {
  [server, redis] = await Promise.all([startPostgres(), startRedis()]);
  // The service's own schema has a fixed name, so these tests have a database of their own.
  const database = `test_outbox_${Math.random().toString(36).slice(2)}`;
  await server.run(`CREATE DATABASE ${database}`);
  url = Object.assign(new URL(server.url), { pathname: `/${database}` }).href;
  sql = postgres(url, { max: 20, onnotice: () => {} });
  const { migrate } = await import("../../src/storage/postgres/migrate.ts");
  await migrate({ url, lockTimeoutMs: 10_000 });
  one = await startNode();
  other = await startNode();
});
afterAll(async () => {
  await Promise.all([one?.stop(), other?.stop()]);
  await sql?.end({ timeout: 1 });
  await Promise.all([server?.stop(), redis?.stop()]);
});
const here = createPeople(() => one.url);
const there = createPeople(() => other.url);

const tell = (topic: string, payload: postgres.JSONValue, db: postgres.ISql = sql) =>
  db`SELECT ws.publish(${topic}, 'order.changed', ${sql.json(payload)})`;
const waiting = async () => Number((await sql`SELECT count(*) AS rows FROM ws.outbox`)[0]!.rows);
const emptied = () => until(async () => (await waiting()) === 0);

/** A member of the conversation on each node. */
async function pair() {
  const topic = `conversation:${fresh("c")}`;
  const clients = await Promise.all([here.connect(fresh("anna")), there.connect(fresh("ben"))]);
  for (const client of clients) await client.ask("subscribe", { topics: [topic] });
  return { topic, clients };
}

test("[PUB2] [LOG1] a committed row reaches the subscribers of every node, and is in the history", async () => {
  const { topic, clients } = await pair();
  await sql.begin(async (transaction) => {
    await tell(topic, { n: 1, nested: { text: "ä 'quoted' \"€\"" } }, transaction);
    await tell(topic, { n: 2 }, transaction);
  });
  for (const client of clients) {
    const events = await arrived(client, topic, 2);
    expectCounted(events, 2);
    expect(events[0]).toMatchObject({ type: "order.changed", payload: { n: 1, nested: { text: "ä 'quoted' \"€\"" } } });
    expect(await historyOf(client, topic)).toEqual(events);
  }
  await emptied();
});

test("[PUB2] what is rolled back is never published", async () => {
  const { topic, clients } = await pair();
  const failed = sql.begin(async (transaction) => {
    await tell(topic, { n: 100 }, transaction);
    throw new Error("the application changed its mind");
  });
  await expect(failed).rejects.toThrow("changed its mind");
  await tell(topic, { n: 1 });
  for (const client of clients) expectCounted(await arrived(client, topic, 1), 1);
  expectCounted(await historyOf(clients[0]!, topic), 1);
});

test("[PUB2] [LOG3] a transaction that commits late holds nobody up and loses nothing", async () => {
  const { topic, clients } = await pair();
  const written = Promise.withResolvers<void>();
  const commit = Promise.withResolvers<void>();
  const late = sql.begin(async (transaction) => {
    await tell(topic, { n: 3 }, transaction);
    await tell(topic, { n: 4 }, transaction);
    written.resolve();
    await commit.promise;
  });
  await written.promise;
  await tell(topic, { n: 1 });
  await tell(topic, { n: 2 });
  for (const client of clients) expectCounted(await arrived(client, topic, 2), 2);
  commit.resolve();
  await late;
  for (const client of clients) expectCounted(await arrived(client, topic, 4), 4);
  expectCounted(await historyOf(clients[1]!, topic), 4);
});

test("[PUB2] [LOG3] many transactions at once on one topic: each one's rows in its order, all of them once", async () => {
  const { topic, clients } = await pair();
  const writers = 12;
  const rounds = 20;
  await Promise.all(
    Array.from({ length: writers }, async (_, writer) => {
      for (let round = 0; round < rounds; round++) {
        await sql.begin(async (transaction) => {
          for (const step of [0, 1]) await tell(topic, { writer, n: round * 2 + step + 1 }, transaction);
        });
      }
    }),
  );
  const total = writers * rounds * 2;
  for (const client of clients) {
    const events = await arrived(client, topic, total);
    expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: total }, (_, index) => index + 1));
    for (let writer = 0; writer < writers; writer++) {
      const own = events.filter(({ payload }) => payload.writer === writer);
      expect(own.map(({ payload }) => payload.n)).toEqual(Array.from({ length: rounds * 2 }, (_, n) => n + 1));
    }
    expect(await historyOf(client, topic)).toEqual(events);
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
    await sql`SELECT ws.publish(${topic}, 'message.new', ${sql.json(message)})`;
    await clients[1 - index]!.next("typing.stop", ({ user_id }) => user_id === sender_id);
  }
});

test("[PUB1] [PUB2] except_device leaves that device out on every node, live only, and nobody else", async () => {
  const user = fresh("anna");
  const phone = await there.connect(user, { device_id: "phone" });
  const laptop = await here.connect(user, { device_id: "laptop" });
  const [topic, c] = [`user:${user}`, fresh("c")];
  for (const device of [phone, laptop]) await device.ask("subscribe", { topics: [`conversation:${c}`] });
  // In one transaction, so that they are appended together.
  await sql.begin(async (transaction) => {
    await transaction`SELECT ws.publish(${topic}, 'draft.saved', '{"n": 1}', except_device => 'phone')`;
    await transaction`SELECT ws.publish_to_users(${sql.array([user])}, 'draft.saved', '{"n": 2}', 'key', 'laptop')`;
    await transaction`SELECT ws.publish(${topic}, 'draft.saved', '{"n": 3}', except_device => 'nobodys')`;
    await transaction`SELECT ws.publish_to_conversation(${c}, 'draft.sent', '{"n": 1}', NULL, 'phone')`;
    await transaction`SELECT ws.publish_to_conversation(${c}, 'draft.sent', '{"n": 2}')`;
    await tell(topic, { n: 4 }, transaction);
  });
  const numbersOf = (client: typeof phone, type: string) => client.all(type).map(({ payload }) => payload.n);
  for (const device of [phone, laptop]) {
    await device.next("order.changed");
    await device.next("draft.sent", ({ n }) => n === 2);
  }
  expect([numbersOf(phone, "draft.saved"), numbersOf(laptop, "draft.saved")]).toEqual([
    [2, 3],
    [1, 3],
  ]);
  expect([numbersOf(phone, "draft.sent"), numbersOf(laptop, "draft.sent")]).toEqual([[2], [1, 2]]);
  expectCounted(await historyOf(phone, topic), 4);
});

test("[PUB2] [LOG2] the same event_key publishes once", async () => {
  const { topic, clients } = await pair();
  await sql`SELECT ws.publish(${topic}, 'order.paid', '{"n": 1}', 'order-7')`;
  await emptied();
  await sql`SELECT ws.publish(${topic}, 'order.paid', '{"n": 1}', 'order-7')`;
  await sql`SELECT ws.publish(${topic}, 'order.paid', '{"n": 2}', 'order-8')`;
  expectCounted(await arrived(clients[0]!, topic, 2), 2);
  expectCounted(await historyOf(clients[1]!, topic), 2);
});

test("[PUB2] users get it on their own topics, notifications among the notifications, a conversation on its own", async () => {
  const users = [fresh("anna"), fresh("ben")];
  const clients = [await here.connect(users[0]!), await there.connect(users[1]!)];
  await sql`SELECT ws.publish_to_users(${sql.array([...users, users[0]!])}, 'order.paid', '{"n": 1}')`;
  await sql`SELECT ws.publish_to_users(${sql.array(users)}, 'notification', '{"title": "hello"}')`;
  const c = fresh("c");
  await clients[0]!.ask("subscribe", { topics: [`conversation:${c}`] });
  await sql`SELECT ws.publish_to_conversation(${c}, 'poll.opened', '{"n": 1}')`;
  for (const [index, client] of clients.entries()) {
    expectCounted(await arrived(client, `user:${users[index]}`, 1), 1);
    const [note] = await arrived(client, `notifications:${users[index]}`, 1);
    expect(note).toMatchObject({ type: "notification", payload: { title: "hello" } });
  }
  expectCounted(await arrived(clients[0]!, `conversation:${c}`, 1), 1);
});

test("[PUB2] [REC3] a message that the application wrote is a message: it counts as unread and can be read", async () => {
  const { topic, clients } = await pair();
  const c = topic.slice("conversation:".length);
  const message = { message_id: fresh("m"), conversation_id: c, sender_id: "robot", content: "hello" };
  await sql`SELECT ws.publish(${topic}, 'message.new', ${sql.json(message)})`;
  const [event] = await arrived(clients[1]!, topic, 1);
  expect(event).toMatchObject({ id: message.message_id, payload: { ...message, created_at: expect.any(String) } });
  const { topics } = await clients[1]!.ask("subscribe", { topics: [topic], since: "acked" });
  expect(topics[0].snapshot).toMatchObject({ unread: 1 });
});

test("[PUB2] numbers longer than JavaScript's come out as they went in", async () => {
  const { topic, clients } = await pair();
  await sql`SELECT ws.publish(${topic}, 'order.paid', '{"cents": 12345678901234567890}')`;
  await arrived(clients[0]!, topic, 1);
  const [row] = await sql`SELECT payload FROM ws.events WHERE payload::text LIKE '%12345678901234567890%'`;
  expect(row).toBeDefined();
});

const [inRoom, message_id] = ["conversation:c1", "m1"];
const [said, reacted] = [
  { sender_id: "robot", content: "hello" },
  { message_id, user_id: "anna", reaction: "+", added: true },
];
const messageFaults: [topic: string, type: string, payload: Record<string, unknown>, message: RegExp][] = [
  [inRoom, "deleted", {}, /payload\.message_id of message\.deleted must be an id of .*; it is missing$/],
  [inRoom, "deleted", { message_id: null }, /message_id .* it is null$/],
  [inRoom, "deleted", { message_id: "two words" }, /message_id .* it is "two words"$/],
  [inRoom, "deleted", { message_id: "x".repeat(65_536) }, /message_id .* it is "x{199}$/],
  [inRoom, "deleted", { message_id, deleted_by: 7 }, /deleted_by .* it is 7$/],
  [inRoom, "deleted", { message_id, deleted_at: 7 }, /deleted_at .* RFC 3339/],
  [inRoom, "deleted", { message_id, conversation_id: 7 }, /conversation_id .* it is 7$/],
  [
    "user:dora",
    "deleted",
    { message_id },
    /type 'message\.deleted' changes a message, and has to be published to its conv/,
  ],
  ["user:dora", "reaction", reacted, /to its conversation; topic is 'user:dora'$/],
  [
    inRoom,
    "edited",
    { message_id },
    /payload\.content of message\.edited must be a string or an object; it is missing$/,
  ],
  [inRoom, "edited", { message_id, content: 7 }, /payload\.content .* it is 7$/],
  [inRoom, "edited", { message_id, content: null }, /payload\.content .* it is null$/],
  [inRoom, "edited", { content: "x" }, /message_id .* missing$/],
  [inRoom, "edited", { message_id, content: "x", edited_by: "" }, /edited_by/],
  [inRoom, "new", { content: "hello" }, /payload\.sender_id of message\.new .* missing$/],
  [inRoom, "new", { sender_id: "robot" }, /payload\.content .* missing$/],
  [inRoom, "new", { ...said, content: null }, /payload\.content .* null$/],
  [inRoom, "new", { ...said, message_id: 7 }, /message_id .* it is 7$/],
  [inRoom, "new", { ...said, client_message_id: "" }, /client_message_id/],
  [inRoom, "new", { ...said, deleted_at: "2026-01-01T00:00:00Z" }, /deleted_at of message\.new must not be there/],
  [inRoom, "new", { ...said, reactions: [] }, /reactions of message\.new must not be there/],
  ["user:dora", "new", said, /conversation_id of message\.new .* missing$/],
  ...(["message_id", "user_id", "reaction", "added"] as const).map((name): (typeof messageFaults)[number] => [
    inRoom,
    "reaction",
    { ...reacted, [name]: undefined },
    new RegExp(`payload\\.${name} of message\\.reaction .* missing$`),
  ]),
  [inRoom, "reaction", { ...reacted, reaction: "ä".repeat(33) }, /reaction must be a text of 1 to 64 bytes/],
  [inRoom, "reaction", { ...reacted, reaction: "" }, /1 to 64 bytes/],
  [inRoom, "reaction", { ...reacted, added: "true" }, /added .* true or false; it is "true"$/],
];

test("[PUB2] [PUB1] wrong arguments are SQL errors of the application's own statement", async () => {
  const faults: [call: string, message: RegExp][] = [
    [`ws.publish('room:1', 'a', '{}')`, /topic must be user:<id>, conversation:<id> or notifications:<id>/],
    [`ws.publish('typing:c1', 'a', '{}')`, /topic must be/],
    [`ws.publish('user:', 'a', '{}')`, /topic must be/],
    [`ws.publish('user:a b', 'a', '{}')`, /topic must be/],
    [`ws.publish('user:ä', 'a', '{}')`, /topic must be/],
    [`ws.publish('user:' || repeat('x', 129), 'a', '{}')`, /topic must be/],
    [`ws.publish(NULL, 'a', '{}')`, /topic must be .* it is null/],
    [`ws.publish('user:u1', 'Order', '{}')`, /type must match/],
    [`ws.publish('user:u1', NULL, '{}')`, /type must match/],
    [`ws.publish('user:u1', 'ack', '{}')`, /type 'ack' is a reply of the server's own/],
    [`ws.publish('user:u1', 'a', '[1]')`, /payload must be a JSON object; it is array/],
    [`ws.publish('user:u1', 'a', NULL)`, /payload must be a JSON object; it is null/],
    [`ws.publish('user:u1', 'a', '{}', 'two words')`, /event_key must have/],
    [`ws.publish('user:u1', 'a', '{}', '')`, /event_key must have/],
    [`ws.publish('user:u1', 'a', '{}', NULL, '')`, /except_device must have 1 to 128 printable/],
    [`ws.publish('user:u1', 'a', '{}', except_device => 'two words')`, /except_device must have/],
    [`ws.publish('user:u1', 'a', '{}', except_device => repeat('x', 65536))`, /except_device must have/],
    [`ws.publish_to_users('{u1}', 'a', '{}', NULL, 'ä')`, /except_device must have/],
    [`ws.publish('conversation:c1', 'a', '{"conversation_id": "c2"}')`, /payload\.conversation_id must be left out/],
    [`ws.publish_to_conversation('c1', 'message.new', '{"conversation_id": "c"}', NULL, 'd')`, /it is 'c'$/],
    ...messageFaults.map(([topic, type, payload, message]): [string, RegExp] => [
      `ws.publish('${topic}', 'message.${type}', '${JSON.stringify(payload)}')`,
      message,
    ]),
    [`ws.publish_to_users('{}', 'a', '{}')`, /user_ids must name 1 to 1000 users, it names 0/],
    [`ws.publish_to_users(array_fill('u'::text, '{1001}'), 'a', '{}')`, /it names 1001/],
    [`ws.publish_to_users('{u1,NULL}', 'a', '{}')`, /topic must be/],
    [`ws.publish_to_conversation(NULL, 'a', '{}')`, /topic must be/],
  ];
  for (const [call, message] of faults) {
    const error = await sql.unsafe(`SELECT ${call}`).then(
      () => new Error(`${call} was taken`),
      (reason: postgres.PostgresError) => reason,
    );
    expect(error.message).toMatch(message);
    expect(error).toMatchObject({ code: "22023" });
  }
});

test("[PUB2] a role that was granted the functions may publish, and may neither read nor write the table", async () => {
  const { topic, clients } = await pair();
  const role = `application_${Math.random().toString(36).slice(2)}`;
  await sql.unsafe(`CREATE ROLE ${role}; GRANT USAGE ON SCHEMA ws TO ${role}`);
  await sql.unsafe(`GRANT EXECUTE ON FUNCTION ws.publish TO ${role}`);
  try {
    await sql.begin(async (transaction) => {
      await transaction.unsafe(`SET LOCAL ROLE ${role}`);
      await tell(topic, { n: 1 }, transaction);
    });
    expectCounted(await arrived(clients[0]!, topic, 1), 1);
    const reading = sql.begin(async (transaction) => {
      await transaction.unsafe(`SET LOCAL ROLE ${role}`);
      await transaction`SELECT * FROM ws.outbox`;
    });
    await expect(reading).rejects.toMatchObject({ code: "42501" });
  } finally {
    await sql.unsafe(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
});

test("[PUB2] what can never be published is put aside with its reason and holds up nothing", async () => {
  const { topic, clients } = await pair();
  const deep = `${'{"a":'.repeat(31)}1${"}".repeat(31)}`;
  await sql.begin(async (transaction) => {
    await transaction`SELECT ws.publish(${topic}, 'message.new', '{"sender_id": "a", "content": "", "created_at": "now"}')`;
    await transaction`SELECT ws.publish(${topic}, 'order.changed', '{"n": 1}', 'order-1')`;
    await transaction`SELECT ws.publish(${topic}, 'too.deep', ${deep}::text::jsonb)`;
    await transaction`SELECT ws.publish(${topic}, 'order.else', '{"n": 1}', 'order-1')`;
    await tell(topic, { n: 2 }, transaction);
  });
  for (const client of clients) expectCounted(await arrived(client, topic, 2), 2);
  await emptied();
  const rejected = await sql`SELECT type, reason FROM ws.outbox_rejected WHERE topic = ${topic} ORDER BY type`;
  expect(rejected.map(({ type, reason }) => [type, reason])).toEqual([
    [
      "message.new",
      "payload.created_at: This is not the payload of message.new: created_at must be an RFC 3339 timestamp.",
    ],
    ["order.else", `event_key: Something else was published under this key to ${topic}.`],
    ["too.deep", "payload: This is nested too deep."],
  ]);
  const isSaid = (line: { msg: string; reason?: unknown }) => String(line.reason).startsWith("payload: This is nested");
  await Promise.any([one.logged(isSaid), other.logged(isSaid)]);
  // Mended by the operator, it is published.
  await sql`INSERT INTO ws.outbox (topic, type, payload) SELECT topic, type, '{"n": 3}' FROM ws.outbox_rejected
    WHERE topic = ${topic} AND type = 'too.deep'`;
  expectCounted(await arrived(clients[0]!, topic, 3), 3);
});

test("[PUB2] the examples of the docs do what they say", async () => {
  const [anna, ben] = await Promise.all([here.connect("anna"), there.connect("ben")]);
  await ben.ask("subscribe", { topics: ["conversation:c1"] });
  const [publishing, resubmitting] = await examplesOf("sql", "Publishing from the application");
  await sql.unsafe(publishing!);
  expect(await ben.next("poll.closed")).toMatchObject({ topic: "conversation:c1", payload: { poll_id: "p1" } });
  for (const client of [anna, ben]) {
    expect(await client.next("notification")).toMatchObject({ payload: { title: "Your order is on its way" } });
  }
  expect(await anna.next("profile.changed")).toMatchObject({ topic: "user:anna", payload: {} });
  await sql`INSERT INTO ws.outbox_rejected (key, topic, type, payload, created_at, reason)
    VALUES (gen_random_uuid(), 'user:anna', 'profile.mended', '{}', now(), 'it was odd')`;
  await sql.unsafe(resubmitting!);
  await anna.next("profile.mended");
});

/** Commits rows from 1 on, ten in each transaction, for as long as it should. @returns how many */
async function commitWhile(topic: string, isWanted: (count: number) => boolean): Promise<number> {
  let count = 0;
  for (; isWanted(count); count += 10) {
    // The table takes them while nobody drains, too; a few thousand prove as much as a million.
    if (count % 500 === 0) await until(async () => (await waiting()) < 3_000);
    await sql`SELECT ws.publish(${topic}, 'order.changed', jsonb_build_object('n', n))
      FROM generate_series(${count + 1}::int, ${count + 10}::int) AS n`;
  }
  return count;
}

const scene: InboxScene = {
  inbox: "outbox",
  nodes: () => [one, other],
  async renewNodes() {
    await Promise.all([one.stop(), other.stop()]);
    [one, other] = await Promise.all([startNode(), startNode()]);
  },
  startBystander: () => startNode({ settings: { STORAGE__OUTBOX: "false" } }),
  handInWhile: commitWhile,
  emptied,
};

test("[PUB2] [LOG3] kill -9 of every node that drains, amid thousands of rows: every row once, in order", () =>
  killEveryDrainer(scene));

test("[PUB2] [LOG3] a node that froze is relieved, and changes nothing when it wakes", async () =>
  freezeTheDrainer(scene, await pair()));

test("[PUB2] [ADM1] each node's figures say what waits, whose turn it is and what it has done", async () => {
  const operator = await here.connect(fresh("operator"), { roles: "admin" });
  const isQuiet = (it: any) => it.outbox_waiting === 0 && it.outbox_oldest_ms === 0;
  const turns = (nodes: any[]) => nodes.map((it) => it.outbox_turn).sort();
  const figures = await eventually(
    async () => (await operator.ask("admin.stats")).nodes.map((node: any) => node.figures.ingest),
    // One that had frozen has to find its way back first, and learns that the turn is no longer its own when it asks again.
    (nodes) => nodes.length === 2 && nodes.every(isQuiet) && Bun.deepEquals(turns(nodes), [0, 1]),
  );
  expect(turns(figures)).toEqual([0, 1]);
  expect(Math.max(...figures.map((it: any) => it.outbox_published))).toBeGreaterThan(0);
});

test("[PUB2] [DRN] a node that is told to end hands over; nothing is lost or doubled", async () => {
  const { topic, clients } = await pair();
  const writing = commitWhile(topic, (count) => count < 1_000);
  const leaving = await drainerOf(scene);
  const [staying, client] = leaving === one ? [other, clients[1]!] : [one, clients[0]!];
  await client.until(() => (client.received.length > 50 ? true : undefined));
  leaving.signal("SIGTERM");
  expect(await leaving.exited).toBe(0);
  await drainerOf(scene, [staying]);
  await writing;
  expectCounted(await arrived(client, topic, 1_000), 1_000);
  expectCounted(await historyOf(client, topic), 1_000);
  await leaving.stop();
  if (leaving === one) one = await startNode();
  else other = await startNode();
});

test("[PUB2] [LOG1] while PostgreSQL is away rows wait, and go on by themselves", async () => {
  if (!server.isOwn) return;
  const { topic, clients } = await pair();
  await tell(topic, { n: 1 });
  await arrived(clients[0]!, topic, 1);
  await server.halt();
  await Promise.any([one, other].map((node) => node.logged(({ msg }) => msg === "ingest waits")));
  await server.resume();
  await tell(topic, { n: 2 });
  for (const client of clients) expectCounted(await arrived(client, topic, 2), 2);
});
