/** Keeps in memory, for as long as the page or the program lives. */
import type { Store } from "../core.ts";

export class MemoryStore implements Store {
  readonly #values = new Map<string, unknown>();

  async read(prefix: string): Promise<[key: string, value: unknown][]> {
    const found = [...this.#values]
      .filter(([key]) => key.startsWith(prefix))
      .sort(([one], [other]) => order(one, other));
    return structuredClone(found);
  }

  async write(changes: readonly [key: string, value: unknown][]): Promise<void> {
    // Copied before anything is changed: a value that cannot be copied leaves all as it was.
    for (const [key, value] of structuredClone(changes)) {
      if (value === undefined) this.#values.delete(key);
      else this.#values.set(key, value);
    }
  }

  async clear(): Promise<void> {
    this.#values.clear();
  }
}

/** By UTF-16 units, as IndexedDB orders texts. */
const order = (one: string, other: string) => (one < other ? -1 : 1);
