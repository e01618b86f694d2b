/** Keeps events that came in above a gap of their topic until what is missing has been published [LOG3]. */
import type { LoggedEvent } from "../storage/ports.ts";
import type { Audience } from "./broadcaster.ts";
import { deletedBy, hasTextOf } from "./deletions.ts";

interface WaitingEvent {
  /** Null: its text is deleted by what waits, and the log is read for it as it is now [MSG2]. */
  event: LoggedEvent | null;
  /** Left out of it [SUB6]. */
  audience: Audience;
}

/** Events that are kept per topic; more are read from the log. */
const perTopicMax = 1_000;

export class WaitingEvents {
  readonly #topics = new Map<string, Map<number, WaitingEvent>>();
  /** Of each topic the messages that something which waits deletes, by its `seq`. */
  readonly #deletions = new Map<string, Map<number, string>>();

  /** @returns whether it is the first of its topic */
  add(event: LoggedEvent, audience: Audience): boolean {
    const topic = this.#topics.get(event.topic) ?? new Map<number, WaitingEvent>();
    const isFirst = topic.size === 0;
    if (topic.size < perTopicMax) topic.set(event.seq, { event: this.isDeleted(event) ? null : event, audience });
    this.#topics.set(event.topic, topic);
    const messageId = deletedBy(event);
    if (messageId !== null) this.#noteDeletion(event, messageId);
    return isFirst;
  }

  #noteDeletion({ topic, seq }: LoggedEvent, messageId: string): void {
    const deletions = this.#deletions.get(topic) ?? new Map<number, string>();
    this.#deletions.set(topic, deletions.set(seq, messageId));
    for (const waiting of this.#topics.get(topic)!.values())
      if (waiting.event !== null && hasTextOf(messageId, waiting.event)) waiting.event = null;
  }

  /** Whether what waits deletes the text of an event, which the log does not have any more. */
  isDeleted(event: LoggedEvent): boolean {
    const deletions = this.#deletions.get(event.topic);
    return deletions !== undefined && [...deletions.values()].some((messageId) => hasTextOf(messageId, event));
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
    const deletions = this.#deletions.get(topic);
    for (const seq of deletions?.keys() ?? []) if (seq <= throughSeq) deletions!.delete(seq);
    if (deletions?.size === 0) this.#deletions.delete(topic);
  }

  delete(topic: string): void {
    this.#topics.delete(topic);
    this.#deletions.delete(topic);
  }

  clear(): void {
    this.#topics.clear();
    this.#deletions.clear();
  }

  /** Topics with a gap. */
  get size(): number {
    return this.#topics.size;
  }
}
