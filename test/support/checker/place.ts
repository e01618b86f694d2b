/** A device's place in the log, kept as the contract tells clients to: one cursor, and what was seen since it came [LOG4]. */
import type { Received } from "../client.ts";

export interface Since {
  cursor: string;
  seen: Record<string, number>;
}

export class Place {
  /** Null: never was live; the next subscription starts at the head. */
  #cursor: string | null = null;
  /** The last `seq` of each topic. */
  readonly #had = new Map<string, number>();
  /** Topics that had events since the cursor came. */
  readonly #moved = new Set<string>();

  get cursor(): string | null {
    return this.#cursor;
  }

  /** For `subscribe`; undefined: from the head. */
  since(): Since | undefined {
    if (this.#cursor === null) return undefined;
    return { cursor: this.#cursor, seen: Object.fromEntries([...this.#moved].map((it) => [it, this.#had.get(it)!])) };
  }

  /** @returns whether the event is news: at or below what was seen it is what an overlap brought again */
  noteEvent({ topic, seq }: Received): boolean {
    if (seq! <= (this.#had.get(topic!) ?? 0)) return false;
    this.#had.set(topic!, seq!);
    this.#moved.add(topic!);
    return true;
  }

  /** The log went back: what was seen there is worth nothing [LOG4]. */
  beginAnew(cursor: string): void {
    this.#had.clear();
    this.noteCursor(cursor);
  }

  /** Only once the connection is live on all its topics: a cursor speaks for those it has at that moment. */
  noteCursor(cursor: string): void {
    this.#cursor = cursor;
    this.#moved.clear();
  }
}
