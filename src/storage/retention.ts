/** Removes from the log what need not be kept, and what is known of devices that stay away for as long, a little at a time, so that appends go on in between [LOG7]. */
import type { Config } from "../config/schema.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";
import type { Storage } from "./ports.ts";

export interface RetentionOptions {
  storage: Pick<Storage, "log" | "cursors">;
  settings: Pick<Config["log"], "retention" | "events_per_topic">;
  /** Whether the service is on its way out: what is left is the next start's. */
  isEnding: () => boolean;
  logger: Pick<Logger, "info" | "warn" | "error">;
}

/** How much of the log one step removes. */
const batch = 1_000;

export class Retention {
  #isRunning = false;
  readonly #outage: Outage;

  constructor(private readonly options: RetentionOptions) {
    const { logger } = options;
    this.#outage = warnsOnce(logger, "retention waits", "retention goes on");
  }

  /** Does nothing where the last run still goes on. Never rejects. */
  async run(now: number): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    const { storage, settings, isEnding } = this.options;
    const { log, cursors } = storage;
    const policy = { createdBefore: now - settings.retention, eventsPerTopic: settings.events_per_topic, batch };
    try {
      while ((await log.trim(policy)).more && !isEnding());
      // Forgets devices, too: the events that they would resume from are gone as well [LOG6].
      while ((await cursors.forget(policy.createdBefore, batch)) === batch && !isEnding());
      this.#outage.ended();
    } catch (error) {
      this.#outage.began(error);
    }
    this.#isRunning = false;
  }
}
