/** Nodes that reach Redis elsewhere than its servers say: by the map alone, while links are cut, slots move and masters change. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Redis } from "ioredis";
import { parseRedisUrl } from "../../src/cluster/redis/address.ts";
import { Commands } from "../../src/cluster/redis/commands.ts";
import { openCommandClient } from "../../src/cluster/redis/connection.ts";
import { bucketOfChannel, slotOf } from "../../src/cluster/redis/keys.ts";
import { Client } from "../support/client.ts";
import { keys, silent } from "../support/cluster.ts";
import { openStage, type Stage, type StageNode } from "../support/faults/stage.ts";
import { fresh } from "../support/people.ts";
import { type RedisServer, startRedisCluster } from "../support/redis.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(90_000);

let stage: Stage;
const clients: Client[] = [];
const open = async (options: Parameters<typeof openStage>[0]) => {
  stage = await openStage(options);
};
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
});

/** A member of the conversation on each node, live on it. */
async function gather(conversationId: string, nodes: StageNode[]): Promise<Client[]> {
  return Promise.all(
    nodes.map(async (node) => {
      const client = await Client.connect(node.url, { query: { user_id: fresh("user") }, patienceMs: 30_000 });
      clients.push(client);
      await client.ask("subscribe", { topics: [`conversation:${conversationId}`, `typing:${conversationId}`] });
      return client;
    }),
  );
}

const say = (from: Client, conversation_id: string, content: string) =>
  from.ask("message.send", { conversation_id, client_message_id: crypto.randomUUID(), content });
const hears = (client: Client, content: string) => client.next("message.new", (payload) => payload.content === content);
const isAway = (node: StageNode) => until(async () => !(await node.isWhole()));

/** Typing is not logged: it arrives by the bus or never. */
async function expectBus(conversationId: string, from: Client, to: Client[]): Promise<void> {
  await from.ask("typing.start", { conversation_id: conversationId });
  await Promise.all(to.map((client) => client.next("typing.start")));
  await from.ask("typing.stop", { conversation_id: conversationId });
  await Promise.all(to.map((client) => client.next("typing.stop")));
}

/** Connections of a server that come through no node's proxy, and are not the servers' own. */
async function strangersAt(server: RedisServer): Promise<string[]> {
  const redis = new Redis(server.port);
  try {
    const own = `id=${await redis.client("ID")} `;
    const lines = String(await redis.client("LIST"))
      .trim()
      .split("\n");
    return lines.filter((line) => {
      const port = Number(/ addr=[^ ]*:(\d+) /.exec(line)![1]);
      const isServer = / flags=[^ ]*[SM]/.test(line) || line.includes(" name=sentinel-");
      const links = stage.nodes.flatMap(({ toRedis }) => toRedis);
      return !line.startsWith(own) && !isServer && !links.some(({ link }) => link.comesFrom(port));
    });
  } finally {
    redis.disconnect();
  }
}

