/** The newest events that this node knows to be committed: one that the log does not have any more was lost [LOG4]. */
import type { LoggedEvent } from "./ports.ts";

export type Witness = Pick<LoggedEvent, "topic" | "seq" | "position" | "id">;

/** So many are kept; what was lost is the end of the log, which they are of. */
const keptMax = 64;

export class Witnesses {
  #kept: Witness[] = [];

  /** Takes an event that was appended, read or heard of. */
  add({ topic, seq, position, id }: Witness): void {
    this.#kept.push({ topic, seq, position, id });
    if (this.#kept.length >= 2 * keptMax) this.#kept = this.#kept.slice(-keptMax);
  }

  /** The newest last. */
  get all(): readonly Witness[] {
    return this.#kept.slice(-keptMax);
  }

  get newest(): Witness | undefined {
    return this.#kept.at(-1);
  }

  /** The log is known not to have some of them. */
  forget(): void {
    this.#kept = [];
  }
}
