/** Passes timers in as parameters, so that a test can turn the clock by itself. */

export interface Timers {
  /** Runs once after `delayMs`. @returns calls it off */
  after(delayMs: number, run: () => void): () => void;
}

export const realTimers: Timers = {
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};