describe("Redis Cluster", () => {
  beforeAll(() => open({ engine: "cluster" }));
  afterAll(() => stage?.stop());

  /** A conversation whose channel is on that master. */
  function conversationOn(master: number): string {
    for (;;) {
      const id = fresh("room");
      const [message, typing] = [`conversation:${id}`, `typing:${id}`].map((topic) =>
        Math.floor(slotOf(bucketOfChannel(keys.topicChannel(topic))) / 5_461.5),
      );
      if (message === master && typing === master) return id;
    }
  }

  test("[END2] servers that announce names which lead nowhere are reached through the map, and only so", async () => {
    expect(stage.redis.map(({ announced }) => announced.split(":")[0])).toEqual([
      "redis-1.invalid",
      "redis-2.invalid",
      "redis-3.invalid",
    ]);
    for (const master of [0, 1, 2]) {
      const room = conversationOn(master);
      const [anna, ben, eve] = (await gather(room, stage.nodes)) as [Client, Client, Client];
      await expectBus(room, anna, [ben, eve]);
      await expectBus(room, eve, [anna, ben]);
      expect(await strangersAt(stage.redis[master]!)).toEqual([]);
    }
  });

  for (const way of ["cut", "freeze"] as const)
    test(`[LOG3] [LOG4] [END2] one node's link to one master, ${way}: the others go on, it is served by the log, and well once healed`, async () => {
      const [n1, n2, n3] = stage.nodes as [StageNode, StageNode, StageNode];
      const room = conversationOn(1);
      const [anna, ben, eve] = (await gather(room, [n1, n2, n3])) as [Client, Client, Client];
      const { link } = n2.toRedis[1]!;
      link[way]();
      await isAway(n2);
      expect([await n1.isWhole(), await n3.isWhole()]).toEqual([true, true]);
      await expectBus(room, anna, [eve]);
      for (const content of ["m1", "m2"]) await say(anna, room, content);
      await say(ben, room, "m3");
      await Promise.all([anna, ben, eve].map((client) => (client === ben ? hears(ben, "m2") : hears(client, "m3"))));
      link.heal();
      await stage.whole();
      await expectBus(room, anna, [ben, eve]);
      await say(anna, room, "m4");
      await Promise.all([ben, eve].map((client) => hears(client, "m4")));
      expect(ben.all("message.new").map(({ seq }) => seq)).toEqual([1, 2, 4]);
      expect(eve.all("message.new").map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
      expect((await Promise.all(stage.redis.map(strangersAt))).flat()).toEqual([]);
    });
});

describe("Sentinel", () => {
  beforeAll(() => open({ engine: "sentinel", nodes: 2 }));
  afterAll(() => stage?.stop());

  test("[END2] [LOG3] after a failover the new master is found through the map", async () => {
    const [n1, n2] = stage.nodes as [StageNode, StageNode];
    const room = fresh("room");
    const [anna, ben] = (await gather(room, [n1, n2])) as [Client, Client];
    await expectBus(room, anna, [ben]);
    expect(await strangersAt(stage.redis[0]!)).toEqual([]);
    await stage.redis[0]!.kill();
    await Promise.all([n1, n2].map(isAway));
    await say(anna, room, "m1");
    await hears(ben, "m1");
    await stage.whole();
    await expectBus(room, anna, [ben]);
    expect(await strangersAt(stage.redis[1]!)).toEqual([]);

    n2.toRedis[1]!.link.cut();
    await isAway(n2);
    expect(await n1.isWhole()).toBe(true);
    await say(anna, room, "m2");
    await hears(ben, "m2");
    n2.toRedis[1]!.link.heal();
    await stage.whole();
    await expectBus(room, anna, [ben]);
    expect(ben.all("message.new").map(({ seq }) => seq)).toEqual([1, 2]);
    expect(await strangersAt(stage.redis[1]!)).toEqual([]);
  });
});

test("[END2] commands of one turn follow a slot that moves, through the map", async () => {
  const group = await startRedisCluster({ elsewhere: true });
  const natMap = Object.fromEntries(group.servers.map(({ announced, port }) => [announced, `127.0.0.1:${port}`]));
  const client = openCommandClient(parseRedisUrl(group.url, { natMap }), { commandTimeoutMs: 2_000 });
  const commands = new Commands({ client, logger: silent, now: Date.now, publishesMax: 0, refusalLastsMs: 0 });
  const servers = group.servers.map(({ port }) => new Redis(port));
  try {
    await commands.connect();
    const slot = Number(await servers[0]!.cluster("KEYSLOT", "{tag}"));
    const from = servers[Math.floor(slot / 5_461.5)]!;
    const to = servers.find((it) => it !== from)!;
    const [fromId, toId] = (await Promise.all([from, to].map((it) => it.cluster("MYID")))) as [string, string];
    const keys = Array.from({ length: 5 }, (_, at) => `{tag}${at}`);
    await to.call("cluster", "setslot", slot, "importing", fromId);
    await from.call("cluster", "setslot", slot, "migrating", toId);
    // The old master has none of them, and sends each command to the new one (ASK).
    const asked = await Promise.all(keys.map((key) => commands.call("set", key, `value of ${key}`)));
    expect(asked).toEqual(keys.map(() => "OK"));
    for (const server of [to, from]) await server.call("cluster", "setslot", slot, "node", toId);
    // Now for good (MOVED).
    const read = await Promise.all(keys.map((key) => commands.call("get", key)));
    expect(read).toEqual(keys.map((key) => `value of ${key}`));
  } finally {
    commands.stop();
    for (const server of servers) server.disconnect();
    await group.stop();
  }
});
