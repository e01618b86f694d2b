/** Proves what every registry of nodes must do [ADM1]. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Cluster } from "../../src/cluster/ports.ts";

export interface OpenedNodes {
  /** Started, of version `1.2.3`; a node that is alone gives itself twice. */
  one: Pick<Cluster, "nodeId" | "nodes">;
  other: Pick<Cluster, "nodeId" | "nodes">;
  close(): Promise<void>;
}

export function describeNodesContract(name: string, open: () => Promise<OpenedNodes>): void {
  describe(`nodes: ${name}`, () => {
    let opened: OpenedNodes;
    beforeEach(async () => {
      opened = await open();
    });
    afterEach(() => opened.close());

    test("[ADM1] every node lists every node, with its latest figures", async () => {
      const { one, other } = opened;
      await other.nodes.beat(3);
      await one.nodes.beat(7);
      await one.nodes.beat(8);
      const listed = await other.nodes.list();
      expect(listed.map(({ nodeId }) => nodeId)).toEqual([...new Set([one.nodeId, other.nodeId])].sort());
      const first = listed.find(({ nodeId }) => nodeId === one.nodeId)!;
      expect(first).toMatchObject({ connections: 8, version: "1.2.3" });
      expect(first.seenAt).toBeGreaterThanOrEqual(first.startedAt);
    });

    test("[BAK3] each node knows when the others last said that they live, under the runs that they have devices under", async () => {
      const { one, other } = opened;
      await other.nodes.beat(1);
      await one.nodes.beat(1);
      const { at } = await one.nodes.signs();
      const isOf = (nodeId: string) => (run: string) => run.startsWith(`${nodeId}/`);
      const runs = [...at.keys()];
      expect(runs.filter(isOf(other.nodeId))).toHaveLength(one.nodeId === other.nodeId ? 0 : 1);
      const before = Math.max(0, ...at.values());
      await other.nodes.beat(2);
      expect(Math.max(0, ...(await one.nodes.signs()).at.values())).toBeGreaterThanOrEqual(before);
    });
  });
}
