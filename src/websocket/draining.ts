/** Lets every connection of this node go, each at its own moment, within a bounded time [DRN]. */
import { CloseCode } from "../protocol/close.ts";
import type { Tell } from "../subscription/tell.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Connection } from "./connection.ts";
import type { Hub } from "./hub.ts";

export interface DrainingOptions {
  hub: Hub;
  tell: Tell;
  /** Over how long clients are let go, ms. */
  windowMs: number;
  /** After so long what is left is closed, ms. */
  timeoutMs: number;
  /** Between 0 and 1. */
  random: () => number;
  logger: Logger;
}

/**
 * So long a socket is left to its client once it was closed, ms. An end at once would reset one that sends in that moment, and whoever is
 * reset, a proxy above all, may not read any more what came before: the close.
 */
const partingMs = 1_000;

export class Draining {
  #begun = false;
  /** Until the one that was closed last has parted. */
  #parting: Promise<void> = Promise.resolve();
  readonly #timeIsUp = Promise.withResolvers<void>();

  constructor(private readonly options: DrainingOptions) {}

  get hasBegun(): boolean {
    return this.#begun;
  }

  /** From now on the node is not ready; the time that draining may take runs. */
  begin(): void {
    this.#begun = true;
    setTimeout(() => this.hurry(), this.options.timeoutMs);
  }

  /** Ends every wait of draining at once. */
  hurry(): void {
    this.#timeIsUp.resolve();
  }

  /** Resolves with the work, or once the time is up. */
  async within(work: Promise<unknown>[]): Promise<void> {
    await Promise.race([Promise.all(work), this.#timeIsUp.promise]);
  }

  /** Tells every client when to come back; by then, spread over the window, it is answered what it asked and closed. */
  async letGo(): Promise<void> {
    const { hub, tell, windowMs, timeoutMs, random, logger } = this.options;
    logger.info({ connections: hub.size, window_ms: windowMs }, "draining");
    await Promise.all(
      [...hub.all()].map(async (connection) => {
        const delayMs = Math.round(random() * Math.min(windowMs, timeoutMs));
        tell(connection, "draining", { reconnect_after_ms: delayMs });
        await Bun.sleep(delayMs);
        await connection.finish();
        this.#close(connection);
      }),
    );
  }

  /** Closes whoever is left. */
  closeAll(): void {
    for (const connection of this.options.hub.all()) this.#close(connection);
  }

  /** Resolves once those that were closed have had the time to hear it. */
  parted(): Promise<void> {
    return this.#parting;
  }

  #close(connection: Connection): void {
    connection.close(CloseCode.serviceRestart, "restarting");
    this.#parting = Bun.sleep(partingMs);
  }
}
