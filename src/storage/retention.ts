/** Removes from the log what need not be kept, by the log's retention or a conversation's own, and what is known of devices that stay away for as long, a little at a time, so that appends go on in between [LOG7] [LOG9]. */
import type { Config } from "../config/schema.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";
import type { Storage } from "./ports.ts";

export interface RetentionOptions {
  storage: Pick<Storage, "log" | "cursors" | "conversations" | "erasures">;
  settings: Pick<Config["log"], "retention" | "events_per_topic">;
  /** How often it runs, ms. */
  everyMs: number;
  /** Called where something was taken out of the log of which nobody is told. */
  onTakenOut: () => void;
  /** Whether the service is on its way out: what is left is the next start's. */
  isEnding: () => boolean;
  logger: Pick<Logger, "info" | "warn" | "error">;
}

/** How much of the log one step removes. */
const batch = 1_000;
/** A round over the conversations is due again a little before the next run of whoever made the last one. */
const dueShare = 0.9;
/** Conversations that a log line names. */
const namesShown = 10;

export class Retention {
  #isRunning = false;
  readonly #outage: Outage;
  #doneAt: number | null = null;
  /** Conversations whose retention says nothing, as they were logged last. */
  #unclear = "";

  constructor(private readonly options: RetentionOptions) {
    const { logger } = options;
    this.#outage = warnsOnce(logger, "retention waits", "retention goes on");
  }

  /** When it last went through all of it, ms since 1970; null: not yet. */
  get doneAt(): number | null {
    return this.#doneAt;
  }

  /** Does nothing where the last run still goes on. Never rejects. */
  async run(now: number): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    const { storage, settings, isEnding } = this.options;
    const { log, cursors, erasures } = storage;
    const policy = { createdBefore: now - settings.retention, eventsPerTopic: settings.events_per_topic, batch };
    const untilFew = async (remove: () => Promise<number>) => {
      while ((await remove()) === batch && !isEnding());
    };
    const refusals: unknown[] = [];
    for (const part of [
      // First: it is to be done within a minute, and the log may have much to remove after a setting was lowered.
      () => this.#expire(now),
      async () => {
        while ((await log.trim(policy)).more && !isEnding());
      },
      // Forgets devices, too: the events that they would resume from are gone as well [LOG6].
      () => untilFew(() => cursors.forget(policy.createdBefore, batch)),
      () => untilFew(() => erasures.forget(policy.createdBefore, batch)),
    ]) {
      // A view that cannot be read any more keeps nothing else from being removed.
      await part().catch((error: unknown) => refusals.push(error));
    }
    if (refusals.length > 0) this.#outage.began(refusals[0]);
    else {
      this.#outage.ended();
      if (!isEnding()) this.#doneAt = now;
    }
    this.#isRunning = false;
  }

  /** Has conversations keep no more than they are to. */
  async #expire(now: number): Promise<void> {
    const { storage, everyMs, onTakenOut, isEnding } = this.options;
    const unclear: string[] = [];
    let after: string | null = null;
    do {
      const page = await storage.conversations.expire({ after, now, everyMs: everyMs * dueShare });
      // It is another node's turn, which says itself where it cannot.
      if (page === null) return;
      if (page.removed > 0) onTakenOut();
      unclear.push(...page.unclear.slice(0, namesShown - unclear.length));
      after = page.next;
    } while (after !== null && !isEnding());
    this.#tellUnclear(unclear);
  }

  #tellUnclear(conversations: string[]): void {
    const names = conversations.toSorted().join(" ");
    if (names !== this.#unclear && names !== "")
      this.options.logger.warn(
        { conversations },
        "the retention of some conversations is no duration: they keep what the log keeps",
      );
    this.#unclear = names;
  }
}
