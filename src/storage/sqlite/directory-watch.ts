/** Follows the directory's change log and tells the listeners of this node. */
import { DirectoryListeners } from "../directory-listeners.ts";
import type { DirectoryChange } from "../directory-store.ts";
import type { ChangesPage } from "./directory.ts";

export interface DirectoryWatchOptions {
  /** Tells what has changed since a look that ended at `after`; null begins now. */
  look(after: number | null): Promise<ChangesPage>;
  /** How often the file is looked at for what other processes changed. */
  intervalMs: number;
  /** Told of what a listener throws; the others hear the change all the same. */
  onListenerError(error: unknown): void;
}

export class DirectoryWatch {
  readonly #options: DirectoryWatchOptions;
  readonly #listeners: DirectoryListeners;
  #timer: ReturnType<typeof setInterval> | null = null;
  /** Where the last look ended; kept while the engine is away, so that nothing is missed. */
  #after: number | null = null;
  #looking: Promise<void> | null = null;
  #again = false;

  constructor(options: DirectoryWatchOptions) {
    this.#options = options;
    this.#listeners = new DirectoryListeners(options.onListenerError);
  }

  add(listener: (change: DirectoryChange) => void): () => void {
    const remove = this.#listeners.add(listener);
    if (!this.#timer) {
      this.#timer = setInterval(() => void this.look(), this.#options.intervalMs);
      this.#timer.unref();
      void this.look();
    }
    return () => {
      remove();
      if (this.#listeners.size === 0) this.stop();
    };
  }

  /** Tells of all that was changed before this call; resolves once the listeners have been called. */
  look(): Promise<void> {
    if (!this.#timer) return Promise.resolve();
    this.#again = true;
    this.#looking ??= this.#lookUntilCurrent();
    return this.#looking;
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
    this.#after = null;
  }

  async #lookUntilCurrent(): Promise<void> {
    try {
      while (this.#again && this.#timer) {
        this.#again = false;
        const seen = await this.#options.look(this.#after);
        if (!this.#timer) return;
        this.#after = seen.last;
        for (const change of seen.changes) this.#listeners.tell(change);
      }
    } catch {
      // The engine is away; the next look begins where this one did.
    } finally {
      // In the same step as the last check of #again: who asks from now on gets a look of its own.
      this.#looking = null;
    }
  }
}
