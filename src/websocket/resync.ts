/** Looks at everything again where changes may have been missed: once at a time, and never so often that nothing else is done. */
import type { Timers } from "../ground/timers.ts";

export interface ResyncOptions {
  /** Never rejects. @returns whether all went well; else it is done again */
  run(): Promise<boolean>;
  timers: Timers;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** So long at least is the rest after each time, ms, and as long as it took where that is longer. */
const restMs = 1_000;
/** One that goes on for longer is waited for no more: clients may be slow to take what they join. */
const patienceMs = 10_000;

type State =
  | { kind: "idle" }
  | { kind: "due"; callOff: () => void }
  | { kind: "running"; isWantedAgain: boolean; stopWaiting: () => void }
  | { kind: "stopped" };

export class Resync {
  #state: State = { kind: "idle" };
  #restsUntil = 0;

  constructor(private readonly options: ResyncOptions) {}

  /** At once, or after the rest; what is wanted meanwhile is one. */
  want(delayMs = 0): void {
    const state = this.#state;
    if (state.kind === "running") state.isWantedAgain = true;
    if (state.kind !== "idle") return;
    const { now, timers } = this.options;
    const waitMs = Math.max(delayMs, this.#restsUntil - now());
    if (waitMs <= 0) void this.#run();
    else this.#state = { kind: "due", callOff: timers.after(waitMs, () => void this.#run()) };
  }

  stop(): void {
    if (this.#state.kind === "due") this.#state.callOff();
    if (this.#state.kind === "running") this.#state.stopWaiting();
    this.#state = { kind: "stopped" };
  }

  async #run(): Promise<void> {
    const { now, run, timers } = this.options;
    const began = now();
    const { promise: isLong, resolve } = Promise.withResolvers<true>();
    const stopWaiting = timers.after(patienceMs, () => resolve(true));
    const running: State = { kind: "running", isWantedAgain: false, stopWaiting };
    this.#state = running;
    const isDone = await Promise.race([run(), isLong]);
    stopWaiting();
    if (this.#state !== running) return;
    this.#restsUntil = now() + Math.max(restMs, now() - began);
    this.#state = { kind: "idle" };
    if (running.isWantedAgain || !isDone) this.want();
  }
}
