/** Says once that something does not work any more, with the reason, and once that it does again, however often it is tried. */
import type { Logger } from "./logger.ts";

export interface OutageOptions {
  /** The two lines of the log. */
  gone: string;
  back: string;
  /** Of the first line; the second one is information. */
  level: "warn" | "error";
  /** What both lines bear besides. */
  details?: object;
  logger: Pick<Logger, "info" | "warn" | "error">;
}

export class Outage {
  #isOn = false;

  constructor(private readonly options: OutageOptions) {}

  /** Something was refused. @param more what this line alone bears besides */
  began(err: unknown, more: object = {}): void {
    if (this.#isOn) return;
    this.#isOn = true;
    const { logger, level, gone, details } = this.options;
    logger[level]({ ...details, ...more, err }, gone);
  }

  /** Something has worked. */
  ended(): void {
    if (!this.#isOn) return;
    this.#isOn = false;
    const { logger, back, details } = this.options;
    logger.info({ ...details }, back);
  }
}
