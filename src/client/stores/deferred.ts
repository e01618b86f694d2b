/** Keeps in a store that is not chosen yet. */
import type { Store } from "../core.ts";

export class DeferredStore implements Store {
  readonly #store: Promise<Store>;

  constructor(store: Promise<Store>) {
    this.#store = store;
    // Told to whoever uses it.
    store.catch(() => {});
  }

  async read(prefix: string): Promise<[key: string, value: unknown][]> {
    return (await this.#store).read(prefix);
  }

  async write(changes: readonly [key: string, value: unknown][]): Promise<void> {
    // As they are now: whoever gave them may go on changing them.
    const copied = structuredClone(changes);
    await (await this.#store).write(copied);
  }

  async clear(): Promise<void> {
    await (await this.#store).clear();
  }
}
