/** Says once that something does not work any more, with the reason, and once that it does again, however often it is tried. */
import type { AtOnce } from "../ground/at-once.ts";
import { Stopped } from "../ground/unavailable.ts";
import type { Logger } from "./logger.ts";

export interface OutageOptions {
  /** The two lines of the log. */
  gone: string;
  back: string;
  /** Of the first line; the second one is information. */
  level: "warn" | "error";
  /** Is borne by both lines besides. */
  details?: object;
  logger: OutageLogger;
}

export type OutageLogger = Pick<Logger, "info" | "warn" | "error"> & Partial<Pick<Logger, "debug">>;

/** One that is a warning. */
export const warnsOnce = (logger: OutageLogger, gone: string, back: string) =>
  new Outage({ level: "warn", gone, back, logger });

export class Outage {
  #isOn = false;

  constructor(private readonly options: OutageOptions) {}

  /** Something was refused; what is refused besides is for who debugs. @param more what this line alone bears besides */
  began(err: unknown, more: object = {}): void {
    // Nothing is away where it was stopped.
    if (err instanceof Stopped) return;
    const { logger, level, gone, details } = this.options;
    if (this.#isOn) return logger.debug?.({ ...details, ...more, err }, gone);
    this.#isOn = true;
    logger[level]({ ...details, ...more, err }, gone);
  }

  /** Never rejects. @returns whether it has worked */
  async attempt(work: AtOnce<unknown>, more: object = {}): Promise<boolean> {
    try {
      await work;
      this.ended();
      return true;
    } catch (error) {
      this.began(error, more);
      return false;
    }
  }

  /** Something has worked. @param more what this line alone bears besides */
  ended(more: object = {}): void {
    if (!this.#isOn) return;
    this.#isOn = false;
    const { logger, back, details } = this.options;
    logger.info({ ...details, ...more }, back);
  }
}
