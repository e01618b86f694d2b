/** Says whether a message may be handled now: token buckets per connection and per user, for each class of message types [LIM]. */
import type { Config } from "../config/schema.ts";
import { afterTake, type Rate, ratePerMinute, waitMs } from "./token-bucket.ts";

export type LimitClass = "default" | "call.ice" | "typing" | "presence.update" | "authenticate" | "ping" | "publish";

/**
 * What one connection or user has used up; a connection may carry the two fields itself.
 * Both are null until they are needed, for most connections are idle.
 */
export interface Buckets {
  /** For each class, when its bucket is full again. A plain object is smaller than an array of numbers (64 to 96 bytes). */
  fullAt: Record<LimitClass, number> | null;
  /** How the owner has gone on since it was refused; only those who were refused have it. */
  refusals: Partial<Record<LimitClass, Refusal>> | null;
}

interface Refusal {
  /** The first refusal since the owner last paused. */
  since: number;
  /** The wait that was told when the bucket was last found empty. */
  toldMs: number;
  /** The owner's last message of this class, allowed or not. */
  lastAt: number;
  /** A token has come since: the next refusal tells a wait anew. */
  allowedSince: boolean;
}

export type Decision = { allowed: true } | { allowed: false; retryAfterMs: number; abusive: boolean };

export interface RateLimiter {
  /**
   * Takes a token of the type's class from the connection and from its user, or from neither.
   * `abusive`: the connection has gone on regardless for `abuse_window`, and is to be closed with 4103.
   */
  take(connection: Buckets, user: Buckets | null, type: string, now: number): Decision;
  /**
   * The buckets that a user's connections on this node share. Look them up for each message and keep no reference:
   * they come into being with the first message, and the sweep forgets them once they are full again.
   */
  ofUser(userId: string): Buckets;
  /** Frees what a connection holds but does not need; for the connections' own sweep. @returns whether nothing is left */
  settle(buckets: Buckets, now: number): boolean;
  /** Forgets users whose buckets are full. Not done on disconnect: coming back must not fill a bucket. */
  sweep(now: number): void;
  /** Users that are remembered. */
  users(): number;
}

export const emptyBuckets = (): Buckets => ({ fullAt: null, refusals: null });

export function limitClassOf(type: string): LimitClass {
  switch (type) {
    case "call.ice":
    case "presence.update":
    case "authenticate":
    case "ping":
    case "publish":
      return type;
    case "typing.start":
    case "typing.stop":
      return "typing";
    default:
      return "default";
  }
}

/** One device's liveness and refresh do not depend on what the user's other devices do. */
const perConnectionOnly: ReadonlySet<LimitClass> = new Set(["authenticate", "ping"]);
const allowed: Decision = { allowed: true };

export function createRateLimiter(config: Config["rate_limits"]): RateLimiter {
  const rates: Record<LimitClass, Rate> = {
    default: ratePerMinute(config.default),
    "call.ice": ratePerMinute(config["call.ice"]),
    typing: ratePerMinute(config.typing),
    "presence.update": ratePerMinute(config["presence.update"]),
    authenticate: ratePerMinute(config.authenticate),
    ping: ratePerMinute(config.ping),
    publish: ratePerMinute(config.publish),
  };
  const users = new Map<string, Buckets>();

  function settle(buckets: Buckets, now: number): boolean {
    const { fullAt, refusals } = buckets;
    if (fullAt !== null && Object.values(fullAt).every((it) => it <= now)) buckets.fullAt = null;
    if (refusals !== null && Object.values(refusals).every((it) => hasPaused(it, now))) buckets.refusals = null;
    return buckets.fullAt === null && buckets.refusals === null;
  }

  return {
    take(connection, user, type, now) {
      if (!config.enabled) return allowed;
      const limitClass = limitClassOf(type);
      const rate = rates[limitClass];
      const shared = perConnectionOnly.has(limitClass) ? null : user;
      const retryAfterMs = Math.max(
        waitMs(rate, { fullAt: connection.fullAt?.[limitClass] ?? 0, now }),
        shared === null ? 0 : waitMs(rate, { fullAt: shared.fullAt?.[limitClass] ?? 0, now }),
      );
      if (retryAfterMs > 0) {
        const defiedMs = noteRefusal(connection, { limitClass, retryAfterMs, now });
        return { allowed: false, retryAfterMs, abusive: defiedMs >= config.abuse_window };
      }
      takeFrom(connection, { limitClass, rate, now });
      if (shared !== null) takeFrom(shared, { limitClass, rate, now });
      if (connection.refusals !== null) noteAllowed(connection.refusals, { limitClass, now });
      return allowed;
    },

    ofUser(userId) {
      let buckets = users.get(userId);
      if (buckets === undefined) users.set(userId, (buckets = emptyBuckets()));
      return buckets;
    },

    settle,

    sweep(now) {
      for (const [userId, buckets] of users) if (settle(buckets, now)) users.delete(userId);
    },

    users: () => users.size,
  };
}

function takeFrom(
  buckets: Buckets,
  { limitClass, rate, now }: { limitClass: LimitClass; rate: Rate; now: number },
): void {
  buckets.fullAt ??= {
    default: 0,
    "call.ice": 0,
    typing: 0,
    "presence.update": 0,
    authenticate: 0,
    ping: 0,
    publish: 0,
  };
  buckets.fullAt[limitClass] = afterTake(rate, { fullAt: buckets.fullAt[limitClass], now });
}

/**
 * Half of the wait that was told is a pause: a client that sends several messages at once and then waits for the last
 * answer is not going on regardless. An allowed message alone is none, for a flood too meets every new token.
 */
const hasPaused = (refusal: Refusal, now: number) => now - refusal.lastAt >= refusal.toldMs / 2 || now < refusal.lastAt;

/** @returns milliseconds for which the connection has been going on regardless */
function noteRefusal(
  buckets: Buckets,
  { limitClass, retryAfterMs, now }: { limitClass: LimitClass; retryAfterMs: number; now: number },
): number {
  buckets.refusals ??= {};
  const refusal = buckets.refusals[limitClass];
  if (refusal === undefined || hasPaused(refusal, now)) {
    buckets.refusals[limitClass] = { since: now, toldMs: retryAfterMs, lastAt: now, allowedSince: false };
    return 0;
  }
  if (refusal.allowedSince) refusal.toldMs = retryAfterMs;
  refusal.allowedSince = false;
  refusal.lastAt = now;
  return now - refusal.since;
}

function noteAllowed(
  refusals: Partial<Record<LimitClass, Refusal>>,
  { limitClass, now }: { limitClass: LimitClass; now: number },
): void {
  const refusal = refusals[limitClass];
  if (refusal === undefined) return;
  if (hasPaused(refusal, now)) {
    delete refusals[limitClass];
    return;
  }
  refusal.lastAt = now;
  refusal.allowedSince = true;
}
