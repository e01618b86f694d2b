/** Probes what a node cannot serve without. */
import type { Cluster } from "../cluster/ports.ts";
import type { Storage } from "../storage/ports.ts";

export interface Checker {
  name: string;
  /** Resolves while all is well. */
  check(): Promise<void>;
  /** Makes this of the whole where it fails: a node that is `degraded` still serves. Left out: `down`. */
  failure?: "degraded" | "down";
  /** Whether something has failed since: that all was well is not believed any more. */
  isInDoubt?(): boolean;
  /** Set where the part says in the log itself when it goes and comes back. */
  tellsItself?: true;
}

/** The other processes that serve the same port, where there are any. */
export interface Siblings {
  /** Whether all of them are ready; never rejects. */
  areReady(): Promise<boolean>;
}

/** Its name, for the one place that must leave it out: siblings that ask each other would never be answered. */
export const workersCheckerName = "workers";

/** A probe of a shared port reaches any of the processes, so each answers for all of them [END2]. */
export function workersChecker(siblings: Siblings): Checker {
  return {
    name: workersCheckerName,
    async check() {
      if (!(await siblings.areReady()))
        throw Object.assign(new Error("not all are ready"), { code: "WORKER_NOT_READY" });
    },
  };
}

/** The storage engine takes writes and answers reads. */
export function storageChecker(storage: Pick<Storage, "prove" | "hasRefused">): Checker {
  return {
    name: "storage",
    check: () => storage.prove(),
    isInDoubt: () => storage.hasRefused(),
    tellsItself: true,
  };
}

/** The connection to the other nodes is up, subscribed and not deaf. */
export function clusterChecker(cluster: Pick<Cluster, "ping">, { isRequired }: { isRequired: boolean }): Checker {
  const checker: Checker = { name: "cluster", check: () => cluster.ping(), tellsItself: true };
  // Without the others messages still flow by the log.
  return isRequired ? checker : { ...checker, failure: "degraded" };
}
