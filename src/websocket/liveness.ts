/** Finds out who is gone, too slow, late to authenticate or expired, and closes them [CON6] [CON7] [AUTH3]. */
import type { Config } from "../config/schema.ts";
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
}

/** Connections that are not looked at for longer than this may be closed that much late. */
const tickMs = 500;
/** No check is so late, but for a clock that was set or a process that slept. */
const leapMs = 5_000;
/** The platform closes without a word at the limit; below it there is still room for a close frame. */
const bufferShareThatCloses = 0.75;

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
  #checkedAt: number | null = null;

  constructor(private readonly options: LivenessOptions) {}

  start(): void {
    const { websocket, auth } = this.options.config;
    // Short settings, as tests have them, are looked after as exactly as long ones.
    const shortest = Math.min(
      websocket.ping_period,
      websocket.pong_wait,
      websocket.write_wait,
      auth.timeout,
      auth.expiry_grace,
    );
    this.#timer = setInterval(() => this.check(), Math.max(20, Math.min(tickMs, shortest / 4)));
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  check(): void {
    const now = this.options.now();
    const sinceMs = now - (this.#checkedAt ?? now);
    this.#checkedAt = now;
    // The clock was set, or the process has slept: nobody could be heard meanwhile, and nobody was silent.
    if (sinceMs < 0 || sinceMs > leapMs) this.#leap(Math.max(0, sinceMs), now);
    for (const connection of this.options.hub.all()) this.#checkOne(connection, now);
  }

  /** Catches what the timers missed. */
  sweep(): void {
    // Known from then on: what the process has slept through.
    this.check();
    const now = this.options.now();
    const { stale_connection_timeout: staleMs } = this.options.config.websocket;
    for (const connection of [...this.options.hub.all()]) {
      if (isSilent(connection, staleMs, now)) {
        connection.close(CloseCode.silent, "silent");
        connection.terminate();
      }
    }
  }

  /** Moves what was noted before along with the clock. */
  #leap(byMs: number, now: number): void {
    for (const connection of this.options.hub.all()) {
      connection.lastHeardAt = Math.min(now, connection.lastHeardAt + byMs);
      connection.lastPingAt = Math.min(now, connection.lastPingAt + byMs);
      if (connection.backpressureSince > 0)
        connection.backpressureSince = Math.min(now, connection.backpressureSince + byMs);
    }
  }

  #checkOne(connection: Connection, now: number): void {
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
    if (!connection.isAuthenticated && now - connection.connectedAt > auth.timeout && connection.session === null) {
      connection.close(CloseCode.authenticationTimeout, "not authenticated in time");
    }
    if (connection.expiresAt !== null) this.#checkExpiry(connection, connection.expiresAt, now);
  }

  #checkBackpressure(connection: Connection, now: number): void {
    const waiting = connection.bufferedBytes();
    if (waiting === 0) {
      connection.backpressureSince = 0;
      return;
    }
    if (connection.backpressureSince === 0) connection.backpressureSince = now;
    // A connection that is sent the whole log takes it at its own pace.
    const tooLong = now - connection.backpressureSince > this.options.config.websocket.write_wait && !connection.isFed;
    if (tooLong || waiting > this.options.bufferBytesMax * bufferShareThatCloses) {
      connection.close(CloseCode.slowConsumer, "slow consumer");
    }
  }

  #checkExpiry(connection: Connection, expiresAt: number, now: number): void {
    if (now > expiresAt + this.options.config.auth.expiry_grace)
      return connection.close(CloseCode.tokenExpired, "token expired");
    if (connection.expiryWarningAt === null || now < connection.expiryWarningAt) return;
    connection.expiryWarningAt = null;
    this.options.tell(connection, "auth.expiring", { expires_at: new Date(expiresAt).toISOString() });
  }
}
