/** Tells those who listen, and keeps what one of them throws from its neighbours. */
import type { Unlisten } from "../core.ts";

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
