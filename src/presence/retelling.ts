/** Tells again how users are whose events others may have missed while the cluster was broken [PRE1] [PRE3]. */
import type { Logger } from "../telemetry/logger.ts";
import { warnsOnce } from "../telemetry/outage.ts";
import type { Timers } from "./timers.ts";

export interface RetellingDeps {
  /** Reads how the user is now and tells everybody; rejects where that cannot be read. */
  tell(userId: string): Promise<void>;
  /** Milliseconds since the epoch. */
  now: () => number;
  timers: Timers;
  logger: Logger;
}

export interface Retelling {
  /** Others are being told of the user right now; `said` is what they will take the user for. */
  note(userId: string, said: string): void;
  /** What this node has said of the user last; undefined where it has said nothing lately. */
  lastSaid(userId: string): string | undefined;
  /** These are told of, until it has worked. */
  add(userIds: Iterable<string>): void;
  /** All are told of whom this node has told of since then (ms since the epoch). */
  addSince(sinceMs: number): void;
  stop(): void;
}

/** Users told of lately; older ones are told of by whoever is asked. */
const rememberedMax = 10_000;
/** A while before the last sign of health counts as lost too: signs are rare, and clocks differ. */
const marginMs = 5_000;
/** Whoever was cut off comes back within so long and puts back what it knows; only then is there a truth to read. */
const delayMs = 1_500;
const atOnce = 20;

export function createRetelling({ tell, now, timers, logger }: RetellingDeps): Retelling {
  /** By user, the oldest first: when this node last told of it, and what. */
  const told = new Map<string, { at: number; said: string }>();
  const waiting = new Set<string>();
  let state: "idle" | "armed" | "telling" | "stopped" = "idle";
  const outage = warnsOnce(logger, "presence is told again later", "presence is told again");
  let cancel = () => {};

  function arm(): void {
    if (state !== "idle" || waiting.size === 0) return;
    state = "armed";
    cancel = timers.after(delayMs, () => void tellAll());
  }

  async function tellAll(): Promise<void> {
    state = "telling";
    const userIds = [...waiting];
    waiting.clear();
    const failed: string[] = [];
    let failure: PromiseRejectedResult | null = null;
    let start = 0;
    for (let isAway = false; start < userIds.length && !isAway && !isStopped(); start += atOnce) {
      const some = userIds.slice(start, start + atOnce);
      const results = await Promise.allSettled(some.map(tell));
      const failedNow = some.filter((_, at) => results[at]!.status === "rejected");
      failed.push(...failedNow);
      failure = results.find((result) => result.status === "rejected") ?? failure;
      // Nobody can be read right now: asking about all the others would only keep the stores from coming back.
      isAway = failedNow.length === some.length;
    }
    if (isStopped()) return;
    // Those who failed come last, so that they hold up nobody else.
    add([...userIds.slice(start), ...failed]);
    if (failure === null) outage.ended();
    else outage.began(failure.reason, { users: waiting.size });
    state = "idle";
    arm();
  }

  const isStopped = () => state === "stopped";

  function add(userIds: Iterable<string>): void {
    for (const userId of userIds) waiting.add(userId);
    arm();
  }

  return {
    note(userId, said) {
      told.delete(userId);
      told.set(userId, { at: now(), said });
      if (told.size <= rememberedMax) return;
      const [oldest] = told.keys();
      told.delete(oldest!);
    },
    lastSaid: (userId) => told.get(userId)?.said,
    add,
    addSince(sinceMs) {
      add([...told].flatMap(([userId, { at }]) => (at >= sinceMs - marginMs ? [userId] : [])));
    },
    stop() {
      state = "stopped";
      cancel();
    },
  };
}
