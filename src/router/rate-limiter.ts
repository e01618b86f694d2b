/** Says whether a message may be handled now: token buckets per connection and per user, for each class of message types [LIM]. */
import type { Config } from "../config/schema.ts";
import { afterTake, type Rate, ratePerMinute, waitMs } from "./token-bucket.ts";

const limitClasses = [
  "default",
  "mark",
  "reading",
  "event",
  "call.ice",
  "typing",
  "presence.update",
  "authenticate",
  "ping",
  "publish",
] as const;
/** `bytes` counts how much is sent beside how often. */
export type LimitClass = (typeof limitClasses)[number] | "bytes";

/** What one message takes. */
export interface Charge {
  limitClass: LimitClass;
  tokens: number;
}

/**
 * What one connection or user has used up; a connection may carry the two fields itself.
 * Both are null until they are needed, for most connections are idle.
 */
export interface Buckets {
  /** For each class that was used, when its bucket is full again. */
  fullAt: Partial<Record<LimitClass, number>> | null;
  /** How the owner has gone on since it was refused; only those who were refused have it. */
  refusals: Partial<Record<LimitClass, Refusal>> | null;
}

interface Refusal {
  /** For how long the owner has gone on regardless, less the time for which it has held back since. */
  defiedMs: number;
  /** The wait that was told when the bucket was last found empty. */
  toldMs: number;
  /** The owner's last message of this class, allowed or not. */
  lastAt: number;
  /** That message was allowed: the next refusal tells a wait anew. */
  allowedSince: boolean;
}

interface AllowedMessage {
  limitClass: LimitClass;
  now: number;
}

interface RefusedMessage extends AllowedMessage {
  retryAfterMs: number;
}

export type Decision = { allowed: true } | { allowed: false; retryAfterMs: number; abusive: boolean };

export interface RateLimiter {
  /**
   * Takes every charge from the connection and from its user, or nothing from either.
   * `abusive`: the connection has gone on regardless for `abuse_window` longer than it has held back, and is to be
   * closed with 4103.
   */
  take(connection: Buckets, user: Buckets | null, charges: readonly Charge[], now: number): Decision;
  /** Takes what a request turned out to cost, as far as it is there; the next one waits for it. */
  takeLater(connection: Buckets, user: Buckets | null, charge: Charge, now: number): void;
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
    // What follows from other people's messages, not from one's own: it must not use up what sending needs.
    case "mark.delivered":
    case "mark.read":
    case "ack":
      return "mark";
    case "subscribe":
    case "unsubscribe":
    case "history":
    case "presence.query":
      return "reading";
    case "event.send":
      return "event";
    default:
      return "default";
  }
}

/** One device's liveness and refresh do not depend on what the user's other devices do. */
const perConnectionOnly: ReadonlySet<LimitClass> = new Set(["authenticate", "ping"]);
const allowed: Decision = { allowed: true };

