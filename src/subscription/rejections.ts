/** Collects what of a `subscribe` is refused, each name once, and as much of it as an answer tells [SUB1]. */
import type { ServerPayload } from "../protocol/server.ts";

type Rejected = ServerPayload<"subscribed">["rejected"][number];
export type RejectionCode = Rejected["code"];

/** Entries of one answer: a mistake of the client's own must not make it large. */
const toldMax = 100;

export class Rejections {
  /** Null: nothing is, as mostly. */
  #byName: Map<string, Rejected> | null = null;

  add(code: RejectionCode, names: Iterable<string>): void {
    for (const topic of names) if (!this.#byName?.has(topic)) this.#note(topic, { topic, code });
  }

  get size(): number {
    return this.#byName?.size ?? 0;
  }

  /** Conversations whose members are not watched. */
  addUnwatched(conversationIds: Iterable<string>): void {
    for (const conversation_id of conversationIds) {
      const key = `presence ${conversation_id}`;
      this.#note(key, { topic: "presence", code: "limit_exceeded", conversation_id });
    }
  }

  toPayload(): { rejected: Rejected[]; rejected_count: number } {
    const rejected = this.#byName === null ? [] : [...this.#byName.values().take(toldMax)];
    return { rejected, rejected_count: this.size };
  }

  #note(key: string, rejected: Rejected): void {
    this.#byName ??= new Map();
    this.#byName.set(key, rejected);
  }
}
