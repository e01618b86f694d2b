/** Proves the cluster on Sentinel and on a Redis Cluster while masters fail. Each test has servers of its own, and they wait side by side. */
import { expect, test } from "bun:test";
import { Redis } from "ioredis";
import type { Call } from "../../src/cluster/call.ts";
import type { Cluster } from "../../src/cluster/ports.ts";
import { record } from "../contract/bus.ts";
import { isUp, keys, redisNode, startNodes } from "../support/cluster.ts";
import { exampleCall } from "../support/example-call.ts";
import { openSharedStorage, type PresenceNode, startPresence } from "../support/presence-node.ts";
import { startProxy } from "../support/proxy.ts";
import { idsOf } from "../support/records.ts";
import { startRedisCluster, startSentinelPair } from "../support/redis.ts";
import { until } from "../support/until.ts";

const settings = { heartbeatMs: 200, deadAfterMs: 5_000, commandTimeoutMs: 500, watchTimeoutMs: 500 };
const typing = (topic: string, id: string) =>
  ({ kind: "ephemeral", topic, id, type: "typing.start", payload: "{}", at: 1 }) as const;

test.concurrent("[END2] [PRE1] a Sentinel's new master is found, and events and presence go on there", async () => {
  const group = await startSentinelPair();
  const { nodes, close } = await startNodes(group.url, ["n1", "n2"], settings);
  const [one, other] = nodes as [Cluster, Cluster];
  const storage = await openSharedStorage();
  const [here, there] = [one, other].map((node) => startPresence(node, { storage })) as [PresenceNode, PresenceNode];
  try {
    await here.connect("ann", "d1");
    await there.watch("ann");
    await other.bus.watch("typing:c1");
    const heard = record(other.bus);
    await group.servers[0]!.kill();
    await until(async () => !(await isUp(one)));
    await until(async () => (await isUp(one)) && (await isUp(other)), 40_000);
    await until(async () => (await idsOf(other.presence, "ann"))?.length === 1);
    one.bus.publish("typing:c1", typing("typing:c1", "after"));
    expect(await heard.topic(() => true)).toEqual(typing("typing:c1", "after"));
    expect(there.shown).toEqual([]);
  } finally {
    for (const { tracker } of [here, there]) await tracker.stop();
    await close();
    await storage.stop();
    await group.stop();
  }
}, 60_000);

test.concurrent("[CALL2] a Sentinel's new master that missed the last word of a call is told it again", async () => {
  const group = await startSentinelPair();
  const { nodes, close } = await startNodes(group.url, ["n1", "n2"], settings);
  const [one, other] = nodes as [Cluster, Cluster];
  const [master, replica] = group.servers.map(({ port }) => new Redis(port, { retryStrategy: null }));
  for (const redis of [master!, replica!]) redis.on("error", () => {});
  const [answered, unheard] = [exampleCall(), exampleCall()];
  const key = ({ callId }: Call) => ({ callId, userIds: [] });
  const before = (call: Call) => ({ put: [call], result: null });
  try {
    await one.calls.transact(key(answered), () => before(answered));
    await master!.wait(1, 0);
    const dumped = await replica!.dumpBuffer(`${keys.callsPrefix}call:${answered.callId}`);
    await other.calls.transact(key(answered), () => before({ ...answered, state: "active" }));
    await other.calls.transact(key(unheard), () => before(unheard));
    await master!.wait(1, 0);
    // As if replication had been late.
    await replica!.config("SET", "replica-read-only", "no");
    await replica!.restore(`${keys.callsPrefix}call:${answered.callId}`, 0, dumped, "REPLACE");
    await replica!.del(`${keys.callsPrefix}call:${unheard.callId}`);
    await group.servers[0]!.kill();
    await until(async () => !(await isUp(one)));
    await until(async () => (await one.calls.get(answered.callId).catch(() => null))?.state === "active", 40_000);
    await until(async () => (await one.calls.get(unheard.callId).catch(() => null)) !== null);
  } finally {
    for (const redis of [master!, replica!]) redis.disconnect();
    await close();
    await group.stop();
  }
}, 60_000);

