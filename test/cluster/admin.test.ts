/** Proves that operators see and reach every node from any of them, and are told which one did not answer [ADM1]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Client } from "../support/client.ts";
import { laySharedFile, type SharedFile } from "../support/ground.ts";
import { createPeople, fresh } from "../support/people.ts";
import type { Service } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

let ground: SharedFile;
let one: Service;
let other: Service;

const startNode = (nodeId: string) =>
  ground.startNode({
    CLUSTER__NODE_ID: nodeId,
    CLUSTER__HEARTBEAT: "200ms",
    CLUSTER__DEAD_AFTER: "60s",
    OPERATIONS__SAMPLE_INTERVAL: "1s",
  });

beforeAll(async () => {
  ground = await laySharedFile();
  one = await startNode("one");
  other = await startNode("other");
});
afterAll(async () => {
  await Promise.all([one?.stop(), other?.stop()]);
  await ground?.stop();
});

const here = createPeople(() => one.url);
const there = createPeople(() => other.url);
const operator = () => here.connect(fresh("root"), { roles: "admin" });
const both = async (userId: string) => ({ near: await here.connect(userId), far: await there.connect(userId) });

/**
 * Makes somebody known before anybody is there as this user, and waits until both nodes have heard of it: a node that hears of a user who is
 * here looks at once whether the user may be, and ends by itself what an operator who blocks just then would have ended and counted.
 */
async function makeKnown(admin: Client, userId: string): Promise<void> {
  const c = fresh("c");
  const watchers = Object.values(await both(fresh("watcher")));
  for (const watcher of watchers) await watcher.ask("subscribe", { topics: [`conversation:${c}`] });
  await admin.ask("admin.users.upsert", { user_ids: [userId] });
  await admin.ask("admin.members.add", { conversation_id: c, user_ids: [userId] });
  for (const watcher of watchers) await watcher.next("member.added", ({ user_id }) => user_id === userId);
}

test("[ADM1] connections, topics, figures and nodes are those of the whole cluster", async () => {
  const admin = await operator();
  const [anna, c] = [fresh("anna"), fresh("c")];
  const { near, far } = await both(anna);
  for (const client of [near, far]) await client.ask("subscribe", { topics: [`conversation:${c}`] });

  const { connections, total, missing_nodes } = await admin.ask("admin.connections", { user_id: anna });
  expect([total, missing_nodes]).toEqual([2, []]);
  expect(connections.map((it: any) => it.node_id).sort()).toEqual(["one", "other"]);
  const paged = await admin.ask("admin.connections", { user_id: anna, limit: 1 });
  const rest = await admin.ask("admin.connections", { user_id: anna, limit: 1, after: paged.next });
  expect([...paged.connections, ...rest.connections]).toMatchObject(
    connections.map(({ connection_id }: any) => ({ connection_id })),
  );
  const only = await admin.ask("admin.connections", { user_id: anna, node_id: "other" });
  expect(only.connections).toMatchObject([{ node_id: "other" }]);
  const { connection_id } = (await far.next("connected")).payload;
  expect((await admin.ask("admin.connection", { connection_id })).connection).toMatchObject({ node_id: "other" });

  const topic = `conversation:${c}`;
  expect((await admin.ask("admin.topics", { prefix: topic })).topics).toEqual([{ topic, subscribers: 2 }]);
  expect(await admin.ask("admin.topic", { topic })).toMatchObject({
    subscribers: 2,
    nodes: [
      { node_id: "one", subscribers: 1 },
      { node_id: "other", subscribers: 1 },
    ],
  });
  const stats = await admin.ask("admin.stats");
  expect(stats.nodes.map((it: any) => it.node_id)).toEqual(["one", "other"]);
  expect(stats.hub.connections).toBe(
    stats.nodes.reduce((sum: number, { figures }: any) => sum + figures.hub.connections, 0),
  );
  expect(stats.cluster).toMatchObject({ nodes: 2, topics: expect.any(Number) });
  const { nodes } = await admin.ask("admin.nodes");
  expect(nodes.map((it: any) => [it.node_id, it.answers, it.health?.status])).toEqual([
    ["one", true, "up"],
    ["other", true, "up"],
  ]);
});

test("[ADM1] [AUTH4] subscribing, disconnecting, blocking and disabling reach the other node", async () => {
  const admin = await operator();
  const [anna, c] = [fresh("anna"), fresh("c")];
  await makeKnown(admin, anna);
  const { near, far } = await both(anna);
  await admin.ask("admin.members.add", { conversation_id: c, user_ids: [anna] });
  const topics = [`conversation:${c}`];
  expect((await admin.ask("admin.subscribe", { user_id: anna, topics })).connections).toHaveLength(2);
  await far.next("subscribed", (payload) => payload.topics[0].topic === topics[0]);
  expect((await admin.ask("admin.unsubscribe", { user_id: anna, topics })).connections).toHaveLength(2);
  await far.next("unsubscribed");
  expect(await admin.ask("admin.disconnect", { user_id: anna })).toEqual({ disconnected: 2, missing_nodes: [] });
  for (const client of [near, far]) expect(await client.closed).toMatchObject({ code: 4011 });

  const again = await both(anna);
  expect(await admin.ask("admin.block", { user_id: anna, for: 60 })).toMatchObject({ disconnected: 2 });
  for (const client of [again.near, again.far]) expect(await client.closed).toMatchObject({ code: 4011 });
  for (const people of [here, there]) await expect(people.connect(anna)).rejects.toThrow();
  await admin.ask("admin.block", { user_id: anna, for: 0 });

  const last = await both(anna);
  await admin.ask("admin.users.disable", { user_id: anna });
  for (const client of [last.near, last.far]) expect(await client.closed).toMatchObject({ code: 4011 });
});

