/** Two nodes on one PostgreSQL: a list is the same on both, whoever has said, read, edited or joined what where [REC3]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { migrateStorage } from "../../src/storage/migrate.ts";
import type { Client } from "../support/client.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let redis: RedisServer;
let postgres: PostgresServer;
let one: Service;
let other: Service;
beforeAll(async () => {
  [redis, postgres] = await Promise.all([startRedis(), startPostgres()]);
  const url = await postgres.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 5_000 });
  const settings = { STORAGE__URL: url, CLUSTER__URL: redis.url, MESSAGES__RECEIPTS_MAX_MEMBERS: "3" };
  [one, other] = await Promise.all([startService({ settings }), startService({ settings })]);
});
afterAll(async () => {
  await Promise.all([one?.stop(), other?.stop()]);
  await Promise.all([redis?.stop(), postgres?.stop()]);
});
const here = createPeople(() => one.url);
const there = createPeople(() => other.url);

const listOf = async (client: Client) => {
  const { topics } = await client.ask("subscribe", { topics: ["conversation"] });
  return topics[0].snapshot;
};

test("[REC3] [MSG2] a list has what happened on the other node", async () => {
  const c = fresh("c");
  const [[anna], [ben]] = (await Promise.all([here.gather(c, ["anna"]), there.gather(c, ["ben"])])) as [
    Client[],
    Client[],
  ];
  const [first] = await sendAll(anna!, c, ["one"]);
  await ben!.next("message.new");
  await ben!.ask("mark.read", { conversation_id: c, up_to_seq: 1 });
  await anna!.next("message.read");
  await anna!.ask("message.edit", { conversation_id: c, message_id: first.message_id, content: "two" });
  const shown = [await listOf(await here.connect("ben")), await listOf(await there.connect("ben"))];
  expect(shown[0]).toEqual(shown[1]);
  expect(shown[0]).toMatchObject({
    read_seq: 1,
    unread: 0,
    last_message: { payload: { content: "two" } },
    receipts: [],
  });
  const annas = [await listOf(await here.connect("anna")), await listOf(await there.connect("anna"))];
  expect(annas[0]).toEqual(annas[1]);
  expect(annas[0].receipts).toEqual([{ user_id: "ben", read_seq: 1, delivered_seq: 1 }]);
});

test("[REC3] members that join on one node make a conversation large on the other", async () => {
  const c = fresh("c");
  const [[anna], [ben, carl]] = (await Promise.all([here.gather(c, ["ann"]), there.gather(c, ["bob", "eve"])])) as [
    Client[],
    Client[],
  ];
  await sendAll(anna!, c, ["one", "two"]);
  await ben!.ask("mark.read", { conversation_id: c, up_to_seq: 1 });
  await anna!.next("message.read");
  const admin = await here.connect("admin", { roles: "admin" });
  await admin.ask("admin.members.add", { conversation_id: c, user_ids: ["dan"] });
  // Told to both nodes before the answer, or at the latest with the event of it.
  await carl!.next("member.added", ({ user_id }) => user_id === "dan");
  const laptop = await there.connect("bob");
  await ben!.ask("mark.read", { conversation_id: c, up_to_seq: 2 });
  expect((await laptop.next("message.read")).payload).toMatchObject({ private: true, up_to_seq: 2 });
  expect(await listOf(await here.connect("eve"))).not.toHaveProperty("receipts");
  expect(carl!.all("message.read")).toHaveLength(1);
});
