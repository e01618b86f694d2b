/** Looks again at users of whom this node may not know, or the registry may not have, what is so, until that has worked [PRE1]. */
import type { Timers } from "../ground/timers.ts";
import { Unavailable } from "../ground/unavailable.ts";
import { type OutageLogger, warnsOnce } from "../telemetry/outage.ts";

export interface StaleUsersOptions {
  /** @returns those that are to be checked again; rejects where that is all of them */
  recheck(userIds: string[]): Promise<string[]>;
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
  /** Users that come next, and those that have failed, or may not work yet. */
  #next = new Set<string>();
  #later = new Set<string>();
  #state: "idle" | "rechecking" | "stopped" = "idle";
  #pageSize = page.usual;
  #cancel: (() => void) | null = null;
  readonly #outage;

  constructor(private readonly options: StaleUsersOptions) {
    this.#outage = warnsOnce(options.logger, "presence is looked at again later", "presence is known again");
  }

  /** Looks at them in a while, as after a try that has failed. */
  add(userIds: Iterable<string>): void {
    for (const userId of userIds) if (!this.#next.has(userId)) this.#later.add(userId);
    if (this.#cancel === null) this.#arm(retryMs);
  }

  /** Looks at them at once, in this order and before all others. */
  addNow(userIds: Iterable<string>): void {
    this.#next = new Set([...userIds, ...this.#next]);
    for (const userId of this.#next) this.#later.delete(userId);
    this.#pageSize = page.usual;
    this.#arm(0);
  }

  stop(): void {
    this.#state = "stopped";
    this.#cancel?.();
  }

  #arm(delayMs: number): void {
    if (this.#state !== "idle" || this.#next.size + this.#later.size === 0) return;
    this.#cancel?.();
    this.#cancel = this.options.timers.after(delayMs, () => void this.#recheckPage());
  }

  async #recheckPage(): Promise<void> {
    this.#cancel = null;
    this.#state = "rechecking";
    if (this.#next.size === 0) [this.#next, this.#later] = [this.#later, this.#next];
    const next = this.#next;
    const users = [...next.values().take(this.#pageSize)];
    for (const userId of users) next.delete(userId);
    let left = users;
    try {
      left = await this.options.recheck(users);
      if (left.length > 0) this.#outage.began(new Unavailable("cluster", "not all can be known now"));
      // Pages that still wait may fail.
      else if (this.#next.size + this.#later.size === 0) this.#outage.ended();
    } catch (error) {
      this.#outage.began(error, { users: users.length });
    }
    if (this.#isStopped) return;
    // Where some were added meanwhile to be looked at now, something has just come back.
    const isAway = left.length === users.length && this.#next === next;
    this.#pageSize = isAway ? page.whileAway : page.usual;
    this.#state = "idle";
    this.add(left);
    this.#arm(isAway || this.#next.size === 0 ? retryMs : pauseMs);
  }

  get #isStopped(): boolean {
    return this.#state === "stopped";
  }
}