test("[ADM1] a connection on another node is watched, until it ends or its node is lost, and the last hour is everybody's", async () => {
  const admin = await operator();
  const { near, far } = await both(fresh("anna"));
  const watch = async (client: Client) => {
    const { connection_id } = (await client.next("connected")).payload;
    return admin.ask("admin.watch", { connection_id });
  };
  const first = await watch(far);
  expect(first).toMatchObject({ node_id: "other", missing_nodes: [] });
  await far.settled();
  await admin.next("admin.watched", ({ messages }) => messages.some(({ type }: any) => type === "pong"));
  await near.settled();
  await far.close(4_999);
  const isEnd = (id: string) => (payload: any) => payload.watch_id === id && payload.ended !== undefined;
  expect((await admin.next("admin.watched", isEnd(first.watch_id))).payload).toMatchObject({
    ended: "closed",
    code: 4_999,
  });
  const pongs = admin
    .all("admin.watched")
    .flatMap(({ payload }) => payload.messages.filter(({ type }: any) => type === "pong"));
  expect(pongs).toHaveLength(1);

  const last = await there.connect(fresh("ben"));
  const second = await watch(last);
  other.signal("SIGSTOP");
  try {
    expect((await admin.next("admin.watched", isEnd(second.watch_id))).payload.ended).toBe("lost");
  } finally {
    other.signal("SIGCONT");
  }
  // It ends by itself, for it is not asked for any more.
  await other.logged(({ msg, watch_id }) => msg === "a connection is watched no more" && watch_id === second.watch_id);
  const { samples } = await eventually(
    () => admin.ask("admin.samples"),
    (it) => it.missing_nodes.length === 0 && it.samples.some(({ connections }: any) => connections >= 3),
  );
  const [one, theOther] = await Promise.all(["one", "other"].map((node_id) => admin.ask("admin.samples", { node_id })));
  const at = samples.findLast(({ connections }: any) => connections >= 3).at;
  const connectionsOf = (it: any) => it.samples.find((sample: any) => sample.at === at)?.connections ?? 0;
  expect(connectionsOf({ samples })).toBe(connectionsOf(one) + connectionsOf(theOther));
});

test("[ADM1] a node that does not answer in time is named, and what the others say is there", async () => {
  const admin = await operator();
  const anna = fresh("anna");
  await here.connect(anna);
  other.signal("SIGSTOP");
  try {
    const stats = await admin.ask("admin.stats");
    expect(stats.missing_nodes).toEqual(["other"]);
    expect(stats.nodes.map((it: any) => it.node_id)).toEqual(["one"]);
    const found = await admin.ask("admin.connections", { user_id: anna });
    expect(found).toMatchObject({ total: 1, missing_nodes: ["other"] });
    // Asked of a node that answers, nothing is missing.
    expect(await admin.ask("admin.connections", { node_id: "one", user_id: anna })).toMatchObject({
      missing_nodes: [],
    });
    const lost = await admin.request("admin.connection", { connection_id: "none" });
    expect(lost.payload).toMatchObject({ code: "unavailable", retryable: true });
    const { nodes } = await admin.ask("admin.nodes");
    expect(nodes.find((it: any) => it.node_id === "other")).toMatchObject({ answers: false, health: null });
  } finally {
    other.signal("SIGCONT");
  }
  await eventually(
    () => admin.ask("admin.stats"),
    ({ missing_nodes }) => missing_nodes.length === 0,
  );
});

test("[ADM1] while Redis is away the nodes that cannot be asked are named, whatever was asked before", async () => {
  const anna = fresh("anna");
  await here.connect(anna);
  // Of this node no operator has asked anything yet.
  const admin = await there.connect(fresh("root"), { roles: "admin" });
  await ground.redis.kill();
  try {
    expect(await admin.ask("admin.disconnect", { user_id: anna })).toEqual({ disconnected: 0, missing_nodes: ["one"] });
    expect(await admin.ask("admin.connections", { user_id: anna, node_id: "one" })).toMatchObject({
      total: 0,
      missing_nodes: ["one"],
    });
    const topic = `user:${anna}`;
    expect(await admin.ask("admin.topic", { topic })).toMatchObject({ subscribers: 0, missing_nodes: ["one"] });
    const { nodes, missing_nodes } = await admin.ask("admin.nodes");
    expect(nodes.map((it: any) => [it.node_id, it.answers])).toEqual([
      ["one", false],
      ["other", true],
    ]);
    expect(missing_nodes).toEqual(["one"]);
  } finally {
    await ground.redis.restart();
  }
  await eventually(
    () => admin.ask("admin.stats"),
    ({ nodes }) => nodes.length === 2,
  );
});

test("[ADM1] [AUTH4] a block that is made while Redis is away is known everywhere at once, and outlives all nodes", async () => {
  const admin = await there.connect(fresh("root"), { roles: "admin" });
  const mal = fresh("mal");
  const inside = await here.connect(mal);
  await ground.redis.kill();
  try {
    expect(await admin.ask("admin.block", { user_id: mal, for: 60 })).toMatchObject({ missing_nodes: ["one"] });
    expect((await inside.closed).code).toBe(4011);
    for (const people of [here, there]) await expect(people.connect(mal)).rejects.toThrow();
  } finally {
    await ground.redis.restart();
  }
});
