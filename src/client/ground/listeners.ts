/** Tells those who listen, and keeps what one of them throws from its neighbours. */
import type { Unlisten } from "../core.ts";

/** Calls the application's own listeners: what one throws is told as an error that nobody has caught. */
export function callAll<Arguments extends unknown[]>(
  listeners: ReadonlySet<(...args: Arguments) => void>,
  ...args: Arguments
): void {
  for (const listener of [...listeners]) {
    // One before it may have ended it.
    if (!listeners.has(listener)) continue;
    try {
      listener(...args);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

export class Listeners<Value> {
  readonly #listeners = new Set<(value: Value) => void>();
  readonly #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  add(listener: (value: Value) => void): Unlisten {
    // One that listens twice is two.
    const own = (value: Value) => listener(value);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  tell(value: Value): void {
    for (const listener of [...this.#listeners])
      try {
        listener(value);
      } catch (error) {
        this.#onError(error);
      }
  }
}
