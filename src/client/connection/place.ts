/** Keeps the place in the log: the cursor, what was had of each topic, and what this device has sent itself [LOG4]. */
import type { ServerPayloads } from "../wire.ts";
import type { From } from "./line.ts";

/** Says what is kept of it on the device. */
export interface KeptPlace {
  cursor: string | null;
  /** Of topics that moved lately the last `seq` that was had. */
  seen: Record<string, number>;
  /** `seq`s of this device's own sends that are above. */
  own: Record<string, number[]>;
}

interface Numbered {
  topic?: string | undefined;
  seq?: number | undefined;
}

/** A cursor is behind what was sent just before it; what is younger than that is remembered beside the next one as well. */
const lateMs = 60_000;
/** Topics that are remembered so at most, the newest ones. */
const recentMost = 1_000;
/** Characters of `seen`: a subscribe has room for 64 KiB, names and all. */
const seenCharactersMost = 16_000;

export class Place {
  /** Every event up to here, on all topics that are followed, has been taken. */
  cursor: string | null = null;
  /** It is none to go on from yet: not all is back that comes after what was acknowledged. */
  isFromAcked = false;
  readonly #now: () => number;
  readonly #onCursor: () => void;
  readonly #had = new Map<string, number>();
  /** When topics last moved, the one that did so last at the end. */
  readonly #moved = new Map<string, number>();
  /** When each was sent. */
  readonly #own = new Map<string, Map<number, number>>();
  #cursorAt = 0;
  #movedAt = -1;

  constructor(now: () => number, onCursor: () => void) {
    this.#now = now;
    this.#onCursor = onCursor;
  }

  /** Whether something came since the cursor was taken. */
  get hasMoved(): boolean {
    return this.#movedAt >= this.#cursorAt;
  }

  /** @returns the last `seq` that is had of a topic */
  had(topic: string): number | undefined {
    return this.#had.get(topic);
  }

  /** Takes an event, logged or not. @returns false where it was had, or is this device's own */
  take({ topic, seq }: Numbered): boolean {
    if (topic === undefined || seq === undefined) return true;
    if (seq <= (this.#had.get(topic) ?? 0)) return false;
    const isOwn = this.#own.get(topic)?.has(seq) === true;
    this.#raise(topic, seq);
    return !isOwn;
  }

  /** Notes what this device has sent: it does not come on this line, but is replayed on the next one [SUB6]. A duplicate has made nothing. */
  noteSent({ published = [], ...ack }: ServerPayloads["ack"]): void {
    for (const sent of [ack, ...published]) if (!sent.duplicate) this.#noteOwn(sent);
  }

  #noteOwn({ topic, seq }: Numbered): void {
    if (topic === undefined || seq === undefined || seq <= (this.#had.get(topic) ?? -1)) return;
    const own = this.#own.get(topic) ?? new Map<number, number>();
    this.#own.set(topic, own.set(seq, this.#now()));
    this.#fold(topic);
  }

  /** A topic is live from there on. */
  begin(topic: string, seq = -1): void {
    if (seq > (this.#had.get(topic) ?? -1)) this.#had.set(topic, seq);
    this.#fold(topic);
  }

  /** Nothing that was had of the topic counts any more. */
  forget(topic: string): void {
    this.#had.delete(topic);
    this.#moved.delete(topic);
    this.#own.delete(topic);
  }

  forgetAll(): void {
    this.#had.clear();
    this.#moved.clear();
    this.#own.clear();
  }

  forgetOthers(topics: { has(topic: string): boolean }): void {
    for (const topic of [...this.#had.keys(), ...this.#own.keys()]) if (!topics.has(topic)) this.forget(topic);
  }

  /** Knows of nothing any more, and goes on from what was acknowledged [LOG6]. */
  goBackToAcked(): void {
    this.forgetAll();
    // All that was told up to it is to be told once more: no line may go on behind it.
    this.cursor = null;
    this.isFromAcked = true;
  }

  moveCursor(cursor: string): void {
    const now = this.#now();
    this.cursor = cursor;
    this.isFromAcked = false;
    this.#cursorAt = now;
    for (const [topic, movedAt] of this.#moved) {
      if (movedAt >= now - lateMs && this.#moved.size <= recentMost) break;
      this.#moved.delete(topic);
    }
    for (const [topic, own] of this.#own) {
      for (const [seq, sentAt] of own) if (sentAt < now - lateMs) own.delete(seq);
      if (own.size === 0) this.#own.delete(topic);
    }
    this.#onCursor();
  }

  /** Where to go on; undefined: at the head. */
  since(): From | undefined {
    const { cursor } = this;
    if (this.isFromAcked) return "acked";
    if (cursor === null) return undefined;
    const seen: Record<string, number> = {};
    let room = seenCharactersMost;
    // The newest ones first: what is left out comes again, and is known.
    for (const topic of [...this.#moved.keys()].reverse()) {
      room -= topic.length + 20;
      if (room < 0) break;
      seen[topic] = this.#had.get(topic)!;
    }
    return { cursor, seen };
  }

  toKeep(): KeptPlace {
    const seen = Object.fromEntries([...this.#moved.keys()].map((topic) => [topic, this.#had.get(topic)!]));
    const own = Object.fromEntries([...this.#own].map(([topic, seqs]) => [topic, [...seqs.keys()]]));
    return { cursor: this.cursor, seen, own };
  }

  restore({ cursor, seen, own }: KeptPlace): void {
    this.forgetAll();
    this.cursor = cursor;
    this.isFromAcked = false;
    const now = this.#now();
    for (const [topic, seq] of Object.entries(seen)) {
      this.#had.set(topic, seq);
      this.#moved.set(topic, now);
    }
    for (const [topic, seqs] of Object.entries(own)) this.#own.set(topic, new Map(seqs.map((seq) => [seq, now])));
  }

  #raise(topic: string, seq: number): void {
    this.#movedAt = this.#now();
    this.#had.set(topic, seq);
    this.#moved.delete(topic);
    this.#moved.set(topic, this.#movedAt);
    this.#fold(topic);
  }

  /** Where nothing of others is between, what this device has sent is had like an event. */
  #fold(topic: string): void {
    const own = this.#own.get(topic);
    const had = this.#had.get(topic);
    if (own === undefined || had === undefined) return;
    let next = had;
    for (const seq of [...own.keys()].sort((one, other) => one - other)) {
      if (seq > next + 1) break;
      own.delete(seq);
      next = Math.max(next, seq);
    }
    if (own.size === 0) this.#own.delete(topic);
    if (next > had) this.#raise(topic, next);
  }
}
