/** Proves that a Redis user with the rights that the docs name, and no others, is enough for all that nodes do. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { createRedisCluster } from "../../src/cluster/redis/cluster.ts";
import { record } from "../contract/bus.ts";
import { isUp, redisNode } from "../support/cluster.ts";
import { exampleCall } from "../support/example-call.ts";
import { arrived, examplesOf } from "../support/ingest.ts";
import { createPeople, fresh } from "../support/people.ts";
import { add, remove } from "../support/records.ts";
import { type RedisServer, startRedis, startRedisCluster } from "../support/redis.ts";
import { type Service, startClusterNode } from "../support/service.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const credentials = `ws-service:${encodeURIComponent("a password")}`;
let redis: RedisServer;
let operator: Redis;
let shared: string;
let one: Service;
let other: Service;

/** The lines as they stand, as a shell would read them. */
async function grants(): Promise<string[][]> {
  const blocks = await examplesOf("sh", "Many nodes");
  const lines = blocks.flatMap((block) => block.split("\n")).filter((line) => line.startsWith("redis-cli ACL SETUSER"));
  return lines.map((line) =>
    [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!).slice(1),
  );
}

/** Lists what the user was refused, by anybody's count. */
async function refused(server: Redis): Promise<string[]> {
  const entries = (await server.call("ACL", "LOG")) as unknown[][];
  // That a client says its name is refused, and ignored by it.
  return entries.map((entry) => JSON.stringify(entry)).filter((entry) => !/client\|set(info|name)/i.test(entry));
}

const startNode = (nodeId: string) =>
  startClusterNode(`redis://${credentials}@127.0.0.1:${redis.port}/1`, {
    env: { TEST_CLUSTER_STREAM: "ws-ingest" },
    settings: {
      STORAGE__URL: `sqlite:${join(shared, "log.db")}`,
      CLUSTER__NODE_ID: nodeId,
      CLUSTER__HEARTBEAT: "200ms",
      CLUSTER__DEAD_AFTER: "1s",
      PRESENCE__OFFLINE_GRACE: "200ms",
      WEBSOCKET__CLEANUP_INTERVAL: "200ms",
    },
  });

beforeAll(async () => {
  shared = mkdtempSync(join(tmpdir(), "ws-acl-"));
  redis = await startRedis();
  operator = new Redis(redis.url, { db: 1 });
  const [[command, ...words]] = (await grants()) as [string[]];
  await operator.call(command!, ...words);
  [one, other] = await Promise.all([startNode("one"), startNode("other")]);
});
afterAll(async () => {
  operator?.disconnect();
  await Promise.all([one?.stop(), other?.stop()]);
  await redis?.stop();
  rmSync(shared, { recursive: true, force: true });
});
const here = createPeople(() => one.url);
const there = createPeople(() => other.url);

test("[END2] messages, presence, typing, calls, blocks, a stream and a node that dies need no more rights than the docs give", async () => {
  const [annaId, benId, c] = [fresh("anna"), fresh("ben"), fresh("c")];
  const [anna, ben] = [await here.connect(annaId), await there.connect(benId)];
  const topics = ["conversation", "typing", "presence"];
  for (const it of [anna, ben]) await it.ask("subscribe", { topics, filters: { conversation_id: c } });
  await anna.ask("message.send", { conversation_id: c, client_message_id: "m", content: "hello" });
  await ben.next("message.new");
  await anna.ask("typing.start", { conversation_id: c });
  await ben.next("typing.start");
  await anna.ask("presence.update", { status: "busy" });
  await ben.next("presence.update", ({ status }) => status === "busy");
  const call = { call_id: crypto.randomUUID(), to_user_id: benId, conversation_id: c, media: "audio", sdp: "offer" };
  await anna.ask("call.offer", call);
  await ben.next("call.incoming");
  await ben.ask("call.answer", { call_id: call.call_id, sdp: "answer" });
  await anna.next("call.answer");
  await anna.ask("call.hangup", { call_id: call.call_id });
  await ben.next("call.ended");
  const admin = await here.connect(fresh("root"), { roles: "admin" });
  expect((await admin.ask("admin.stats")).nodes).toHaveLength(2);
  expect((await admin.ask("admin.nodes")).nodes).toHaveLength(2);
  const malId = fresh("mal");
  // Heard of before, so that no node looks at this user by itself in the moment of the block.
  await admin.ask("admin.users.upsert", { user_ids: [malId] });
  await admin.ask("admin.members.add", { conversation_id: c, user_ids: [malId] });
  await ben.next("member.added", ({ user_id }) => user_id === malId);
  const mal = await there.connect(malId);
  expect(await admin.ask("admin.block", { user_id: malId, for: 60 })).toMatchObject({ disconnected: 1 });
  expect((await mal.closed).code).toBe(4011);

  // Another installation reads the stream as well; one entry cannot be published.
  await operator.xgroup("CREATE", "ws-ingest", "another", "0", "MKSTREAM");
  const add = (payload: string) =>
    operator.xadd("ws-ingest", "*", "conversation_id", c, "type", "order.changed", "payload", payload);
  await add('{"n":1}');
  await add("no JSON");
  await add('{"n":2}');
  expect(await arrived(ben, `conversation:${c}`, 3)).toHaveLength(3);
  await until(async () => (await operator.xlen("ws-ingest:rejected")) === 1);
  expect((await admin.ask("admin.stats")).nodes).toHaveLength(2);

  await operator.xgroup("DESTROY", "ws-ingest", "another");
  await add('{"n":3}');
  await anna.ask("unsubscribe", { topics: [`typing:${c}`] });

  await other.kill();
  await until(async () => (await admin.ask("admin.nodes")).nodes.length === 1);
  await anna.next("presence.offline", ({ user_id }) => user_id === benId);
  expect(await refused(operator)).toEqual([]);
  // And none of them is there for nothing; these are for forgetting a call, and for an entry that another group has read.
  const rare = ["del", "xpending"];
  const granted = (await grants())[0]!.filter((word) => word.startsWith("+")).map((word) => word.slice(1));
  await until(async () => {
    const called = (await operator.info("commandstats")).matchAll(/^cmdstat_(\S+?):/gm);
    const names = new Set([...called].map(([, name]) => name));
    return granted.every((name) => names.has(name) || rare.includes(name));
  });
  expect(((await (await fetch(`${one.http}/health`)).json()) as { status: string }).status).toBe("up");
});

