/** Joins everything that nodes share, for a node that is alone. */
import type { Cluster } from "../ports.ts";
import { createLocalBus } from "./bus.ts";
import { LocalCallRegistry } from "./call-registry.ts";
import { createLocalNodeRegistry } from "./nodes.ts";
import { type LocalPresenceOptions, LocalPresenceRegistry } from "./presence-registry.ts";

export interface LocalClusterOptions extends Pick<LocalPresenceOptions, "store"> {
  /** Milliseconds since 1970. */
  now: () => number;
  nodeId?: string;
  version?: string;
}

/** A cluster of one in this process's memory: it is always up, and forgets with the process all but who was here. */
export function createLocalCluster(options: LocalClusterOptions): Cluster {
  const { now, nodeId = "local", version = "unknown", store } = options;
  const presence = new LocalPresenceRegistry({ run: `${nodeId}/${Bun.randomUUIDv7()}`, now, store });
  return {
    nodeId,
    bus: createLocalBus(),
    presence,
    calls: new LocalCallRegistry(),
    nodes: createLocalNodeRegistry({ nodeId, version, now }),
    start: () => presence.start(),
    async ping() {},
    stop: () => presence.stop(),
  };
}
