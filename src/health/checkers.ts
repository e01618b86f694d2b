/** What a node cannot serve without, as probes. */
import type { Cluster } from "../cluster/ports.ts";
import type { Storage } from "../storage/ports.ts";

export interface Checker {
  name: string;
  /** Resolves while all is well. */
  check(): Promise<void>;
}

/** The storage engine answers. */
export function storageChecker(storage: Pick<Storage, "ping">): Checker {
  return { name: "storage", check: () => storage.ping() };
}

/** The connection to the other nodes is up, subscribed and not deaf. */
export function clusterChecker(cluster: Pick<Cluster, "ping">): Checker {
  return { name: "cluster", check: () => cluster.ping() };
}
