/** Measures how late timers come: for how long the event loop does nothing else. */

const intervalMs = 250;

export class LoopLag {
  readonly #timer: Timer;
  #due = performance.now() + intervalMs;
  #lastMs = 0;
  #worstMs = 0;

  /** @param observe told of each measurement, ms */
  constructor(private readonly observe: (lagMs: number) => void) {
    this.#timer = setInterval(() => this.#measure(), intervalMs);
  }

  /** The last lag and the worst since somebody took it last, ms. */
  take(): { lastMs: number; worstMs: number } {
    const taken = { lastMs: this.#lastMs, worstMs: this.#worstMs };
    this.#worstMs = 0;
    return taken;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #measure(): void {
    const at = performance.now();
    this.#lastMs = Math.max(0, at - this.#due);
    this.#worstMs = Math.max(this.#worstMs, this.#lastMs);
    this.observe(this.#lastMs);
    this.#due = at + intervalMs;
  }
}
