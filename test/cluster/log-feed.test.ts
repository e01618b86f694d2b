/** Proves the feed of the whole log on PostgreSQL with two nodes: order, going on elsewhere, one that does not read; and what is so without Redis [BAK2] [TYP2]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import { subprotocols } from "../../src/protocol/limits.ts";
import { migrateStorage } from "../../src/storage/migrate.ts";
import type { Client } from "../support/client.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let server: PostgresServer;
let redis: RedisServer;
let url: string;
let one: Service;
let other: Service;
/** The application. */
let sql: postgres.Sql;

const startNode = () =>
  startService({ settings: { STORAGE__URL: url, CLUSTER__URL: redis.url, TYPING__TIMEOUT: "10m" } });
beforeAll(async () => {
  [server, redis] = await Promise.all([startPostgres(), startRedis()]);
  url = await server.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  [one, other] = await Promise.all([startNode(), startNode()]);
  sql = postgres(url, { max: 4, onnotice: () => {} });
});
afterAll(async () => {
  await Promise.all([one?.stop(), other?.stop(), sql?.end({ timeout: 1 })]);
  await Promise.all([server?.stop(), redis?.stop()]);
});
const here = createPeople(() => one.url);
const there = createPeople(() => other.url);

const fed = ({ received }: Pick<Client, "received">) => received.filter(({ position }) => position !== undefined);
const numbered = (count: number) => Array.from({ length: count }, (_, n) => `m${n + 1}`);
const upTo = (count: number) => Array.from({ length: count }, (_, n) => n + 1);
/** The event that a sender was told the place of. */
const arrived = (client: Client, { topic, seq }: { topic: string; seq: number }) =>
  client.find((it) => it.topic === topic && it.seq === seq);
const feed = async (client: Client, since?: object | string) => client.ask("subscribe", { topics: ["log"], since });

test("[BAK2] [PUB2] one order for all, on either node and in either format: by socket, SQL in a late transaction, users and conversations", async () => {
  const [c, user] = [fresh("c"), fresh("user")];
  const readers = [
    await here.backend(),
    await there.connect(fresh("backend"), { roles: "service" }, { protocols: [subprotocols.protobuf] }),
  ];
  for (const reader of readers) await feed(reader);
  const writers = [await here.connect(fresh("anna")), await there.connect(fresh("ben"))];
  const shop = await there.backend();
  const late = sql.begin(async (transaction) => {
    await transaction`SELECT ws.publish_to_conversation(${c}, 'order.paid', '{"n": 1}')`;
    await sendAll(writers[0]!, c, numbered(5));
    await transaction`SELECT ws.publish_to_users(${sql.array([user])}, 'notification', '{"n": 1}', NULL, 'phone')`;
  });
  await Promise.all([
    late,
    ...writers.map((writer) => sendAll(writer, c, numbered(20))),
    ...numbered(20).map(() => shop.ask("publish", { user_ids: [user], type: "notification", payload: {} })),
  ]);
  const [end] = await sendAll(writers[1]!, c, ["the end"]);
  const counts = { [`conversation:${c}`]: 1 + 5 + 40 + 1, [`notifications:${user}`]: 21 };
  for (const reader of readers) {
    await arrived(reader, end);
    for (const [topic, seq] of Object.entries(counts)) await arrived(reader, { topic, seq });
  }
  const [events, others] = readers.map(fed);
  for (const [topic, count] of Object.entries(counts))
    expect(events!.filter((it) => it.topic === topic).map(({ seq }) => seq)).toEqual(upTo(count));
  const positions = events!.map(({ position }) => position!);
  expect(positions).toEqual(positions.toSorted((a, b) => a - b));
  expect(others).toEqual(events!);
});

test("[BAK2] [LOG6] what a device has acknowledged on a node that is killed the other one goes on from, and nothing is left out", async () => {
  const c = fresh("c");
  const writer = await here.connect(fresh("anna"));
  const archive = { roles: "service", device_id: "archive" };
  const user = fresh("archive");
  const first = await there.connect(user, archive);
  await feed(first);
  const acks = await sendAll(writer, c, numbered(30));
  await arrived(first, acks[29]);
  const { cursor } = await first.ask("ping");
  await first.ask("ack", { cursor });
  const stored = fed(first).filter(({ topic }) => topic === `conversation:${c}`).length;
  const more = sendAll(writer, c, numbered(30));
  await other.kill();
  await first.closed;
  const last = (await more).at(-1);
  const second = await here.connect(user, archive);
  expect((await feed(second, "acked")).topics).toEqual([{ topic: "log", recovered: true }]);
  await arrived(second, last);
  const rest = fed(second).filter(({ topic }) => topic === `conversation:${c}`);
  expect(rest.map(({ seq }) => seq)).toEqual(upTo(60).slice(stored));
  await other.stop();
  other = await startNode();
});

test("[BAK2] [CON7] one that does not read holds up neither who writes nor who reads", async () => {
  const c = fresh("c");
  const raw = await RawSocket.open(one.url, { query: { user_id: fresh("stuck"), roles: "service" }, pongs: true });
  await raw.next("subscribed");
  raw.stopReading();
  raw.send("subscribe", { topics: ["log"], since: "acked" });
  const [fast, elsewhere] = [await here.backend(), await there.backend()];
  for (const reader of [fast, elsewhere]) await feed(reader);
  const writer = await here.connect(fresh("anna"));
  // More than the kernel takes by itself.
  const acks = await sendAll(writer, c, Array(30).fill("x".repeat(500 * 1024)));
  for (const reader of [fast, elsewhere]) {
    await arrived(reader, acks[29]);
    expect(fed(reader).filter(({ topic }) => topic === `conversation:${c}`)).toHaveLength(30);
  }
  raw.startReading();
  await raw.find(({ topic, seq }) => topic === `conversation:${c}` && seq === 30);
  raw.destroy();
});

test("[BAK2] [LOG3] without Redis it has what was logged on the other node, in order", async () => {
  const c = fresh("c");
  const reader = await here.backend();
  await feed(reader);
  await redis.kill();
  const writer = await there.connect(fresh("anna"));
  const acks = await sendAll(writer, c, numbered(20));
  await arrived(reader, acks[19]);
  const events = fed(reader).filter(({ topic }) => topic === `conversation:${c}`);
  expect(events.map(({ seq }) => seq)).toEqual(upTo(20));
  await redis.restart();
});

test("[TYP2] [PUB1] without Redis a message that was published on the other node ends its author's typing, once it is here", async () => {
  const c = fresh("c");
  const [anna, ben] = [fresh("anna"), fresh("ben")];
  const [typist, watcher] = [await there.connect(anna), await there.connect(ben)];
  for (const client of [typist, watcher])
    await client.ask("subscribe", { topics: [`conversation:${c}`, `typing:${c}`] });
  const shop = await here.backend();
  await redis.kill();
  await typist.ask("typing.start", { conversation_id: c });
  await watcher.next("typing.start");
  await shop.ask("publish", { conversation_id: c, type: "message.new", payload: { sender_id: anna, content: "sent" } });
  await watcher.next("message.new");
  await watcher.next("typing.stop");
  await redis.restart();
});
