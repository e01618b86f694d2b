/** Runs the work of one key one after the other, and that of different keys side by side. */
import type { AtOnce } from "./at-once.ts";

export class KeyedQueue<Key = string> {
  /** The last of what each key has under way. */
  readonly #tails = new Map<Key, Tail>();

  /**
   * Runs `work` once everything given earlier for the key has ended, well or not: now where nothing is under way.
   * @returns what `work` gives back @throws what it throws now
   */
  run<Result>(key: Key, work: () => Promise<Result>): Promise<Result>;
  run<Result>(key: Key, work: () => AtOnce<Result>): AtOnce<Result>;
  run<Result>(key: Key, work: () => AtOnce<Result>): AtOnce<Result> {
    const before = this.#tails.get(key);
    const tail = new Tail();
    this.#tails.set(key, tail);
    let result: AtOnce<Result>;
    try {
      result = before === undefined ? work() : before.ended.then(work);
    } catch (error) {
      this.#end(key, tail);
      throw error;
    }
    if (result instanceof Promise) {
      const end = () => this.#end(key, tail);
      void result.then(end, end);
    } else this.#end(key, tail);
    return result;
  }

  /** A chain that has come to its end is dropped, or the map would grow with every key ever seen. */
  #end(key: Key, tail: Tail): void {
    if (this.#tails.get(key) === tail) this.#tails.delete(key);
    tail.end();
  }

  /** Resolves when nothing that was given until now is left. */
  async idle(): Promise<void> {
    await Promise.all([...this.#tails.values()].map(({ ended }) => ended));
  }

  /** Keys that have work under way. */
  get size(): number {
    return this.#tails.size;
  }
}

/** The end of one work; hardly ever somebody waits for it. */
class Tail {
  #ended: PromiseWithResolvers<void> | null = null;

  get ended(): Promise<void> {
    this.#ended ??= Promise.withResolvers<void>();
    return this.#ended.promise;
  }

  end(): void {
    this.#ended?.resolve();
  }
}
