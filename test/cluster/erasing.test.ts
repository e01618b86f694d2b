/** Proves that a user is erased, and conversations keep less, over three nodes of which one dies in the middle [BAK4] [LOG9]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { fresh, sendAll } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Service, startService } from "../support/service.ts";
import { type Stored, storedInPostgres } from "../support/stored.ts";
import { tracesOf } from "../support/traces.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(120_000);

let server: PostgresServer;
let redis: RedisServer;
let stored: Stored;
let nodes: Service[];

beforeAll(async () => {
  [server, redis] = await Promise.all([startPostgres(), startRedis()]);
  stored = await storedInPostgres(server);
  const settings = {
    STORAGE__URL: stored.url,
    STORAGE__POOL_SIZE: "6",
    STORAGE__QUERY_TIMEOUT: "2s",
    CLUSTER__URL: redis.url,
    CLUSTER__HEARTBEAT: "200ms",
    CLUSTER__DEAD_AFTER: "1s",
    PRESENCE__OFFLINE_GRACE: "0s",
    WEBSOCKET__CLEANUP_INTERVAL: "200ms",
  };
  nodes = await Promise.all(
    [1, 2, 3].map((it) => startService({ settings: { ...settings, CLUSTER__NODE_ID: `n${it}` } })),
  );
});
afterAll(async () => {
  await Promise.all((nodes ?? []).map((node) => node.stop()));
  await stored?.close();
  await Promise.all([server?.stop(), redis?.stop()]);
});

const as = (node: Service, user_id: string, roles = "") =>
  Client.connect(node.url, { query: { user_id, ...(roles === "" ? {} : { roles }) } });
const historyOf = async (client: Client, conversation: string): Promise<any[]> =>
  (await client.ask("history", { topic: `conversation:${conversation}`, limit: 200 })).events;

test("[LOG9] what a conversation keeps is so on every node, live connections go on, and nobody is told", async () => {
  const c = fresh("c");
  const clients = await Promise.all(nodes.map((node, at) => as(node, `u${at}`)));
  for (const client of clients) await client.ask("subscribe", { topics: [`conversation:${c}`] });
  const [anna, ben] = clients as [Client, Client];
  await sendAll(anna, c, ["one", "two"]);
  await ben.next("message.new", ({ content }) => content === "two");
  const root = await as(nodes[1]!, "root", "admin");
  await stored.run(`UPDATE ws.events SET created_at = created_at - 7200000 WHERE topic_id =
    (SELECT topic_id FROM ws.topics WHERE name = 'conversation:${c}')`);
  await root.ask("admin.conversations.update", { conversation_id: c, retention: "1h" });
  for (const client of clients)
    await eventually(
      () => historyOf(client, c),
      (events) => events.length === 0,
    );
  expect((await sendAll(ben, c, ["three"]))[0]).toMatchObject({ seq: 3 });
  for (const client of clients.filter((it) => it !== ben))
    expect(await client.next("message.new", ({ content }) => content === "three")).toMatchObject({ seq: 3 });
  for (const node of nodes) expect(node.logs.filter(({ msg }) => msg.includes("gone back"))).toEqual([]);
  await Promise.all([...clients, root].map((client) => client.close()));
});

test("[BAK4] asked of one node, which is killed in the middle, and PostgreSQL after it, another one ends it; the user is sent away everywhere, and others hear of it", async () => {
  const [zoe, c, count] = ["zoe-4711", fresh("c"), 1_000];
  const [one, two, three] = nodes as [Service, Service, Service];
  const [hers, ...others] = [await as(one, zoe), await as(two, zoe), await as(three, zoe)];
  const ben = await as(three, "ben");
  await ben.ask("subscribe", { topics: [`conversation:${c}`] });
  for (let at = 0; at < count; at += 500) await sendAll(hers, c, Array(500).fill("secret"));
  const root = await as(two, "root", "admin");
  // The one that is asked begins.
  const asked = await as(one, "root", "admin");
  await asked.ask("admin.users.erase", { user_id: zoe });
  for (const client of [hers, ...others]) expect((await client.closed).code).toBe(4011);
  await eventually(
    () => root.ask("admin.users.erasure", { user_id: zoe }),
    ({ messages }) => messages >= 100,
  );
  await one.kill();
  await expect(as(two, zoe)).rejects.toThrow();
  if (server.isOwn) {
    await server.halt();
    await server.resume();
  }
  const { messages } = await eventually(
    () => root.request("admin.users.erasure", { user_id: zoe }).then(({ payload }) => payload),
    ({ state }) => state === "finished",
  );
  expect(messages).toBeGreaterThan(count / 2);
  await ben.until(() => (ben.all("message.deleted").length >= count ? true : undefined));
  const deleted = ben.all("message.deleted").map(({ payload }) => payload.message_id);
  expect([deleted.length, new Set(deleted).size]).toEqual([count, count]);
  expect(await tracesOf(stored, "PostgreSQL", zoe)).toEqual({
    "events.payload": ["message.new"],
  });
  expect((await stored.copy()).includes("secret")).toBe(false);
  await (await as(two, zoe)).close();
  await Promise.all([ben, root].map((client) => client.close()));
});
