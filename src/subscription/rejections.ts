/** Collects what of a `subscribe` is refused, each name once, and as much of it as an answer tells [SUB1]. */
import type { ServerPayload } from "../protocol/server.ts";

type Rejected = ServerPayload<"subscribed">["rejected"][number];
export type RejectionCode = Rejected["code"];

/** Entries of one answer: a mistake of the client's own must not make it large. */
const toldMax = 100;

export class Rejections {
  readonly #byName = new Map<string, Rejected>();

  add(code: RejectionCode, names: Iterable<string>): void {
    for (const topic of names) if (!this.#byName.has(topic)) this.#byName.set(topic, { topic, code });
  }

  /** Conversations whose members are not watched. */
  addUnwatched(conversationIds: Iterable<string>): void {
    for (const conversation_id of conversationIds) {
      const key = `presence ${conversation_id}`;
      this.#byName.set(key, { topic: "presence", code: "limit_exceeded", conversation_id });
    }
  }

  toPayload(): { rejected: Rejected[]; rejected_count: number } {
    return { rejected: [...this.#byName.values().take(toldMax)], rejected_count: this.#byName.size };
  }
}
