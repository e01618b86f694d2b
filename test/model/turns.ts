/** Takes the loop's timers, turns and clocks into the hands of a run, which is over before anybody else is served. */
import { drainMicrotasks } from "bun:jsc";

const kept = ["setTimeout", "setInterval", "setImmediate", "clearTimeout", "clearInterval"] as const;
type Kept = (typeof kept)[number];

/** So long each takes, whatever was asked for. */
const timerMs = 100;

export class Turns {
  /** Holds what waits for time to pass, until the schedule says that it has. */
  readonly timers = new Map<number, () => void>();
  readonly #immediates: (() => void)[] = [];
  readonly #own = Object.fromEntries(kept.map((name) => [name, globalThis[name]])) as Record<Kept, unknown>;
  readonly #sleep = Bun.sleep;
  readonly #clocks = { date: Date.now, performance: performance.now };
  /** Time passes with timers only. */
  #nowMs = 1_000_000;
  #count = 0;

  start(): void {
    const later = (run: () => void) => {
      this.timers.set(++this.#count, run);
      return this.#count;
    };
    const forget = (timer: number) => void this.timers.delete(timer);
    Object.assign(globalThis, {
      setTimeout: later,
      // The schedule has repairs of its own.
      setInterval: () => 0,
      setImmediate: (run: () => void) => this.#immediates.push(run),
      clearTimeout: forget,
      clearInterval: forget,
    });
    Date.now = () => this.#nowMs;
    performance.now = () => this.#nowMs;
    Bun.sleep = () => new Promise<void>((resolve) => void later(resolve));
  }

  end(): void {
    Object.assign(globalThis, this.#own);
    Bun.sleep = this.#sleep;
    Date.now = this.#clocks.date;
    performance.now = this.#clocks.performance;
  }

  /** All that goes on without waiting for anybody. */
  settle(): void {
    do {
      drainMicrotasks();
      for (const run of this.#immediates.splice(0)) run();
      drainMicrotasks();
    } while (this.#immediates.length > 0);
  }

  pass(timer: number): void {
    const run = this.timers.get(timer);
    this.timers.delete(timer);
    this.#nowMs += timerMs;
    run?.();
  }
}
