/** Everything that nodes share, for a node that is alone. */
import type { Cluster } from "../ports.ts";
import { createLocalBus } from "./bus.ts";
import { LocalCallRegistry } from "./calls.ts";
import { createLocalNodeRegistry } from "./nodes.ts";
import { createLocalPresenceRegistry } from "./presence.ts";

export interface LocalClusterOptions {
  /** Milliseconds since the epoch. */
  now: () => number;
  nodeId?: string;
  version?: string;
}

/** A cluster of one in this process's memory: it is always up, and forgets everything with the process. */
export function createLocalCluster({ now, nodeId = "local", version = "unknown" }: LocalClusterOptions): Cluster {
  return {
    nodeId,
    bus: createLocalBus(),
    presence: createLocalPresenceRegistry(),
    calls: new LocalCallRegistry(),
    nodes: createLocalNodeRegistry({ nodeId, version, now }),
    async start() {},
    async ping() {},
    async stop() {},
  };
}
