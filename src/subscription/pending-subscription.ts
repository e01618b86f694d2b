/** Holds a subscription while it is pending: which of its rights are lost meanwhile. */

import type { Topic } from "../protocol/topic.ts";
import type { Subscriber } from "./subscriber.ts";

export class PendingSubscription {
  /** Topics that were left meanwhile; they do not go live. */
  readonly revoked = new Set<string>();
  /** Users who have left a conversation since the directory was asked; `everyone`: nobody knows who. */
  #lost: Set<string> | "everyone" = new Set();

  constructor(
    readonly subscriber: Subscriber,
    /** Came without a request: what the connection follows has grown. */
    readonly unasked: boolean,
  ) {}

  /** @param userId null: whoever it was */
  noteLoss(userId: string | null): void {
    if (userId === null) this.#lost = "everyone";
    else if (this.#lost !== "everyone") this.#lost.add(userId);
  }

  /** Whether the rights to the topics may be others now than they were when this was asked last. */
  takeLoss(topics: Topic[]): boolean {
    const lost = this.#lost;
    const users = [this.subscriber.userId, ...topics.flatMap(({ kind, key }) => (kind === "presence" ? [key] : []))];
    if (lost !== "everyone" && !users.some((it) => lost.has(it))) return false;
    this.#lost = new Set();
    return true;
  }
}
