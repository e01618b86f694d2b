/** Keeps the newest events of topics that somebody is catching up on, so that nobody has to meet a quiet moment [LOG5]. */
import type { LoggedEvent } from "../storage/ports.ts";
import { hasTextOf } from "./deletions.ts";

/** Events of a topic, and characters of their payloads, that are given out of memory; more are read from the log. */
const eventsMax = 256;
const charactersMax = 256 * 1024;

export class Tails {
  /** Topics that somebody is catching up on, and how many are. */
  readonly #holders = new Map<string, number>();
  readonly #events = new Map<string, LoggedEvent[]>();

  hold(topic: string): void {
    this.#holders.set(topic, (this.#holders.get(topic) ?? 0) + 1);
  }

  release(topic: string): void {
    const count = (this.#holders.get(topic) ?? 0) - 1;
    if (count > 0) return void this.#holders.set(topic, count);
    this.#holders.delete(topic);
    this.#events.delete(topic);
  }

  isHeld(topic: string): boolean {
    return this.#holders.has(topic);
  }

  /** Keeps what is published of a held topic; events of a topic come in the order of their numbers. */
  add(event: LoggedEvent): void {
    if (!this.#holders.has(event.topic)) return;
    const tail = this.#events.get(event.topic) ?? [];
    tail.push(event);
    if (tail.length > eventsMax) tail.shift();
    this.#events.set(event.topic, tail);
  }

  /** Drops what a message has said: who needs it reads the log, where it is deleted. */
  forget(topic: string, messageId: string): void {
    const tail = this.#events.get(topic);
    if (tail !== undefined)
      this.#events.set(
        topic,
        tail.filter((event) => !hasTextOf(messageId, event)),
      );
  }

  /** All events with `afterSeq` < seq ≤ `throughSeq`; null where not all of them are kept, or they are much. */
  between(topic: string, { afterSeq, throughSeq }: { afterSeq: number; throughSeq: number }): LoggedEvent[] | null {
    const events = (this.#events.get(topic) ?? []).filter(({ seq }) => seq > afterSeq && seq <= throughSeq);
    const characters = events.reduce((sum, { payload }) => sum + payload.length, 0);
    return events.length === throughSeq - afterSeq && characters <= charactersMax ? events : null;
  }

  /** Drops what is kept; who catches up still does. */
  clear(): void {
    this.#events.clear();
  }
}
