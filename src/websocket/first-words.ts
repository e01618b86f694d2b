/** Has what connections are told as they come written in one piece: once they have settled in, before anything is published, or at the end of the turn. */
import { nextTurn } from "../ground/next-turn.ts";

/** Holds back what is written to it until it is told to go on. */
export interface Newcomer {
  speak(): void;
}

export class FirstWords {
  readonly #silent = new Set<Newcomer>();

  /** The newcomer holds back what it is told from now on. */
  hold(newcomer: Newcomer): void {
    if (this.#silent.size === 0) void nextTurn().then(() => this.speak());
    this.#silent.add(newcomer);
  }

  /** It has spoken, or is gone. */
  release(newcomer: Newcomer): void {
    this.#silent.delete(newcomer);
  }

  /** Has all of them go on: what they are told next, by whatever way, was said later. */
  speak(): void {
    for (const newcomer of this.#silent) newcomer.speak();
  }
}
