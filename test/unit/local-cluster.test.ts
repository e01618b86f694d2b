/** What is small in the cluster of one: its nodes, its blocks, its bus. */
import { expect, test } from "bun:test";
import { createLocalBlockList } from "../../src/cluster/local/blocks.ts";
import { createLocalCluster } from "../../src/cluster/local/cluster.ts";

test("[ADM1] a node that is alone lists itself, with its latest figures", async () => {
  let time = 1_000;
  const cluster = createLocalCluster({ now: () => time, nodeId: "n1", version: "1.2.3" });
  await cluster.start();
  await cluster.ping();
  time = 5_000;
  await cluster.nodes.beat(7);
  expect(await cluster.nodes.list()).toEqual([
    { nodeId: "n1", startedAt: 1_000, seenAt: 5_000, connections: 7, version: "1.2.3" },
  ]);
  await cluster.stop();
});

test("[ADM1] a block ends by itself, can be changed and lifted, and the list is bounded", async () => {
  let time = 0;
  const blocks = createLocalBlockList({ now: () => time, usersMax: 2 });
  await blocks.block("ann", 100);
  await blocks.block("bob", 200);
  expect(await blocks.blockedUntil("ann")).toBe(100);
  expect(await blocks.blockedUntil("eve")).toBeNull();
  time = 100;
  expect(await blocks.blockedUntil("ann")).toBeNull();
  await blocks.block("bob", 0);
  expect(await blocks.blockedUntil("bob")).toBeNull();
  for (const [userId, until] of [
    ["u1", 500],
    ["u2", 400],
    ["u3", 600],
  ] as const)
    await blocks.block(userId, until);
  expect([await blocks.blockedUntil("u1"), await blocks.blockedUntil("u2"), await blocks.blockedUntil("u3")]).toEqual([
    500,
    null,
    600,
  ]);
});

test("[LOG3] the bus of a node that is alone hears nothing back", async () => {
  const { bus } = createLocalCluster({ now: Date.now });
  const heard: unknown[] = [];
  bus.onTopicMessage((message) => heard.push(message));
  bus.onControlMessage((message) => heard.push(message));
  bus.onGap(() => heard.push("gap"));
  await bus.watch("typing:c1");
  bus.publish("typing:c1", {
    kind: "ephemeral",
    topic: "typing:c1",
    id: "1",
    type: "typing.start",
    payload: "{}",
    at: 0,
  });
  bus.broadcast({ kind: "replaced", userId: "ann", deviceId: "phone", connectionId: "c1" });
  bus.sweep(() => false);
  expect(heard).toEqual([]);
});