test("[END2] each command that the docs grant and a user lacks is told at the start, by its name", async () => {
  const server = await startRedis();
  const own = new Redis(server.url);
  try {
    const [[command, word, , ...rules]] = (await grants()) as [string[]];
    // Asked for by the library where it has use for them, or by who leaves; and scripts are refused in their own words.
    const untried = ["ping", "info", "select", "unsubscribe", "eval", "evalsha"];
    const granted = rules.filter((rule) => rule.startsWith("+")).map((rule) => rule.slice(1));
    const tried = granted.filter((name) => !untried.includes(name));
    const words = await Promise.all(
      tried.map(async (name) => {
        const user = `less-${name.replace("|", "-")}`;
        await own.call(command!, word!, user, ...rules.filter((rule) => rule !== `+${name}`));
        const node = createRedisCluster({
          url: `redis://${user}:${encodeURIComponent("a password")}@127.0.0.1:${server.port}`,
          installation: "one",
          nodeId: user,
          version: "test",
          now: Date.now,
          logger: { info() {}, warn() {}, error() {} },
          ingest: { stream: "ws-ingest", group: null },
        });
        const refusal = await node.start().catch(String);
        if (refusal === undefined) await node.stop();
        return [name, refusal];
      }),
    );
    const named = tried.map((name) => [name, expect.stringContaining(`no permissions to run the '${name}' command`)]);
    expect(words).toEqual(named);
    // Nor does anything stay behind of what may not be taken away.
    await until(async () => (await own.keys("*probe*")).length === 0);
  } finally {
    own.disconnect();
    await server.stop();
  }
});

test("[END2] the same on a Redis Cluster, with what the docs add", async () => {
  const group = await startRedisCluster();
  const servers = group.servers.map(({ port }) => new Redis(port));
  const nodes = ["n1", "n2"].map((nodeId) => redisNode(group.url.replace("//", `//${credentials}@`), nodeId));
  try {
    for (const server of servers)
      for (const [command, ...words] of await grants()) await server.call(command!, ...words);
    await Promise.all(nodes.map((node) => node.start()));
    const [n1, n2] = nodes as [(typeof nodes)[0], (typeof nodes)[0]];
    await until(async () => (await isUp(n1!)) && (await isUp(n2!)));
    const topics = Array.from({ length: 20 }, (_, at) => `typing:c${at}`);
    await Promise.all(topics.map((topic) => n2!.bus.watch(topic)));
    const heard = record(n2!.bus);
    for (const topic of topics)
      n1!.bus.publish(topic, { kind: "ephemeral", topic, id: topic, type: "typing.start", payload: "{}", at: 1 });
    await heard.count(topics.length);
    const call = exampleCall();
    await n1!.calls.transact({ callId: call.callId, userIds: [] }, () => ({ put: [call], result: null }));
    expect(await n2!.calls.get(call.callId)).toEqual(call);
    for (const topic of topics) await add(n1!.presence, topic, { device: "d" });
    expect(await n2!.presence.stats()).toEqual({ users: 20, devices: 20 });
    for (const topic of topics) await remove(n1!.presence, topic, "d");
    n2!.bus.sweep(() => false);
    n2!.bus.sweep(() => false);
    expect((await Promise.all(servers.map(refused))).flat()).toEqual([]);
  } finally {
    await Promise.all(nodes.map((node) => node.stop()));
    for (const server of servers) server.disconnect();
    await group.stop();
  }
});
