/** Has the log asked for what is missing below a waiting event, once the bus has had a moment to bring it [LOG3]. */
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";
import type { WaitingEvents } from "./waiting-events.ts";

export interface GapCloserOptions {
  waiting: WaitingEvents;
  /** Publishes from the log up to a `seq`. */
  fill: (topic: string, throughSeq: number) => Promise<void>;
  /** How long the bus has, ms. */
  patienceMs: number;
  logger: Logger;
}

export class GapCloser {
  /** Topics whose gap is looked at in a moment. */
  readonly #noticed = new Set<string>();
  readonly #outage: Outage;

  constructor(private readonly options: GapCloserOptions) {
    this.#outage = warnsOnce(options.logger, "gap stays open until the log answers", "gaps are closed again");
  }

  /** Takes a topic that has an event above a gap. */
  notice(topic: string): void {
    if (this.#noticed.has(topic)) return;
    this.#noticed.add(topic);
    setTimeout(() => void this.#close(topic), this.options.patienceMs);
  }

  async #close(topic: string): Promise<void> {
    const { waiting, fill } = this.options;
    this.#noticed.delete(topic);
    const highest = waiting.highest(topic);
    if (highest === null) return;
    try {
      await fill(topic, highest);
      this.#outage.ended();
      // Another gap has opened above this one meanwhile.
      if (waiting.highest(topic) !== null) this.notice(topic);
    } catch (error) {
      // The cursor stays where it is; the next repair comes to this topic again.
      waiting.delete(topic);
      this.#outage.began(error, { topic });
    }
  }
}
