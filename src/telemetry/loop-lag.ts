/** Measures how late timers come: for how long the event loop does nothing else. */

const intervalMs = 250;

export class LoopLag {
  readonly #timer: Timer;
  #due = performance.now() + intervalMs;

  /** @param observe told of each measurement, ms */
  constructor(private readonly observe: (lagMs: number) => void) {
    this.#timer = setInterval(() => this.#measure(), intervalMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #measure(): void {
    const at = performance.now();
    this.observe(Math.max(0, at - this.#due));
    this.#due = at + intervalMs;
  }
}
