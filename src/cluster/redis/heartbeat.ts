/** Beats: from time to time, and at once when Redis is back, does what keeps this node known and whole there. */
import type { Logger } from "../../telemetry/logger.ts";
import { Outage } from "../../telemetry/outage.ts";
import type { Commands } from "./commands.ts";
import { RedisUnavailable } from "./unavailable.ts";

export interface HeartbeatOptions {
  commands: Pick<Commands, "isReady" | "noteServed" | "onReady">;
  /** Does the work of one beat, all at once. */
  work: () => Promise<unknown>[];
  intervalMs: number;
  /** Milliseconds since 1970. */
  now: () => number;
  logger: Pick<Logger, "info" | "warn" | "error">;
}

/** Within so long all connections are back once one is: each tries again at most a second later. */
const comingBackMs = 2_000;

const isRefusal = (reason: unknown) => reason instanceof RedisUnavailable && reason.isRefusal;

export class Heartbeat {
  readonly #outage: Outage;
  #failingSince: number | null = null;
  #timer: Timer | null = null;
  #beating: Promise<void> | null = null;
  #beatsAgain = false;

  constructor(private readonly options: HeartbeatOptions) {
    this.#outage = new Outage({
      level: "warn",
      gone: "a heartbeat on Redis failed in part",
      back: "heartbeats on Redis are whole again",
      logger: options.logger,
    });
  }

  start(): void {
    this.#timer = setInterval(() => this.#beat(), this.options.intervalMs);
    // Redis may have come back empty, or come for the first time: what it lacks is put there at once.
    this.options.commands.onReady(() => this.#beat());
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#beating;
  }

  #beat(): void {
    if (this.#beating !== null) {
      this.#beatsAgain = true;
      return;
    }
    this.#beating = this.#beatOnce().finally(() => {
      this.#beating = null;
      if (!this.#beatsAgain || this.#timer === null) return;
      this.#beatsAgain = false;
      this.#beat();
    });
  }

  async #beatOnce(): Promise<void> {
    const { commands, work, now } = this.options;
    const results = commands.isReady ? await Promise.allSettled(work()) : [];
    const reasons = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
    // That Redis is away or refuses is said once, where it is noticed; when that is over, the connections still have to come back.
    if (!commands.isReady || reasons.some(isRefusal)) {
      this.#failingSince = null;
      return;
    }
    if (reasons.length > 0) {
      this.#failingSince ??= now();
      // For a moment is nothing: the connections do not all come back at once.
      if (now() - this.#failingSince >= comingBackMs) this.#outage.began(reasons[0]);
      return;
    }
    this.#failingSince = null;
    this.#outage.ended();
    try {
      commands.noteServed();
    } catch {
      // Some was refused a moment ago, and that is told.
    }
  }
}
