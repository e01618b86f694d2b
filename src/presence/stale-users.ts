/** Looks again at users of whom this node may not know, or the registry may not have, what is so, until that has worked [PRE1]. */
import type { Timers } from "../ground/timers.ts";
import { type OutageLogger, warnsOnce } from "../telemetry/outage.ts";

export interface StaleUsersOptions {
  /** @returns those that are to be looked at again; rejects where that is all of them */
  look(userIds: string[]): Promise<string[]>;
  timers: Timers;
  logger: OutageLogger;
}

/** Between two tries of the same users. */
const retryMs = 1_000;
/** Between two pages: after a gap all nodes look at all that is watched on them, and the engines serve others too. */
const pauseMs = 50;
/** Users of a page; few while nothing can be read: asking about all would only keep the engines from coming back. */
const page = { usual: 200, whileAway: 10 };

export class StaleUsers {
  readonly #waiting = new Set<string>();
  #state: "idle" | "looking" | "stopped" = "idle";
  #pageSize = page.usual;
  #cancel: (() => void) | null = null;
  readonly #outage;

  constructor(private readonly options: StaleUsersOptions) {
    this.#outage = warnsOnce(options.logger, "presence is looked at again later", "presence is known again");
  }

  /** Looks at them, and with 0 at all that wait, after so long; at once is for what has not failed just now. */
  add(userIds: Iterable<string>, delayMs = retryMs): void {
    for (const userId of userIds) this.#waiting.add(userId);
    if (this.#cancel === null || delayMs === 0) this.#arm(delayMs);
  }

  stop(): void {
    this.#state = "stopped";
    this.#cancel?.();
  }

  #arm(delayMs: number): void {
    if (this.#state !== "idle" || this.#waiting.size === 0) return;
    this.#cancel?.();
    this.#cancel = this.options.timers.after(delayMs, () => void this.#lookAtPage());
  }

  async #lookAtPage(): Promise<void> {
    this.#cancel = null;
    this.#state = "looking";
    const users = [...this.#waiting.values().take(this.#pageSize)];
    for (const userId of users) this.#waiting.delete(userId);
    let left = users;
    try {
      left = await this.options.look(users);
      if (left.length === 0) this.#outage.ended();
      else this.#outage.began(new Error("not all can be known now"), { users: left.length });
    } catch (error) {
      this.#outage.began(error, { users: users.length });
    }
    if (this.#isStopped) return;
    // They go to the end: one that cannot be looked at holds up nobody else.
    for (const userId of left) this.#waiting.add(userId);
    const isAway = left.length === users.length;
    this.#pageSize = isAway ? page.whileAway : page.usual;
    this.#state = "idle";
    this.#arm(isAway ? retryMs : pauseMs);
  }

  get #isStopped(): boolean {
    return this.#state === "stopped";
  }
}
