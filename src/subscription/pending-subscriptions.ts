/** Holds the subscriptions that are under way, and which topics and rights their connections have lost meanwhile. */

import type { Topic } from "../protocol/topic.ts";
import type { Subscriber } from "./subscriber.ts";

/** One of them: what is taken back while it is under way is not subscribed at its end. */
export class PendingSubscription {
  /** Topics that were left meanwhile; they do not go live. */
  readonly revoked = new Set<string>();
  /** Characters of the payloads that were replayed for it. */
  replayed = 0;
  /** Users who have left a conversation since the directory was asked; `everyone`: nobody knows who; null: none. */
  #rightsLostBy: Set<string> | "everyone" | null = null;

  constructor(
    readonly subscriber: Subscriber,
    /** Came without a request: what the connection follows has grown. */
    readonly unasked: boolean,
  ) {}

  /** @param userId null: whoever it was */
  noteRightsLost(userId: string | null): void {
    if (userId === null) this.#rightsLostBy = "everyone";
    else if (this.#rightsLostBy === null) this.#rightsLostBy = new Set([userId]);
    else if (this.#rightsLostBy !== "everyone") this.#rightsLostBy.add(userId);
  }

  /** Whether anybody has lost rights since the directory was asked. */
  get mayHaveLostRights(): boolean {
    return this.#rightsLostBy !== null;
  }

  /** Whether the rights to the topics may be others now than they were when this was asked last. */
  takeRightsLost(topics: Topic[]): boolean {
    const losers = this.#rightsLostBy;
    if (losers === null) return false;
    const users = [this.subscriber.userId, ...topics.flatMap(({ kind, key }) => (kind === "presence" ? [key] : []))];
    if (losers !== "everyone" && !users.some((it) => losers.has(it))) return false;
    this.#rightsLostBy = null;
    return true;
  }
}

export class PendingSubscriptions {
  readonly #all = new Set<PendingSubscription>();

  get size(): number {
    return this.#all.size;
  }

  add(pending: PendingSubscription): void {
    this.#all.add(pending);
  }

  delete(pending: PendingSubscription): void {
    this.#all.delete(pending);
  }

  /** Somebody has left a conversation: an answer that was given before may have given rights that are lost. */
  noteRightsLost(userId: string | null): void {
    for (const pending of this.#all) pending.noteRightsLost(userId);
  }

  /** The connection has left topics: they do not go live on it. */
  noteLeft(subscriber: Subscriber, topics: Topic[]): void {
    for (const pending of this.#all) {
      if (pending.subscriber === subscriber) for (const { name } of topics) pending.revoked.add(name);
    }
  }
}
