/** Tells of broken invariants: each is counted, and an error in the log with what was the case. */
import { InvariantBroken } from "../ground/assert.ts";
import { type Counts, countOne } from "./counts.ts";
import type { Logger } from "./logger.ts";

export interface BrokenReporting {
  counts?: Counts | undefined;
  logger: Pick<Logger, "error">;
}

/** @returns whether it is one; anything else is for others to deal with */
export function noteBroken(
  error: unknown,
  { counts, logger }: BrokenReporting,
  more: object = {},
): error is InvariantBroken {
  if (!(error instanceof InvariantBroken)) return false;
  if (counts !== undefined) countOne(counts.broken, error.invariant);
  logger.error({ invariant: error.invariant, ...error.facts, ...more, err: error }, "an invariant is broken");
  return true;
}
