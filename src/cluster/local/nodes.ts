/** Lists the nodes where there is only this one. */
import type { NodeInfo, NodeRegistry } from "../ports.ts";

export interface LocalNodeOptions {
  nodeId: string;
  version: string;
  /** Milliseconds since 1970. */
  now: () => number;
}

export function createLocalNodeRegistry({ nodeId, version, now }: LocalNodeOptions): NodeRegistry {
  const startedAt = now();
  const self: NodeInfo = { nodeId, startedAt, seenAt: startedAt, connections: 0, version };
  return {
    list: async () => [{ ...self }],
    async beat(connections) {
      self.connections = connections;
      self.seenAt = now();
    },
    signs: async () => ({ at: new Map(), isSettled: true }),
  };
}
