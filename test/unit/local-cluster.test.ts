/** Proves the small parts of the cluster of one: its nodes, its bus. */
import { expect, test } from "bun:test";
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
