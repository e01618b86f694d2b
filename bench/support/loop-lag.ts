/** How late the event loop of this process is: a timer that is due all the time notes by how much it was missed. */
import { quantile } from "./statistics.ts";

const tickMs = 5;

export class LoopLag {
  #late: number[] = [];
  #timer: Timer | null = null;

  /** The lag since the last call in ms, of every moment and not of every tick; the first call only starts it. */
  take(): { p99: number; most: number } {
    const late = this.#late;
    this.#late = [];
    this.#timer ??= this.#start();
    return { p99: quantile(late, 0.99), most: quantile(late, 1) };
  }

  #start(): Timer {
    let last = performance.now();
    return setInterval(() => {
      const now = performance.now();
      // A long stall hides the ticks that would have come meanwhile; they were late as well.
      let lateMs = Math.max(0, now - last - tickMs);
      do {
        this.#late.push(lateMs);
        lateMs -= tickMs;
      } while (lateMs > 0);
      last = now;
    }, tickMs);
  }
}
