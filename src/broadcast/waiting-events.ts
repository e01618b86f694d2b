/** Keeps events that came in above a gap of their topic until what is missing has been published [LOG3]. */
import type { LoggedEvent } from "../storage/ports.ts";
import type { Audience } from "./broadcaster.ts";

interface WaitingEvent {
  event: LoggedEvent;
  /** Left out of it [SUB6]. */
  audience: Audience;
}

/** Events that are kept per topic; more are read from the log. */
const perTopicMax = 1_000;

export class WaitingEvents {
  readonly #topics = new Map<string, Map<number, WaitingEvent>>();

  /** @returns whether it is the first of its topic */
  add(event: LoggedEvent, audience: Audience): boolean {
    const topic = this.#topics.get(event.topic) ?? new Map<number, WaitingEvent>();
    const isFirst = topic.size === 0;
    if (topic.size < perTopicMax) topic.set(event.seq, { event, audience });
    this.#topics.set(event.topic, topic);
    return isFirst;
  }

  get(topic: string, seq: number): WaitingEvent | undefined {
    return this.#topics.get(topic)?.get(seq);
  }

  /** The highest `seq` that waits; null where none does. */
  highest(topic: string): number | null {
    const waiting = this.#topics.get(topic);
    return waiting === undefined ? null : Math.max(...waiting.keys());
  }

  /** Drops what is at or below it: that has been published. */
  dropThrough(topic: string, throughSeq: number): void {
    const waiting = this.#topics.get(topic);
    for (const seq of waiting?.keys() ?? []) if (seq <= throughSeq) waiting!.delete(seq);
    if (waiting?.size === 0) this.#topics.delete(topic);
  }

  delete(topic: string): void {
    this.#topics.delete(topic);
  }

  clear(): void {
    this.#topics.clear();
  }

  /** Topics with a gap. */
  get size(): number {
    return this.#topics.size;
  }
}
