/** Waits for what is shown, as a test does. */
import type { Live } from "../ground/live.ts";

/** Resolves with what is current once the condition holds, now or later; it is followed meanwhile. */
export function until<T>(live: Live<T>, holds: (current: T) => boolean): Promise<T> {
  return new Promise((resolve) => {
    const look = () => {
      if (!holds(live.current)) return;
      stop();
      resolve(live.current);
    };
    const stop = live.subscribe(look);
    look();
  });
}