export function createRateLimiter({
  rate_limits: config,
  websocket,
}: Pick<Config, "rate_limits" | "websocket">): RateLimiter {
  const perMinute = (limitClass: (typeof limitClasses)[number]) => [limitClass, ratePerMinute(config[limitClass])];
  const { max_message_size } = websocket;
  const rates: Record<LimitClass, Rate> = {
    ...(Object.fromEntries(limitClasses.map(perMinute)) as Record<(typeof limitClasses)[number], Rate>),
    bytes: ratePerMinute({
      per_minute: config.bytes.per_minute ?? 4 * max_message_size,
      burst: config.bytes.burst ?? max_message_size,
    }),
  };
  const users = new Map<string, Buckets>();

  /**
   * The wait that was told is a pause, less a quarter: requests that each wait as told still arrive some time apart.
   * The first wait of an empty bucket counts, not what was left of it at the last refusal: many a gap between two
   * bursts is longer than that.
   */
  const pauseMs = (refusal: Refusal) => Math.min(refusal.toldMs * 0.75, config.abuse_window);

  /** Whether the owner has been silent for so long that nothing is left to hold against it; also when the clock was set back. */
  function isForgiven(refusal: Refusal, now: number): boolean {
    const gapMs = now - refusal.lastAt;
    return gapMs < 0 || gapMs >= Math.max(pauseMs(refusal), refusal.defiedMs);
  }

  /**
   * Counts the time since the owner's last message for or against it. Holding back takes off what it lasted and not
   * everything, for bursts too meet the moment that was told now and then.
   * @returns whether the owner has held back
   */
  function judgeGap(refusal: Refusal, now: number): boolean {
    const gapMs = now - refusal.lastAt;
    const isPause = gapMs >= pauseMs(refusal);
    if (isPause) refusal.defiedMs -= gapMs;
    // After an allowed message the owner had not been told to wait.
    else if (!refusal.allowedSince) refusal.defiedMs += gapMs;
    refusal.lastAt = now;
    return isPause;
  }

  /** @returns milliseconds for which the connection has been going on regardless */
  function noteRefusal(buckets: Buckets, { limitClass, retryAfterMs, now }: RefusedMessage): number {
    buckets.refusals ??= {};
    const refusal = buckets.refusals[limitClass];
    if (refusal === undefined || isForgiven(refusal, now)) {
      buckets.refusals[limitClass] = { defiedMs: 0, toldMs: retryAfterMs, lastAt: now, allowedSince: false };
      return 0;
    }
    if (judgeGap(refusal, now) || refusal.allowedSince) refusal.toldMs = retryAfterMs;
    refusal.allowedSince = false;
    return refusal.defiedMs;
  }

  /** An allowed message alone forgives nothing, for a flood too meets every new token. */
  function noteAllowed(refusals: NonNullable<Buckets["refusals"]>, { limitClass, now }: AllowedMessage): void {
    const refusal = refusals[limitClass];
    if (refusal === undefined) return;
    if (isForgiven(refusal, now)) {
      delete refusals[limitClass];
      return;
    }
    judgeGap(refusal, now);
    refusal.allowedSince = true;
  }

  function settle(buckets: Buckets, now: number): boolean {
    const { fullAt, refusals } = buckets;
    if (fullAt !== null && Object.values(fullAt).every((it) => it <= now)) buckets.fullAt = null;
    if (refusals !== null && Object.values(refusals).every((it) => isForgiven(it, now))) buckets.refusals = null;
    return buckets.fullAt === null && buckets.refusals === null;
  }

  const sharedBy = (limitClass: LimitClass, user: Buckets | null) => (perConnectionOnly.has(limitClass) ? null : user);

  function waitFor(buckets: Buckets | null, { limitClass, tokens }: Charge, now: number): number {
    if (buckets === null) return 0;
    return waitMs(rates[limitClass], { fullAt: buckets.fullAt?.[limitClass] ?? 0, now, tokens });
  }

  function takeFrom(buckets: Buckets | null, { limitClass, tokens }: Charge, now: number): void {
    if (buckets === null) return;
    buckets.fullAt ??= {};
    buckets.fullAt[limitClass] = afterTake(rates[limitClass], {
      fullAt: buckets.fullAt[limitClass] ?? 0,
      now,
      tokens,
    });
  }

  return {
    take(connection, user, charges, now) {
      if (!config.enabled) return allowed;
      let refused: RefusedMessage | null = null;
      for (const charge of charges) {
        const { limitClass } = charge;
        const retryAfterMs = Math.max(
          waitFor(connection, charge, now),
          waitFor(sharedBy(limitClass, user), charge, now),
        );
        if (retryAfterMs > (refused?.retryAfterMs ?? 0)) refused = { limitClass, retryAfterMs, now };
      }
      if (refused !== null) {
        const defiedMs = noteRefusal(connection, refused);
        return { allowed: false, retryAfterMs: refused.retryAfterMs, abusive: defiedMs >= config.abuse_window };
      }
      for (const charge of charges) {
        const { limitClass } = charge;
        takeFrom(connection, charge, now);
        takeFrom(sharedBy(limitClass, user), charge, now);
        if (connection.refusals !== null) noteAllowed(connection.refusals, { limitClass, now });
      }
      return allowed;
    },

    takeLater(connection, user, charge, now) {
      if (!config.enabled) return;
      takeFrom(connection, charge, now);
      takeFrom(sharedBy(charge.limitClass, user), charge, now);
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
