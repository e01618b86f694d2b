/** Counts what happens as plain numbers: a part adds one, and whoever wants to know reads. */
import { invariants } from "../ground/assert.ts";

/** How often something happened, by what it was; the keys are of a closed set. */
export type Tally = Record<string, number>;

export function countOne(tally: Tally, key: string): void {
  tally[key] = (tally[key] ?? 0) + 1;
}

/** Notes how long something took: how often, for how long in all, and the longest since somebody took it last. */
export class Timing {
  /** Told each, where somebody wants to know more than the sum. */
  onNoted: ((ms: number) => void) | null = null;
  times = 0;
  totalMs = 0;
  #worstMs = 0;

  note(ms: number): void {
    this.times++;
    this.totalMs += ms;
    if (ms > this.#worstMs) this.#worstMs = ms;
    this.onNoted?.(ms);
  }

  takeWorstMs(): number {
    const worstMs = this.#worstMs;
    this.#worstMs = 0;
    return worstMs;
  }
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
  /** Messages written to sockets; what is published counts once for each that hears it. */
  messagesOut = 0;
  /** Their bytes, before they are compressed. */
  bytesOut = 0;
  /** Told of each request by its type, from when it was read until it was answered; null: nobody looks at the clock for it. */
  onAnswered: ((type: string, ms: number) => void) | null = null;
  /** Connections that were refused, by HTTP status [CON1]. */
  readonly refused: Tally = {};
  /** Batches of the log. */
  readonly appends = new Timing();
  /** How old logged events were when this node's subscribers were sent them, by this node's clock. */
  readonly deliveries = new Timing();
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
    this.appends.note(batch.durationMs);
    this.#onAppended?.(batch);
  }

  /** There is one listener: the metrics, where they are on. */
  onAppended(listener: (batch: AppendedBatch) => void): void {
    this.#onAppended = listener;
  }
}
