/** Looks again at users of whom somebody may have been shown what is not so, until that has worked [PRE1] [PRE3]. */

import type { Timers } from "../ground/timers.ts";
import type { Logger } from "../telemetry/logger.ts";
import { warnsOnce } from "../telemetry/outage.ts";
import type { Look } from "./shown-here.ts";

/**
 * What this node has told everybody of the user last: where that is not so, everybody is told again. `unknown`: they are
 * in any case. Undefined: only those who watch on this node may have been shown something else.
 */
export type Told = Look | { unknown: true } | undefined;
export const unknown = { unknown: true } as const;

export interface CorrectionsDeps {
  /** Reads how the user is, and tells whoever was shown something else; rejects where it cannot be read. */
  correct(userId: string, told: Told): Promise<void>;
  /** Milliseconds since the epoch. */
  now: () => number;
  timers: Timers;
  logger: Logger;
}

export interface Corrections {
  /** These are looked at again in a while; one that was told of just now not before that has reached everybody. */
  add(userIds: Iterable<string>, told?: Told): void;
  stop(): void;
}

/** Whoever was cut off comes back within so long and puts back what it knows, and what is on its way arrives. */
const delayMs = 1_500;
/** Looked at side by side; few while nobody can be read: asking about all would only keep the stores from coming back. */
const atOnce = { usual: 200, whileAway: 10 };
/** Between two shares: after a gap all nodes look at all who are watched on them, and Redis and the storage serve others too. */
const pauseMs = 50;

export function createCorrections({ correct, now, timers, logger }: CorrectionsDeps): Corrections {
  /** By user, whoever is due first is first. */
  const waiting = new Map<string, { dueAt: number; told: Told }>();
  let share = atOnce.usual;
  let state: "idle" | "armed" | "looking" | "stopped" = "idle";
  const outage = warnsOnce(logger, "presence is shown again later", "presence is shown again");
  let cancel = () => {};

  function arm(delayMs = 0): void {
    const [first] = waiting.values();
    if (state !== "idle" || first === undefined) return;
    state = "armed";
    cancel = timers.after(Math.max(delayMs, first.dueAt - now()), () => void lookAtSome());
  }

  function takeDue(): [string, Told][] {
    const due: [string, Told][] = [];
    for (const [userId, { dueAt, told }] of waiting) {
      if (dueAt > now() || due.length === share) break;
      waiting.delete(userId);
      due.push([userId, told]);
    }
    return due;
  }

  async function lookAtSome(): Promise<void> {
    state = "looking";
    const due = takeDue();
    if (due.length > 0) await lookAt(due);
    if (isStopped()) return;
    state = "idle";
    arm(pauseMs);
  }

  async function lookAt(some: [string, Told][]): Promise<void> {
    const results = await Promise.allSettled(some.map(([userId, told]) => correct(userId, told)));
    if (isStopped()) return;
    const failed = some.filter((_, at) => results[at]!.status === "rejected");
    for (const [userId, told] of failed) add([userId], waiting.get(userId)?.told ?? told);
    const failure = results.find((result) => result.status === "rejected");
    if (failure === undefined) outage.ended();
    else outage.began(failure.reason, { users: waiting.size });
    const isAway = failed.length === some.length;
    share = isAway ? atOnce.whileAway : atOnce.usual;
    if (isAway) postponeAll();
  }

  function postponeAll(): void {
    for (const it of waiting.values()) it.dueAt = now() + delayMs;
  }

  const isStopped = () => state === "stopped";

  function add(userIds: Iterable<string>, told?: Told): void {
    const dueAt = now() + delayMs;
    for (const userId of userIds) {
      const before = waiting.get(userId);
      if (before !== undefined && typeof told !== "string") {
        // Not put off: many may be shown the user meanwhile, and each would put it off again.
        before.told = told ?? before.told;
        continue;
      }
      waiting.delete(userId);
      waiting.set(userId, { dueAt, told: told ?? before?.told });
    }
    arm();
  }

  return {
    add,
    stop() {
      state = "stopped";
      cancel();
    },
  };
}
