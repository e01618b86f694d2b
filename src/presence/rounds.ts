/** Does what presence has to do by and by: ended graces, dead nodes and newcomers' last seen once a second, everybody's once a minute [PRE1]. */
import type { LeftBehind, PresenceRegistry } from "../cluster/ports.ts";
import type { Timers } from "../ground/timers.ts";
import { type OutageLogger, warnsOnce } from "../telemetry/outage.ts";
import type { Records } from "./records.ts";

export interface RoundsOptions {
  registry: Pick<PresenceRegistry, "now" | "ownUsers" | "sweep">;
  records: Pick<Records, "noteLastSeen" | "clearExpired">;
  /** Takes out devices of this node that have not come back. */
  endGraces(): void;
  /** Takes out of a record what a dead run of a node has left. */
  remove(left: LeftBehind): Promise<void>;
  /** Looks at users under whose record something of this node stands, which may not be here any more. */
  recheck(userIds: string[]): void;
  /** Lists users whom others see here. */
  seenHere(): string[];
  /** Lists those of them who have come, or are seen again, since the last call. */
  cameHere(): string[];
  timers: Timers;
  logger: OutageLogger;
}

const intervalMs = 1_000;
/** As old is `last_seen` at most where this node ends without a word. */
const noteIntervalMs = 60_000;

export class Rounds {
  #cancel = () => {};
  #round = Promise.resolve();
  #isRunning = false;
  #hasLost = false;
  #notedAt: number;
  readonly #sweeping;
  readonly #clearing;

  constructor(private readonly options: RoundsOptions) {
    const { logger, registry } = options;
    this.#notedAt = registry.now();
    const gone = "presence: looking for dead nodes failed";
    this.#sweeping = warnsOnce(logger, gone, "presence: dead nodes are looked for again");
    this.#clearing = warnsOnce(logger, "presence: ending statuses failed", "presence: statuses are ended again");
  }

  /** The registry may have lost what was written last, and so have what was taken out. */
  noteRegistryLost(): void {
    this.#hasLost = true;
  }

  start(): void {
    this.#isRunning = true;
    this.#arm();
  }

  /** Resolves when what is under way has ended. */
  async stop(): Promise<void> {
    this.#isRunning = false;
    this.#cancel();
    await this.#round;
  }

  #arm(): void {
    this.#cancel = this.options.timers.after(intervalMs, () => {
      this.#round = this.#run();
    });
  }

  async #run(): Promise<void> {
    const { cameHere, endGraces, records, registry, seenHere } = this.options;
    endGraces();
    await this.#sweep();
    const at = registry.now();
    // Until then the storage may have the end of a newcomer's stay long ago.
    const isMinute = at - this.#notedAt >= noteIntervalMs;
    const came = cameHere();
    await records.noteLastSeen(isMinute ? seenHere() : came, at);
    if (isMinute) {
      this.#notedAt = at;
      await this.#clearing.attempt(records.clearExpired(at));
    }
    if (this.#isRunning) this.#arm();
  }

  /** Says that it works again once it has looked: while the registry is away it does not look, and nothing is wrong with that. */
  async #sweep(): Promise<void> {
    const { registry, remove } = this.options;
    try {
      await this.#findLeftOver();
      if (await registry.sweep(remove)) this.#sweeping.ended();
    } catch (error) {
      this.#sweeping.began(error);
    }
  }

  async #findLeftOver(): Promise<void> {
    if (!this.#hasLost) return;
    const users = await this.options.registry.ownUsers();
    this.#hasLost = false;
    this.options.recheck(users);
  }
}
