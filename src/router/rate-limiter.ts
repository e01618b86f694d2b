/** Says whether a message may be handled now: token buckets per connection and per user, for each class of message types [LIM]. */
import type { Config } from "../config/schema.ts";
import { afterTake, type Rate, ratePerMinute, waitMs, waitMsMax } from "../ground/token-bucket.ts";
import { type LimitClass, type RequestClass, requestClasses } from "./requests.ts";

/** Tokens that one message takes. */
export interface Charge {
  limitClass: LimitClass;
  tokens: number;
}

/**
 * Keeps what one connection or user has used up; a connection may carry the two fields itself.
 * Both are null until they are needed, for most connections are idle.
 */
export interface Buckets {
  /** For each class that was used, when its bucket is full again. */
  fullAt: Partial<Record<LimitClass, number>> | null;
  /** For each class in which the owner was refused, how it has gone on. */
  refusals: Refusals | null;
}

type Refusals = Partial<Record<LimitClass, Refusal>>;

interface Refusal {
  /** The first refusal since the owner has last paused. */
  since: number;
  /** The owner's last message of the class, allowed or not. */
  lastAt: number;
}

export type Decision = { allowed: true } | { allowed: false; retryAfterMs: number; abusive: boolean };

export const emptyBuckets = (): Buckets => ({ fullAt: null, refusals: null });

/** One device's liveness and refresh do not depend on what the user's other devices do. */
const perConnectionOnly: ReadonlySet<LimitClass> = new Set(["authenticate", "ping"]);
const allowed: Decision = { allowed: true };

/** Counts what connections and users use up, for each class of message types. */
export class RateLimiter {
  readonly #rates: Record<LimitClass, Rate>;
  readonly #users = new Map<string, Buckets>();

  constructor(private readonly config: Pick<Config, "rate_limits" | "websocket">) {
    this.#rates = ratesOf(config);
  }

  /**
   * Takes every charge from the connection and from its user, or nothing from either.
   * `abusive`: the connection was refused throughout `abuse_window`, never pausing for as long as it has to wait, and is to
   * be closed with 4103.
   */
  take(connection: Buckets, user: Buckets | null, charges: readonly Charge[], now: number): Decision {
    if (!this.config.rate_limits.enabled) return allowed;
    let refused: { charge: Charge; retryAfterMs: number } | null = null;
    for (const charge of charges) {
      const shared = sharedBy(charge.limitClass, user);
      const retryAfterMs = Math.max(this.#waitFor(connection, charge, now), this.#waitFor(shared, charge, now));
      if (retryAfterMs > (refused?.retryAfterMs ?? 0)) refused = { charge, retryAfterMs };
    }
    if (refused !== null) {
      connection.refusals ??= {};
      const abusive = this.#noteRefusal(connection.refusals, refused.charge, now);
      return { allowed: false, retryAfterMs: refused.retryAfterMs, abusive };
    }
    for (const charge of charges) {
      this.#takeFrom(connection, charge, now);
      this.#takeFrom(sharedBy(charge.limitClass, user), charge, now);
      if (connection.refusals !== null) this.#noteAllowed(connection.refusals, charge, now);
    }
    return allowed;
  }

  /** Takes what a request turned out to cost, as far as it is there; the next one waits for it. */
  takeLater(connection: Buckets, user: Buckets | null, charge: Charge, now: number): void {
    if (!this.config.rate_limits.enabled) return;
    this.#takeFrom(connection, charge, now);
    this.#takeFrom(sharedBy(charge.limitClass, user), charge, now);
  }

  /**
   * Finds the buckets that a user's connections on this node share. Look them up for each message and keep no reference:
   * they come into being with the first message, and the sweep forgets them once they are full again.
   */
  ofUser(userId: string): Buckets {
    let buckets = this.#users.get(userId);
    if (buckets === undefined) this.#users.set(userId, (buckets = emptyBuckets()));
    return buckets;
  }

  /** Frees what a connection holds but does not need; for the connections' own sweep. @returns whether nothing is left */
  settle(buckets: Buckets, now: number): boolean {
    const isFull = Object.values(buckets.fullAt ?? {}).every((it) => it <= now);
    // A bucket that is full has been left alone: its owner does not go on regardless.
    if (isFull) buckets.fullAt = buckets.refusals = null;
    return isFull;
  }

  /** Forgets users whose buckets are full. Not done on disconnect: coming back must not fill a bucket. */
  sweep(now: number): void {
    for (const [userId, buckets] of this.#users) if (this.settle(buckets, now)) this.#users.delete(userId);
  }

  /** Counts the users that are remembered. */
  users(): number {
    return this.#users.size;
  }

  /**
   * Says whether the message comes after a pause, which begins the window anew: as long as it would wait at an empty bucket, less
   * a quarter, for requests that each wait as told still arrive some time apart. Also when the clock was set back.
   */
  #comesAfterPause({ lastAt }: Refusal, { limitClass, tokens }: Charge, now: number): boolean {
    const waitAtEmptyMs = waitMsMax(this.#rates[limitClass], tokens);
    const pauseMs = Math.min(0.75 * waitAtEmptyMs, this.config.rate_limits.abuse_window);
    return now < lastAt || now - lastAt >= pauseMs;
  }

  /** @returns whether the owner was refused throughout the window */
  #noteRefusal(refusals: Refusals, charge: Charge, now: number): boolean {
    const known = refusals[charge.limitClass];
    const since = known === undefined || this.#comesAfterPause(known, charge, now) ? now : known.since;
    refusals[charge.limitClass] = { since, lastAt: now };
    return now - since >= this.config.rate_limits.abuse_window;
  }

  /** Ends nothing for one message that is allowed: a flood too meets every new token. */
  #noteAllowed(refusals: Refusals, charge: Charge, now: number): void {
    const known = refusals[charge.limitClass];
    if (known === undefined) return;
    if (this.#comesAfterPause(known, charge, now)) delete refusals[charge.limitClass];
    else known.lastAt = now;
  }

  #waitFor(buckets: Buckets | null, { limitClass, tokens }: Charge, now: number): number {
    if (buckets === null) return 0;
    return waitMs(this.#rates[limitClass], { fullAt: buckets.fullAt?.[limitClass] ?? 0, now, tokens });
  }

  #takeFrom(buckets: Buckets | null, { limitClass, tokens }: Charge, now: number): void {
    if (buckets === null) return;
    buckets.fullAt ??= {};
    const fullAt = buckets.fullAt[limitClass] ?? 0;
    buckets.fullAt[limitClass] = afterTake(this.#rates[limitClass], { fullAt, now, tokens });
  }
}

function sharedBy(limitClass: LimitClass, user: Buckets | null): Buckets | null {
  return perConnectionOnly.has(limitClass) ? null : user;
}

function ratesOf({ rate_limits: rates, websocket }: Pick<Config, "rate_limits" | "websocket">) {
  const perMinute = (limitClass: RequestClass) => [limitClass, ratePerMinute(rates[limitClass])];
  const { max_message_size } = websocket;
  return {
    ...(Object.fromEntries(requestClasses.map(perMinute)) as Record<RequestClass, Rate>),
    bytes: ratePerMinute({
      per_minute: rates.bytes.per_minute ?? 4 * max_message_size,
      burst: rates.bytes.burst ?? max_message_size,
    }),
  };
}
