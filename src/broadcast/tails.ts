/** Keeps the newest events of topics that somebody is catching up on, so that nobody has to meet a quiet moment [LOG5]. */
import type { LoggedEvent } from "../storage/ports.ts";

/** Events of a topic, and characters of their payloads, that are given out of memory; more are read from the log. */
const eventsMax = 256;
const charactersMax = 256 * 1024;

export class Tails {
  readonly #events = new Map<string, LoggedEvent[]>();

  /** Events of a topic come in the order of their numbers. */
  add(event: LoggedEvent): void {
    const tail = this.#events.get(event.topic) ?? [];
    tail.push(event);
    if (tail.length > eventsMax) tail.shift();
    this.#events.set(event.topic, tail);
  }

  /** All events with `afterSeq` < seq ≤ `throughSeq`; null where not all of them are kept, or they are much. */
  between(topic: string, { afterSeq, throughSeq }: { afterSeq: number; throughSeq: number }): LoggedEvent[] | null {
    const events = (this.#events.get(topic) ?? []).filter(({ seq }) => seq > afterSeq && seq <= throughSeq);
    const characters = events.reduce((sum, { payload }) => sum + payload.length, 0);
    return events.length === throughSeq - afterSeq && characters <= charactersMax ? events : null;
  }

  delete(topic: string): void {
    this.#events.delete(topic);
  }

  clear(): void {
    this.#events.clear();
  }
}
