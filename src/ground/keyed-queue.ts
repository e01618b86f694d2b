/** Runs the work of one key one after the other, and that of different keys side by side. */

export class KeyedQueue<Key = string> {
  /** The last of what each key has under way. */
  readonly #tails = new Map<Key, Promise<void>>();

  /** Runs `work` once everything given earlier for the key has ended, well or not. @returns what `work` gives back */
  run<Result>(key: Key, work: () => Promise<Result>): Promise<Result> {
    const before = this.#tails.get(key);
    const { promise: tail, resolve } = Promise.withResolvers<void>();
    this.#tails.set(key, tail);
    // Where nothing is under way it begins now.
    const result = before === undefined ? begin(work) : before.then(work);
    const end = () => {
      // A chain that has come to its end is dropped, or the map would grow with every key ever seen.
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
      resolve();
    };
    void result.then(end, end);
    return result;
  }

  /** Resolves when nothing that was given until now is left. */
  async idle(): Promise<void> {
    await Promise.all(this.#tails.values());
  }

  /** Keys that have work under way. */
  get size(): number {
    return this.#tails.size;
  }
}

/** Rejects where the work throws before it gives a promise back. */
function begin<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return work();
  } catch (error) {
    return Promise.reject(error);
  }
}
