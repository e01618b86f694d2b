/** Joins the checkers of one process to what it answers about itself. */
import type { Cluster } from "../cluster/ports.ts";
import type { Storage } from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import { clusterChecker, type Siblings, storageChecker, workersChecker } from "./checkers.ts";
import { createHealthHandler, type HealthHandler } from "./handler.ts";
import { createHealthManager } from "./manager.ts";

export interface HealthOptions {
  storage: Pick<Storage, "prove" | "hasRefused">;
  cluster: Pick<Cluster, "ping">;
  /** `cluster.required`: without the other nodes this one counts as down. */
  isClusterRequired: boolean;
  /** `operations.health_cache`. */
  cacheMs: number;
  /** Undefined: nobody shares this process's port. */
  siblings: Siblings | undefined;
  draining: () => boolean;
  logger: Logger;
}

export function createHealth(options: HealthOptions): HealthHandler {
  const { storage, cluster, isClusterRequired: isRequired, cacheMs, siblings, draining, logger } = options;
  const checkers = [storageChecker(storage), clusterChecker(cluster, { isRequired })];
  if (siblings !== undefined) checkers.push(workersChecker(siblings));
  return createHealthHandler({
    manager: createHealthManager({ checkers, now: () => performance.now(), logger, cacheMs }),
    draining,
  });
}