test.concurrent("[END2] [PRE1] one master of a Redis Cluster goes and comes back empty: what it held is put back", async () => {
  const group = await startRedisCluster();
  const { nodes, close } = await startNodes(group.url, ["n1", "n2"], settings);
  const [one, other] = nodes as [Cluster, Cluster];
  const users = Array.from({ length: 50 }, (_, at) => `u${at}`);
  const storage = await openSharedStorage();
  const [here, there] = [one, other].map((node) => startPresence(node, { storage })) as [PresenceNode, PresenceNode];
  try {
    for (const userId of users) await here.connect(userId, "d1");
    for (const userId of users) await there.watch(userId);
    await Promise.all(users.map((userId) => other.bus.watch(`typing:${userId}`)));
    await group.servers[1]!.kill();
    await until(async () => !(await isUp(one)));
    await group.servers[1]!.restart();
    await until(async () => (await isUp(one)) && (await isUp(other)), 40_000);
    await until(async () => (await other.presence.stats()).devices === users.length);
    await until(async () => (await other.presence.read(users)).size === users.length);
    for (const userId of users) expect(await idsOf(other.presence, userId)).toEqual(["d1"]);
    expect(there.shown).toEqual([]);
    const heard = record(other.bus);
    // Said until it is heard: what is said while the last link comes back may be lost.
    await until(async () => {
      const topics = new Set(heard.topics.map((message) => (message.kind === "ephemeral" ? message.topic : "")));
      const unheard = users.map((userId) => `typing:${userId}`).filter((topic) => !topics.has(topic));
      for (const topic of unheard) one.bus.publish(topic, typing(topic, "after"));
      return unheard.length === 0;
    });
  } finally {
    for (const { tracker } of [here, there]) await tracker.stop();
    await close();
    await storage.stop();
    await group.stop();
  }
}, 60_000);

test.concurrent("[END2] word of a new master that comes while nodes still ask for it leaves none of them without Redis", async () => {
  const group = await startSentinelPair();
  const proxy = await startProxy(group.sentinel.port);
  const url = `redis+sentinel://127.0.0.1:${proxy.port}/${group.masterName}`;
  const { nodes, close } = await startNodes(url, ["n1", "n2", "n3"], settings);
  try {
    // Asking takes most of the time between two tries, so that the word comes in the middle of it.
    proxy.delay(150);
    await group.servers[0]!.kill();
    await until(async () => !(await isUp(nodes[0]!)));
    proxy.delay(100);
    await until(async () => (await Promise.all(nodes.map(isUp))).every(Boolean), 40_000);
  } finally {
    await close();
    await proxy.stop();
    await group.stop();
  }
}, 60_000);

test.concurrent("[END2] a node that starts while a Redis Cluster is down joins the others once it is up, and hears what it had asked for", async () => {
  const group = await startRedisCluster();
  const answers = group.servers.map(({ port }) => new Redis(port));
  for (const answer of answers) answer.on("error", () => {});
  const hasState = async (answer: Redis, state: string) =>
    String(await answer.call("cluster", "info").catch(String)).includes(`cluster_state:${state}`);
  // Each server has its own opinion, and a node may ask any of them.
  const stateIs = (state: string, which: Redis[]) =>
    until(async () => (await Promise.all(which.map((it) => hasState(it, state)))).every((it) => it));
  try {
    await group.servers[1]!.kill();
    await stateIs("fail", [answers[0]!, answers[2]!]);
    const early = redisNode(group.url, "n1", settings);
    await early.start();
    const topics = Array.from({ length: 20 }, (_, at) => `typing:c${at}`);
    await Promise.all(topics.map((topic) => early.bus.watch(topic)));
    expect(await isUp(early)).toBe(false);
    await group.servers[1]!.restart();
    await stateIs("ok", answers);
    await until(() => isUp(early), 40_000);
    const { nodes, close } = await startNodes(group.url, ["n2"], settings);
    await until(async () => (await early.nodes.list()).length === 2);
    const heard = record(early.bus);
    // Said until it is heard: what is said while the last link comes up may be lost.
    await until(async () => {
      const known = new Set(heard.topics.map((message) => (message.kind === "ephemeral" ? message.topic : "")));
      const unheard = topics.filter((topic) => !known.has(topic));
      for (const topic of unheard) nodes[0]!.bus.publish(topic, typing(topic, "now"));
      return unheard.length === 0;
    });
    await close();
    await early.stop();
  } finally {
    for (const answer of answers) answer.disconnect();
    await group.stop();
  }
}, 60_000);
