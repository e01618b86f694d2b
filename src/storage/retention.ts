/** Removes from the log what need not be kept, and what is known of devices that stay away for as long, a little at a time, so that appends go on in between [LOG7]. */
import type { Logger } from "../telemetry/logger.ts";
import { Outage } from "../telemetry/outage.ts";
import type { CursorStore, EventLog } from "./ports.ts";

export interface RetentionOptions {
  log: EventLog;
  cursors: CursorStore;
  /** How long events are kept, ms. */
  ageMs: number;
  eventsPerTopic: number;
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
    this.#outage = new Outage({ level: "warn", gone: "retention waits", back: "retention goes on", logger });
  }

  /** Does nothing where the last run still goes on. Never rejects. */
  async run(now: number): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    const { log, cursors, ageMs, eventsPerTopic, isEnding } = this.options;
    const policy = { createdBefore: now - ageMs, eventsPerTopic, batch };
    try {
      while ((await log.trim(policy)).more && !isEnding());
      // What they would resume from is gone as well [LOG6].
      while ((await cursors.forget(policy.createdBefore, batch)) === batch && !isEnding());
      this.#outage.ended();
    } catch (error) {
      this.#outage.began(error);
    }
    this.#isRunning = false;
  }
}
