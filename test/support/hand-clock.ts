/** A clock that stands still until a test turns it; what was to run by then runs in its order. */

export interface HandClock {
  now: () => number;
  after(delayMs: number, run: () => void): () => void;
  /** Lets time pass; everything that comes due runs at its own moment, and what that leads to has settled. */
  pass(ms: number): Promise<void>;
  /** Timers that have neither run nor been called off. */
  waiting(): number;
}

/** `settled` resolves when nothing is under way any more. */
export function createHandClock({ settled }: { settled: () => Promise<void> }): HandClock {
  let time = Date.UTC(2026, 0, 2, 3, 4, 5);
  const timers = new Set<{ at: number; run: () => void }>();
  return {
    now: () => time,
    after(delayMs, run) {
      const timer = { at: time + delayMs, run };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    async pass(ms) {
      const end = time + ms;
      for (;;) {
        await settled();
        const due = [...timers].filter((timer) => timer.at <= end).sort((one, other) => one.at - other.at)[0];
        if (due === undefined) break;
        timers.delete(due);
        time = Math.max(time, due.at);
        due.run();
      }
      time = end;
    },
    waiting: () => timers.size,
  };
}
