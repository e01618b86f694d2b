/** Carries what the service is given, and what every area of it works with. */
import type { Config } from "../config/schema.ts";
import type { BegunStorage } from "../engines.ts";
import type { Routes } from "../handlers/context.ts";
import type { Siblings } from "../health/checkers.ts";
import { Counts } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";

export interface AppOptions {
  config: Config;
  routes: Routes;
  logger: Logger;
  version: string;
  /** Begun before the rest; default: begun now. */
  storage?: BegunStorage;
  /** Milliseconds since 1970. */
  now?: () => number;
  newId?: () => string;
  /** Between 0 and 1. */
  random?: () => number;
  /** Counts the log lines that were dropped, for the metrics. */
  droppedLogLines?: () => number;
  /** The other processes on the same port. */
  siblings?: Siblings;
}

export interface Base
  extends Required<Omit<AppOptions, "siblings" | "storage">>,
    Pick<AppOptions, "siblings" | "storage"> {
  counts: Counts;
}

/** Fills in what was left out. */
export function baseOf(options: AppOptions): Base {
  return {
    now: Date.now,
    newId: () => Bun.randomUUIDv7(),
    random: Math.random,
    droppedLogLines: () => 0,
    ...options,
    counts: new Counts(),
  };
}
