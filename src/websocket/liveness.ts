/** Finds out who is gone, too slow, late to authenticate or expired, and closes them [CON6] [CON7] [AUTH3]. */
import type { Config } from "../config/schema.ts";
import { momentText } from "../ground/moments.ts";
import { CloseCode } from "../protocol/close.ts";
import type { Tell } from "../subscription/tell.ts";
import type { Connection } from "./connection.ts";
import type { Hub } from "./hub.ts";

export interface LivenessOptions {
  config: Config;
  hub: Hub;
  tell: Tell;
  /** Bytes that may wait for one client. */
  bufferBytesMax: number;
  now: () => number;
  /** Runs it once what waits unread in the kernel has been read. */
  onceRead: (run: () => void) => void;
}

/** Connections that are not looked at for longer than this may be closed that much late. */
const tickMs = 500;
/** The platform closes without a word at the limit; below it there is still room for a close frame. */
const bufferShareThatCloses = 0.75;

/** When connections are judged. */
interface Moment {
  now: number;
  /** The check before: when it is certain that the loop did not stand still. */
  before: number;
}

/** Times as long may be silent who is sent the whole log. */
const feedPatience = 10;

/**
 * Megabytes of the log may stand before our pings, and that some of them are taken is seen only now and then: a backend that
 * is slow is not one that is gone [BAK2].
 */
function isSilent(connection: Connection, limitMs: number, now: number): boolean {
  const silentMs = now - connection.lastHeardAt;
  return silentMs > limitMs && (silentMs > limitMs * feedPatience || !connection.isFed);
}

export class Liveness {
  #timer: Timer | null = null;
  readonly #intervalMs: number;
  #checkedAt = Number.NEGATIVE_INFINITY;
  /** When the next check is due; what is later than that is time in which this node did not listen. */
  #dueAt = Number.POSITIVE_INFINITY;

  constructor(private readonly options: LivenessOptions) {
    const { websocket, auth } = options.config;
    // Short settings, as tests have them, are looked after as exactly as long ones.
    const shortest = Math.min(
      websocket.ping_period,
      websocket.pong_wait,
      websocket.write_wait,
      auth.timeout,
      auth.expiry_grace,
    );
    this.#intervalMs = Math.max(20, Math.min(tickMs, shortest / 4));
  }

  start(): void {
    this.check();
    this.#timer = setInterval(() => this.check(), this.#intervalMs);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  check(): void {
    this.#look((moment) => this.#checkAll(moment));
  }

  /** Catches what the timers missed. */
  sweep(): void {
    const { hub, config } = this.options;
    this.#look((moment) => {
      this.#checkAll(moment);
      for (const connection of [...hub.all()]) {
        if (isSilent(connection, config.websocket.stale_connection_timeout, moment.now)) {
          connection.close(CloseCode.silent, "silent");
          connection.terminate();
        }
      }
    });
  }

  /**
   * Has connections judged by what they did while this node listened. Where its loop stood still, the process slept or the
   * clock was set, nobody could be heard, and nobody was silent; and what they sent meanwhile is read before they are judged.
   */
  #look(judge: (moment: Moment) => void): void {
    const now = this.options.now();
    const lateMs = Math.max(0, now - this.#dueAt);
    if (lateMs > 0 || now < this.#checkedAt) this.#allow(lateMs, now);
    const before = Math.min(now, this.#checkedAt);
    this.#checkedAt = now;
    this.#dueAt = now + this.#intervalMs;
    this.options.onceRead(() => judge({ now, before }));
  }

  /** Moves what was noted before along with the clock. */
  #allow(byMs: number, now: number): void {
    for (const connection of this.options.hub.all()) {
      connection.anonymousSince = Math.min(now, connection.anonymousSince + byMs);
      connection.lastHeardAt = Math.min(now, connection.lastHeardAt + byMs);
      connection.lastPingAt = Math.min(now, connection.lastPingAt + byMs);
      if (connection.backpressureSince > 0)
        connection.backpressureSince = Math.min(now, connection.backpressureSince + byMs);
    }
  }

  #checkAll(moment: Moment): void {
    for (const connection of this.options.hub.all()) this.#checkOne(connection, moment);
  }

  #checkOne(connection: Connection, { now, before }: Moment): void {
    const { websocket, auth } = this.options.config;
    // It may be talking, and we do not listen [ENV7].
    if (connection.isPaused) connection.lastHeardAt = now;
    if (connection.state === "closing") {
      // It had time to take the close frame and did not.
      if (now - connection.lastHeardAt > websocket.write_wait) connection.terminate();
      return;
    }
    if (isSilent(connection, websocket.pong_wait, now)) return connection.close(CloseCode.silent, "silent");
    if (now - Math.max(connection.lastHeardAt, connection.lastPingAt) >= websocket.ping_period) connection.ping(now);
    this.#checkBackpressure(connection, now);
    if (!connection.isAuthenticated && now - connection.anonymousSince > auth.timeout && connection.session === null) {
      connection.close(CloseCode.authenticationTimeout, "not authenticated in time");
    }
    if (connection.expiresAt !== null) this.#checkExpiry(connection, connection.expiresAt, { now, before });
  }

  #checkBackpressure(connection: Connection, now: number): void {
    const waiting = connection.bufferedBytes();
    // The platform does not say so where a ping, or whatever else is written, has taken along what waited.
    if (waiting === 0) return connection.noteNothingWaits();
    if (connection.backpressureSince === 0) connection.backpressureSince = now;
    // A connection that is sent the whole log takes it at its own pace.
    const tooLong = now - connection.backpressureSince > this.options.config.websocket.write_wait && !connection.isFed;
    if (tooLong || waiting > this.options.bufferBytesMax * bufferShareThatCloses) {
      connection.close(CloseCode.slowConsumer, "slow consumer");
    }
  }

  #checkExpiry(connection: Connection, expiresAt: number, { now, before }: Moment): void {
    // A new token that waited to be read is verified by the next check.
    if (before > expiresAt + this.options.config.auth.expiry_grace)
      return connection.close(CloseCode.tokenExpired, "token expired");
    if (connection.expiryWarningAt === null || now < connection.expiryWarningAt) return;
    connection.expiryWarningAt = null;
    this.options.tell(connection, "auth.expiring", { expires_at: momentText(expiresAt) });
  }
}
