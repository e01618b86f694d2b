/** Cleans up after sockets that have gone, so many at once, so that nothing of them is left anywhere [SUB5]. */
import type { CallService } from "../calls/service.ts";
import type { PresenceTracker } from "../presence/tracker.ts";
import type { TypingTracker } from "../presence/typing.ts";
import { CloseCode, closeLabel } from "../protocol/close.ts";
import type { SubscriptionManager } from "../subscription/manager.ts";
import { type Counts, countOne } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";
import type { Connection } from "./connection.ts";
import type { ConnectionQuota } from "./connection-quota.ts";
import type { Hub } from "./hub.ts";

export interface CleanUpOptions {
  hub: Pick<Hub, "remove" | "find">;
  quota: Pick<ConnectionQuota, "leave">;
  presence: Pick<PresenceTracker, "disconnect">;
  typing: Pick<TypingTracker, "stopAll">;
  calls: Pick<CallService, "deviceDisconnected">;
  subscriptions: Pick<SubscriptionManager, "forget">;
  /** Disconnects that are cleaned up at once: `websocket.unregister_buffer`. */
  atOnce: number;
  counts: Counts;
  logger: Pick<Logger, "debug" | "info" | "warn" | "error">;
}

/** Closes after which a device does not come back in a moment: left, closed without a code, sent away for being too many [PRE1] [CON3]. */
const finalCodes = new Set<number>([CloseCode.normal, CloseCode.goingAway, 1005, CloseCode.tooManyDevices]);

export class CleanUp {
  /** Disconnects being cleaned up, and those that wait for their turn. */
  #cleaning = 0;
  readonly #waiting: (() => Promise<void>)[] = [];
  #idle: (() => void)[] = [];
  readonly #outage: Outage;

  constructor(private readonly options: CleanUpOptions) {
    this.#outage = warnsOnce(options.logger, "clean-up of a connection failed", "connections are cleaned up again");
  }

  /** Forgets the connection on this node at once, and in its turn on the others. */
  close(connection: Connection, code: number): void {
    const { hub, quota, typing, subscriptions, atOnce } = this.options;
    const wasLive = connection.userId !== "";
    this.#count(connection, code);
    connection.noteClosed();
    hub.remove(connection);
    quota.leave(connection);
    typing.stopAll(connection);
    subscriptions.forget(connection);
    if (!wasLive) return;
    const clean = finalCodes.has(code);
    this.#waiting.push(() => this.#leave(connection, { clean, hangsUp: code === CloseCode.normal }));
    if (this.#cleaning < atOnce) void this.#work();
  }

  /** Resolves once every disconnect so far is cleaned up. */
  async done(): Promise<void> {
    if (this.#cleaning > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  stats() {
    return { cleaning_up: this.#cleaning + this.#waiting.length };
  }

  #count(connection: Connection, code: number): void {
    const { counts } = this.options;
    countOne(counts.closes, closeLabel(code));
    // The platform closes by itself, with 1006, where a publish finds no room for a client that is behind.
    const isSlow = code === CloseCode.slowConsumer || (code === 1006 && connection.backpressureSince > 0);
    if (isSlow) counts.backpressureCloses++;
  }

  async #work(): Promise<void> {
    this.#cleaning++;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) await next();
    this.#cleaning--;
    if (this.#cleaning === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  async #leave(connection: Connection, { clean, hangsUp }: { clean: boolean; hangsUp: boolean }): Promise<void> {
    const { calls, hub, logger, presence } = this.options;
    const { userId, deviceId, connectionId } = connection;
    const who = { connection_id: connectionId, user_id: userId };
    await presence.disconnect({ userId, deviceId, connectionId, clean });
    logger.debug({ ...who, clean }, "disconnected");
    // Where the same device is here again already no call has lost it; whether it is on another node presence knows.
    if (hub.find({ userId, deviceId }).length === 0)
      await this.#outage.attempt(calls.deviceDisconnected({ userId, deviceId }, { hangsUp }), who);
  }
}
