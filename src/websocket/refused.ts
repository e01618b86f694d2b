/** Sums up in one line of the log a minute which connections were refused, and why; a line for each would be anybody's to write [CON1]. */
import { type Counts, countOne, type Tally } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Refusal } from "./upgrade.ts";

const periodMs = 60_000;
/** Reasons of one line; there are fewer. */
const reasonsMax = 50;

export class RefusedConnections {
  #tally: Tally = {};
  #since = 0;
  #timer: Timer | null = null;

  constructor(
    private readonly options: { now: () => number; counts: Pick<Counts, "refused">; logger: Pick<Logger, "info"> },
  ) {}

  start(): void {
    this.#since = this.options.now();
    this.#timer = setInterval(() => this.tell(), periodMs);
  }

  /** Tells of the rest. */
  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.tell();
  }

  note({ status, code, message }: Refusal): void {
    // A request for no upgrade has not tried to connect.
    if (status === 426) return;
    countOne(this.options.counts.refused, String(status));
    const reason = `${status} ${code}: ${message}`;
    const isKnown = Object.hasOwn(this.#tally, reason) || Object.keys(this.#tally).length < reasonsMax;
    countOne(this.#tally, isKnown ? reason : "others");
  }

  /** Nothing is said where nobody was refused. */
  tell(): void {
    const { now, logger } = this.options;
    const [refused, since] = [this.#tally, this.#since];
    this.#tally = {};
    this.#since = now();
    const total = Object.values(refused).reduce((sum, count) => sum + count, 0);
    if (total > 0) logger.info({ total, refused, seconds: Math.round((now() - since) / 1_000) }, "connections refused");
  }
}
