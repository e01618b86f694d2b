/** Has the file cleaned of what was deleted in it, soon and a little at a time, so that everything else goes on in between [MSG2]. */
import type { Timers } from "../../ground/timers.ts";
import type { NewEvent } from "../ports.ts";

export interface CleaningOptions {
  /** How much was deleted since the file was cleaned; null: nothing. */
  owed(): Promise<number | null>;
  /** Cleans a part. @returns where to go on, or the same place where it could not be; null: that was the end */
  clean(from: number): Promise<number | null>;
  done(deletions: number): Promise<void>;
  timers: Timers;
}

/** Gathers what is deleted within so long, ms. */
const gatherMs = 1_000;
const pauseMs = 50;
/** So long (ms) is waited for a reader, or a program that writes. */
const busyMs = 250;
/** A large file takes longer: then it is left alone for so many times as long. */
const restTimes = 10;

type State = "stopped" | "idle" | "waiting" | "cleaning";

export class Cleaning {
  #state: State = "stopped";
  #isOwed = false;
  #callOff = () => {};

  constructor(private readonly options: CleaningOptions) {}

  /** Goes on with what is owed since before. */
  start(): void {
    this.#state = "idle";
    this.note();
  }

  stop(): void {
    this.#state = "stopped";
    this.#callOff();
  }

  /** Looks whether events that are appended take something back, and cleans after that. */
  async after<Result>(appending: Promise<Result>, events: NewEvent[]): Promise<Result> {
    const result = await appending;
    if (events.some(({ amendment }) => amendment?.kind === "edit" || amendment?.kind === "delete")) this.note();
    return result;
  }

  /** Takes that something was taken back. */
  note(): void {
    if (this.#state === "cleaning") this.#isOwed = true;
    if (this.#state === "idle") this.#begin(gatherMs);
  }

  #begin(delayMs: number): void {
    this.#state = "waiting";
    this.#isOwed = false;
    this.#callOff = this.options.timers.after(delayMs, () => void this.#clean());
  }

  async #clean(): Promise<void> {
    this.#state = "cleaning";
    const startedAt = performance.now();
    // Where the file refuses, what is owed stays noted in it; the next deletion or start comes back to it.
    await this.#cleanAll().catch(() => {});
    if (!this.#isCleaning) return;
    this.#state = "idle";
    if (this.#isOwed) this.#begin(Math.max(gatherMs, restTimes * (performance.now() - startedAt)));
  }

  get #isCleaning(): boolean {
    return this.#state === "cleaning";
  }

  async #cleanAll(): Promise<void> {
    const { owed, clean, done } = this.options;
    const deletions = await owed();
    if (deletions === null) return;
    for (let from: number | null = 0; from !== null; ) {
      const next: number | null = await clean(from);
      if (!this.#isCleaning) return;
      if (next !== null) await this.#pause(next === from ? busyMs : pauseMs);
      if (!this.#isCleaning) return;
      from = next;
    }
    await done(deletions);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const callOff = this.options.timers.after(ms, resolve);
      this.#callOff = () => {
        callOff();
        resolve();
      };
    });
  }
}
