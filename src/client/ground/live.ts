/** Shows a value that changes by itself: to whoever asks, and to those who are told. */
import type { Unlisten } from "../core.ts";
import { Listeners } from "./listeners.ts";

/** A value that is kept up to date while somebody is subscribed to it. */
export interface Live<T> {
  /** How it is now. Never changed in place: the same object until something has changed. */
  readonly current: T;
  /** @param listener is told, without saying what, that `current` is another now */
  subscribe(listener: () => void): Unlisten;
}

/** Makes a value when it is asked for and something has changed, and tells of any number of changes in one turn once. */
export abstract class LiveValue<T> implements Live<T> {
  readonly #listeners = new Listeners<void>();
  #made: { value: T } | null = null;
  #isTelling = false;

  get current(): T {
    this.#made ??= { value: this.make() };
    return this.#made.value;
  }

  subscribe(listener: () => void): Unlisten {
    const end = this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.watched(true);
    return () => {
      const { size } = this.#listeners;
      end();
      if (size === 1 && this.#listeners.size === 0) this.watched(false);
    };
  }

  get isWatched(): boolean {
    return this.#listeners.size > 0;
  }

  /** Gives it as it is now. */
  protected abstract make(): T;

  /** The first has come, or the last has gone. */
  protected watched(_isWatched: boolean): void {}

  protected changed(): void {
    this.#made = null;
    if (this.#isTelling || this.#listeners.size === 0) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      this.#listeners.tell();
    });
  }
}
