/** A device's place in the log, kept as the contract tells clients to: one cursor, and what was seen after it [LOG4]. */
import type { Received } from "../client.ts";

export interface Since {
  cursor: number;
  seen: Record<string, number>;
}

export class Place {
  /** Null: never was live; the next subscription starts at the head. */
  #cursor: number | null = null;
  readonly #seen = new Map<string, { seq: number; position: number }>();

  get cursor(): number | null {
    return this.#cursor;
  }

  /** For `subscribe`; undefined: from the head. */
  since(): Since | undefined {
    if (this.#cursor === null) return undefined;
    return { cursor: this.#cursor, seen: Object.fromEntries([...this.#seen].map(([topic, { seq }]) => [topic, seq])) };
  }

  /** @returns whether the event is news: at or below what was seen it is what an overlap brought again */
  noteEvent({ topic, seq, position }: Received): boolean {
    const known = this.#seen.get(topic!);
    if (known !== undefined && seq! <= known.seq) return false;
    this.#seen.set(topic!, { seq: seq!, position: position! });
    return true;
  }

  /** The log went back: what was seen there is worth nothing [LOG4]. */
  beginAnew(cursor: number): void {
    this.#seen.clear();
    this.#cursor = cursor;
  }

  /** Only once the connection is live on all its topics: a cursor speaks for those it has at that moment. */
  noteCursor(cursor: number): void {
    this.#cursor = cursor;
    for (const [topic, { position }] of this.#seen) if (position <= cursor) this.#seen.delete(topic);
  }
}
