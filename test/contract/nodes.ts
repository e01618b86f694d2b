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
  });
}
