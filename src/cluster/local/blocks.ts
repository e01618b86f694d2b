/** Who may not connect for a while, in this process's memory [ADM1]. */
import type { BlockList } from "../ports.ts";

export interface LocalBlockListOptions {
  /** Milliseconds since the epoch. */
  now: () => number;
  /** So many users at most; over it the block that ends first goes. */
  usersMax?: number;
}

export function createLocalBlockList({ now, usersMax = 100_000 }: LocalBlockListOptions): BlockList {
  const untilByUser = new Map<string, number>();

  const forgetEnded = () => {
    for (const [userId, until] of untilByUser) if (until <= now()) untilByUser.delete(userId);
  };
  const forgetSoonestEnding = () => {
    let soonest: [string, number] | null = null;
    for (const entry of untilByUser) if (soonest === null || entry[1] < soonest[1]) soonest = entry;
    if (soonest !== null) untilByUser.delete(soonest[0]);
  };

  return {
    /** Replaces an earlier block; a moment that has passed lifts it. */
    async block(userId, untilMs) {
      untilByUser.delete(userId);
      if (untilMs <= now()) return;
      // Looked through only when it is full: blocks are rare, and a full list rarer.
      if (untilByUser.size >= usersMax) forgetEnded();
      if (untilByUser.size >= usersMax) forgetSoonestEnding();
      untilByUser.set(userId, untilMs);
    },
    async blockedUntil(userId) {
      const until = untilByUser.get(userId);
      if (until === undefined) return null;
      if (until > now()) return until;
      untilByUser.delete(userId);
      return null;
    },
  };
}
