/** Tells those who listen, and keeps what one of them throws from its neighbours. */
import type { Unlisten } from "../core.ts";

/** Tells what an application's listener throws as an error that nobody has caught. */
const rethrow = (error: unknown) =>
  queueMicrotask(() => {
    throw error;
  });

export class Listeners<Value> {
  readonly #listeners = new Set<(value: Value) => void>();
  readonly #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void = rethrow) {
    this.#onError = onError;
  }

  get size(): number {
    return this.#listeners.size;
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
        // One before it may have ended it.
        if (this.#listeners.has(listener)) listener(value);
      } catch (error) {
        this.#onError(error);
      }
  }
}
