/** Says whether a message may be handled now: token buckets per connection and per user, for each class of message types [LIM]. */
import type { Config } from "../config/schema.ts";
import { afterOwing, afterTake, type Rate, ratePerMinute, waitMs, waitMsMax } from "../ground/token-bucket.ts";
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
  /** When the owner first went on regardless; null: it has not since it last paused. */
  since: number | null;
  /** Messages that were refused since then. */
  refused: number;
  /** The owner's last message of the class, allowed or not. */
  lastAt: number;
  /** From the first refusal until that message may come again; null: the next refusal begins one. */
  wait: { from: number; until: number; isRegardless: boolean } | null;
  /** Waits that were kept one after the other. */
  kept: number;
}

/** Messages within so long (ms) after a refusal are of one burst: their sender cannot know of it yet. */
const burstMs = 50;
/** One wait may be kept by chance, at a pace that meets its end. */
const keptEnough = 2;

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
   * `abusive`: the connection was refused and went on regardless throughout `abuse_window`, or with `abuse_messages`, and is to be closed with 4103.
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
      const abusive = this.#note(connection.refusals, { ...refused, now });
      return { allowed: false, retryAfterMs: refused.retryAfterMs, abusive };
    }
    for (const charge of charges) {
      this.#takeFrom(connection, charge, now);
      this.#takeFrom(sharedBy(charge.limitClass, user), charge, now);
      if (connection.refusals !== null) this.#note(connection.refusals, { charge, retryAfterMs: 0, now });
    }
    return allowed;
  }

  /** Takes what a request turned out to cost; the next one waits for what is not there. */
  takeLater(connection: Buckets, user: Buckets | null, charge: Charge, now: number): void {
    if (!this.config.rate_limits.enabled) return;
    this.#takeFrom(connection, charge, now, afterOwing);
    this.#takeFrom(sharedBy(charge.limitClass, user), charge, now, afterOwing);
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
   * Notes a message: sent before the end of a wait it goes on regardless. That is over with a pause, or with waits that are
   * kept, and not with a message that is allowed: a flood too meets every new token.
   * @param message `retryAfterMs` is 0 where it was allowed
   * @returns whether the owner was refused and went on regardless for too long, or too often
   */
  #note(refusals: Refusals, message: { charge: Charge; retryAfterMs: number; now: number }): boolean {
    const { charge, retryAfterMs, now } = message;
    const { limitClass } = charge;
    const known = refusals[limitClass];
    const hasPaused = known !== undefined && this.#comesAfterPause(known, charge, now);
    if (known === undefined || hasPaused) {
      const wait = { from: now, until: now + retryAfterMs, isRegardless: false };
      if (retryAfterMs > 0) refusals[limitClass] = { since: null, refused: 0, lastAt: now, wait, kept: 0 };
      else delete refusals[limitClass];
      return false;
    }
    known.lastAt = now;
    if (known.wait !== null && now >= known.wait.until) endWait(known);
    if (retryAfterMs === 0) return false;
    known.wait ??= { from: now, until: now + retryAfterMs, isRegardless: false };
    if (now - known.wait.from <= burstMs) return false;
    known.wait.isRegardless = true;
    if (known.since === null) [known.since, known.refused] = [now, 0];
    const { abuse_window: windowMs, abuse_messages: messagesMax } = this.config.rate_limits;
    return now - known.since >= windowMs || ++known.refused >= messagesMax;
  }

  /**
   * Says whether the owner has paused: as long as a message would wait at an empty bucket, less a quarter, for requests that
   * each wait as told still arrive some time apart. Also when the clock was set back.
   */
  #comesAfterPause({ lastAt }: Refusal, { limitClass, tokens }: Charge, now: number): boolean {
    const waitAtEmptyMs = waitMsMax(this.#rates[limitClass], tokens);
    const pauseMs = Math.min(0.75 * waitAtEmptyMs, this.config.rate_limits.abuse_window);
    return now < lastAt || now - lastAt >= pauseMs;
  }

  #waitFor(buckets: Buckets | null, { limitClass, tokens }: Charge, now: number): number {
    if (buckets === null) return 0;
    return waitMs(this.#rates[limitClass], { fullAt: buckets.fullAt?.[limitClass] ?? 0, now, tokens });
  }

  #takeFrom(buckets: Buckets | null, { limitClass, tokens }: Charge, now: number, after = afterTake): void {
    if (buckets === null) return;
    buckets.fullAt ??= {};
    const fullAt = buckets.fullAt[limitClass] ?? 0;
    buckets.fullAt[limitClass] = after(this.#rates[limitClass], { fullAt, now, tokens });
  }
}

function endWait(refusal: Refusal): void {
  refusal.kept = refusal.wait!.isRegardless ? 0 : refusal.kept + 1;
  if (refusal.kept >= keptEnough) refusal.since = null;
  refusal.wait = null;
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
