/** Keeps a token bucket as one number: the moment at which it is full again. Nothing has to be refilled, and zero is a full bucket. */

export interface Rate {
  /** Milliseconds that one token takes to come. */
  intervalMs: number;
  /** Tokens of a full bucket. */
  burst: number;
}

/** A bucket, and what is wanted of it. */
export interface Draw {
  /** Milliseconds since 1970. */
  fullAt: number;
  now: number;
  /** One unless it says more; more than a full bucket has takes all of it. */
  tokens?: number;
}

export const ratePerMinute = ({ per_minute, burst }: { per_minute: number; burst: number }): Rate => ({
  intervalMs: 60_000 / per_minute,
  burst,
});

/** Milliseconds that an empty bucket takes until the tokens are there. */
export const waitMsMax = ({ intervalMs, burst }: Rate, tokens: number): number => Math.min(tokens, burst) * intervalMs;

/** Milliseconds until the tokens are there; 0 where they are. */
export function waitMs(rate: Rate, { fullAt, now, tokens = 1 }: Draw): number {
  const wanted = waitMsMax(rate, tokens);
  const waiting = lackMs(rate, { fullAt, now }) + wanted - rate.burst * rate.intervalMs;
  // Sums of fractions of a millisecond are not exact: what is due within 0.1 ms is due.
  return waiting < 0.1 ? 0 : Math.ceil(waiting);
}

/** The bucket after the tokens have been taken from it; an empty one stays empty. */
export function afterTake(rate: Rate, { fullAt, now, tokens = 1 }: Draw): number {
  return now + Math.min(lackMs(rate, { fullAt, now }) + tokens * rate.intervalMs, rate.burst * rate.intervalMs);
}

/** The bucket after tokens have been taken that may not be there: it owes them, at most as many as a full one has. */
export function afterOwing(rate: Rate, { fullAt, now, tokens = 1 }: Draw): number {
  return now + Math.min(lackMs(rate, { fullAt, now }) + tokens * rate.intervalMs, owedMsMax(rate));
}

const owedMsMax = ({ intervalMs, burst }: Rate) => 2 * burst * intervalMs;

/** Tells how far the bucket is from full: from 0 to all of it, and as much again where it owes that. */
function lackMs(rate: Rate, { fullAt, now }: { fullAt: number; now: number }): number {
  const lack = fullAt - now;
  // No bucket lacks so much: the clock was set back, and nobody is to be locked out until it has caught up.
  return lack > owedMsMax(rate) ? 0 : Math.max(lack, 0);
}
