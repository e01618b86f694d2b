/** Tells this node's listeners of changes in the directory, each of all of them, whatever another one throws. */
import type { DirectoryChange } from "./directory-store.ts";

type Listener = (change: DirectoryChange) => void;

export class DirectoryListeners {
  readonly #listeners = new Set<Listener>();

  /** @param onError told of what a listener throws; the others hear the change all the same */
  constructor(private readonly onError: (error: unknown) => void) {}

  get size(): number {
    return this.#listeners.size;
  }

  /** @returns takes it out again */
  add(listener: Listener): () => void {
    // A listener of its own for each call, so that the same function may listen twice.
    const own: Listener = (change) => listener(change);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  tell(change: DirectoryChange): void {
    for (const listener of this.#listeners) {
      try {
        listener(change);
      } catch (error) {
        this.onError(error);
      }
    }
  }
}
