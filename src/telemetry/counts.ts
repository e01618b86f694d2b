/** Counts what happens as plain numbers: a part adds one, and whoever wants to know reads. */
import { invariants } from "../ground/assert.ts";

/** How often something happened, by what it was; the keys are of a closed set. */
export type Tally = Record<string, number>;

export function countOne(tally: Tally, key: string): void {
  tally[key] = (tally[key] ?? 0) + 1;
}

/** One transaction of the log. */
export interface AppendedBatch {
  events: number;
  durationMs: number;
}

export class Counts {
  /** Requests that were well-formed, by type. */
  readonly messagesIn: Tally = {};
  /** `error` replies, by code. */
  readonly errors: Tally = {};
  /** Events that this node has published for all nodes, `logged` and `ephemeral`. */
  readonly published: Tally = { logged: 0, ephemeral: 0 };
  /** Connections that ended, by close code, `other` for what is in no table. */
  readonly closes: Tally = {};
  /** Of these, the ones that were too slow for what they were sent [CON7]. */
  backpressureCloses = 0;
  /** Broken invariants, by name; all of them from the start, so that the first one is seen to come. */
  readonly broken: Tally = Object.fromEntries(Object.keys(invariants).map((name) => [name, 0]));
  /** Batches that the log refused. */
  appendFailures = 0;
  #onAppended: ((batch: AppendedBatch) => void) | null = null;

  appended(batch: AppendedBatch): void {
    this.#onAppended?.(batch);
  }

  /** There is one listener: the metrics, where they are on. */
  onAppended(listener: (batch: AppendedBatch) => void): void {
    this.#onAppended = listener;
  }
}
