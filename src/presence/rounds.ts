/** Does what presence has to do at its moments: the end of a grace, dead nodes once a second, last seen once a minute [PRE1]. */
import type { PresenceRegistry } from "../cluster/ports.ts";
import type { Timers } from "../ground/timers.ts";
import { type Outage, type OutageLogger, warnsOnce } from "../telemetry/outage.ts";
import type { DeviceRef } from "./contributions.ts";
import type { Records } from "./records.ts";

export interface RoundsOptions {
  registry: Pick<PresenceRegistry, "now" | "ownedUsers" | "sweep">;
  records: Pick<Records, "noteLastSeen" | "clearExpired">;
  /** The device has not come back. Never rejects. */
  endGrace(ref: DeviceRef): Promise<void>;
  /** Takes out of a record what a dead run of a node has left. */
  remove(dead: { userId: string; owner: string; seenAt: number }): Promise<void>;
  /** Looks at users under whose record something of this node stands. */
  lookAt(userIds: string[]): void;
  /** Users whom others see here. */
  seenHere(): string[];
  timers: Timers;
  logger: OutageLogger;
}

const sweepIntervalMs = 1_000;
/** As old is `last_seen` at most where this node ends without a word. */
const noteIntervalMs = 60_000;

export class Rounds {
  /** By connection, the first to end first: one grace is as long as the other. */
  readonly #leaving = new Map<string, { ref: DeviceRef; until: number }>();
  #cancelGrace: (() => void) | null = null;
  #cancelSweep = () => {};
  #round = Promise.resolve();
  #isRunning = false;
  /** Whether the registry may have devices of this node that are not here any more. */
  #mayHaveStrangers = false;
  #notedAt: number;
  readonly #sweeping: Outage;
  readonly #clearing: Outage;

  constructor(private readonly options: RoundsOptions) {
    const { logger, registry } = options;
    this.#notedAt = registry.now();
    const gone = "presence: looking for dead nodes failed";
    this.#sweeping = warnsOnce(logger, gone, "presence: dead nodes are looked for again");
    this.#clearing = warnsOnce(logger, "presence: ending statuses failed", "presence: statuses are ended again");
  }

  /** Devices that broke off here and may come back. */
  get leaving(): number {
    return this.#leaving.size;
  }

  /** Waits for the end of a device's grace. @param until by the registry's clock, ms */
  expect(ref: DeviceRef, until: number): void {
    this.#leaving.set(ref.connectionId, { ref, until });
    this.#armGrace();
  }

  /** The device has come back, or is gone. */
  calm(connectionId: string): void {
    this.#leaving.delete(connectionId);
  }

  noteLoss(): void {
    this.#mayHaveStrangers = true;
  }

  start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#armSweep();
  }

  /** Resolves when what is under way has ended. */
  async stop(): Promise<void> {
    this.#isRunning = false;
    this.#cancelSweep();
    await this.#round;
    this.#cancelGrace?.();
    this.#leaving.clear();
  }

  #armGrace(): void {
    const [first] = this.#leaving.values();
    if (this.#cancelGrace !== null || first === undefined) return;
    const { registry, timers } = this.options;
    this.#cancelGrace = timers.after(Math.max(0, first.until - registry.now()), () => {
      this.#cancelGrace = null;
      this.#endGraces();
      this.#armGrace();
    });
  }

  #endGraces(): void {
    for (const [connectionId, { ref, until }] of this.#leaving) {
      if (until > this.options.registry.now()) return;
      this.#leaving.delete(connectionId);
      void this.options.endGrace(ref);
    }
  }

  #armSweep(): void {
    this.#cancelSweep = this.options.timers.after(sweepIntervalMs, () => {
      this.#round = this.#sweep();
    });
  }

  async #sweep(): Promise<void> {
    const { records, registry, remove, seenHere } = this.options;
    await this.#sweeping.attempt(this.#findStrangers().then(() => registry.sweep(remove)));
    const at = registry.now();
    if (at - this.#notedAt >= noteIntervalMs) {
      this.#notedAt = at;
      await records.noteLastSeen(seenHere(), at);
      await this.#clearing.attempt(records.clearExpired(at));
    }
    if (this.#isRunning) this.#armSweep();
  }

  async #findStrangers(): Promise<void> {
    if (!this.#mayHaveStrangers) return;
    this.#mayHaveStrangers = false;
    try {
      this.options.lookAt(await this.options.registry.ownedUsers());
    } catch (error) {
      this.#mayHaveStrangers = true;
      throw error;
    }
  }
}
