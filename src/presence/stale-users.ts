/** Looks again at users of whom this node may not know, or the registry may not have, what is so, until that has worked [PRE1]. */
import type { Timers } from "../ground/timers.ts";
import { type Outage, type OutageLogger, warnsOnce } from "../telemetry/outage.ts";

export interface StaleUsersOptions {
  /** @returns those that are to be looked at again; rejects where that is all of them */
  look(userIds: string[]): Promise<string[]>;
  timers: Timers;
  logger: OutageLogger;
}

/** Between two tries of the same users. */
const retryMs = 1_000;
/** Looked at side by side; few while nothing can be read: asking about all would only keep the engines from coming back. */
const atOnce = { usual: 200, whileAway: 10 };
/** Between two shares: after a gap all nodes look at all that is watched on them, and the engines serve others too. */
const pauseMs = 50;

export class StaleUsers {
  readonly #waiting = new Set<string>();
  #share = atOnce.usual;
  #state: "idle" | "armed" | "looking" | "stopped" = "idle";
  #cancel = () => {};
  readonly #outage: Outage;

  constructor(private readonly options: StaleUsersOptions) {
    this.#outage = warnsOnce(options.logger, "presence is looked at again later", "presence is known again");
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Looks at them in a while, as after a try that failed. */
  add(userIds: Iterable<string>): void {
    for (const userId of userIds) this.#waiting.add(userId);
    this.#arm(retryMs);
  }

  /** Looks at them, and at those that wait, at once. */
  addNow(userIds: Iterable<string>): void {
    for (const userId of userIds) this.#waiting.add(userId);
    if (this.#state === "armed") {
      this.#cancel();
      this.#state = "idle";
    }
    this.#arm(0);
  }

  stop(): void {
    this.#state = "stopped";
    this.#cancel();
  }

  #arm(delayMs: number): void {
    if (this.#state !== "idle" || this.#waiting.size === 0) return;
    this.#state = "armed";
    this.#cancel = this.options.timers.after(delayMs, () => void this.#lookAtSome());
  }

  async #lookAtSome(): Promise<void> {
    this.#state = "looking";
    const some = [...this.#waiting.values().take(this.#share)];
    for (const userId of some) this.#waiting.delete(userId);
    const left = await this.#look(some);
    if (this.#isStopped) return;
    // They go to the end: one that cannot be looked at holds up nobody else.
    for (const userId of left) this.#waiting.add(userId);
    const isAway = left.length === some.length;
    this.#share = isAway ? atOnce.whileAway : atOnce.usual;
    this.#state = "idle";
    this.#arm(isAway ? retryMs : pauseMs);
  }

  async #look(some: string[]): Promise<string[]> {
    try {
      const left = await this.options.look(some);
      if (left.length === 0) this.#outage.ended();
      else this.#outage.began(new Error("not all can be known now"), { users: left.length });
      return left;
    } catch (error) {
      this.#outage.began(error, { users: some.length });
      return some;
    }
  }

  get #isStopped(): boolean {
    return this.#state === "stopped";
  }
}
