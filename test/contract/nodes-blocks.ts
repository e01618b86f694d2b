/** What every registry of nodes and every block list must do [ADM1]. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Cluster } from "../../src/cluster/ports.ts";

export interface OpenedNodes {
  /** Started, of version `1.2.3`; a node that is alone gives itself twice. */
  one: Pick<Cluster, "nodeId" | "nodes" | "blocks">;
  other: Pick<Cluster, "nodeId" | "nodes" | "blocks">;
  now: () => number;
  close(): Promise<void>;
}

export function describeNodesAndBlocksContract(name: string, open: () => Promise<OpenedNodes>): void {
  describe(`nodes and blocks: ${name}`, () => {
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

    test("[ADM1] a block holds on every node until it ends, can be changed and lifted", async () => {
      const { one, other, now } = opened;
      const until = now() + 60_000;
      await one.blocks.block("ann", until);
      expect(await other.blocks.blockedUntil("ann")).toBe(until);
      expect(await other.blocks.blockedUntil("bob")).toBeNull();
      await other.blocks.block("ann", until + 5_000);
      expect(await one.blocks.blockedUntil("ann")).toBe(until + 5_000);
      await one.blocks.block("ann", now());
      expect(await other.blocks.blockedUntil("ann")).toBeNull();
    });
  });
}
