/** Passes timers in as parameters, so that a test can turn the clock by itself. */

export interface Timers {
  /** Runs once after `delayMs`. @returns calls it off */
  after(delayMs: number, run: () => void): () => void;
}

export const realTimers: Timers = {
  after(delayMs, run) {
    // A moment that is over when it is reckoned with is now: the platform complains of less than 0.
    const timer = setTimeout(run, Math.max(0, delayMs));
    return () => clearTimeout(timer);
  },
};
