/** Keeps what connections follow without naming topics, and which of them follow presence [SUB3]. */

import type { Scope } from "./scope.ts";
import { followsOf, type Subscriber } from "./subscriber.ts";

type ScopeFollowed = Pick<Scope, "all" | "presenceOf">;

export class Following {
  readonly #presenceFollowers = new Set<Subscriber>();

  /** Connections that follow presence without naming users. */
  get presenceFollowers(): Iterable<Subscriber> {
    return this.#presenceFollowers;
  }

  add(subscriber: Subscriber, { all, presenceOf }: ScopeFollowed): void {
    if (all.size === 0 && presenceOf.length === 0) return;
    const follows = followsOf(subscriber);
    follows.conversations ||= all.has("conversation");
    follows.typing ||= all.has("typing");
    follows.presence ||= all.has("presence");
    for (const conversationId of presenceOf) follows.presenceOf.add(conversationId);
    const followsPresence = follows.presence || follows.presenceOf.size > 0;
    if (followsPresence && !subscriber.isClosed) this.#presenceFollowers.add(subscriber);
  }

  remove({ follows }: Subscriber, { all, presenceOf }: ScopeFollowed): void {
    if (follows === null) return;
    if (all.has("conversation")) follows.conversations = false;
    if (all.has("typing")) follows.typing = false;
    if (all.has("presence")) follows.presence = false;
    for (const conversationId of presenceOf) follows.presenceOf.delete(conversationId);
  }

  /** The connection has closed. */
  forget(subscriber: Subscriber): void {
    this.#presenceFollowers.delete(subscriber);
  }
}
