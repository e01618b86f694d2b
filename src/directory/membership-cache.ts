/** Remembers for a while who is a member of what, who may write there and who is no member, and never longer than until that changes. */

import { BoundedMap } from "../ground/bounded-map.ts";
import type { Membership, Memberships } from "../storage/directory-store.ts";

export interface MembershipKey {
  conversationId: string;
  userId: string;
}

export interface MembershipQuestion {
  userId: string;
  conversationIds: string[];
}

export interface MembershipCacheOptions {
  /** Milliseconds an answer is good for; 0: nothing is remembered. */
  ttlMs: number;
  /** Answers that are remembered at most; the oldest goes first. */
  sizeMax: number;
  now: () => number;
}

/** A conversation's id holds no space, so that the joined key stands for one pair only. */
const keyOf = ({ conversationId, userId }: MembershipKey) => `${conversationId} ${userId}`;

type Find = (conversationIds: string[]) => Promise<Memberships>;

export class MembershipCache {
  /** Of whoever is no member without a membership. */
  readonly #answers: BoundedMap<string, { membership: Membership | undefined; until: number }>;
  /** Searches under way; one that is no longer in here began before a change and may not be remembered. */
  readonly #searches = new Map<string, Promise<Memberships>>();

  constructor(private readonly options: MembershipCacheOptions) {
    const { ttlMs, sizeMax } = options;
    this.#answers = new BoundedMap(ttlMs === 0 ? 0 : sizeMax);
  }

  /**
   * Finds those of the conversations that the user is a member of, by what is remembered and what `find` says of the others, asked
   * for all of them at once; callers that ask for the same at the same time share one `find`.
   */
  async lookUp({ userId, conversationIds }: MembershipQuestion, find: Find): Promise<Memberships> {
    const memberships: Memberships = new Map();
    const unknown: string[] = [];
    const pending: { conversationId: string; found: Promise<Memberships> }[] = [];
    for (const conversationId of conversationIds) {
      const answer = this.recall({ conversationId, userId });
      const underWay = this.#searches.get(keyOf({ conversationId, userId }));
      if (answer !== null) {
        if (answer.membership !== undefined) memberships.set(conversationId, answer.membership);
      } else if (underWay !== undefined) pending.push({ conversationId, found: underWay });
      else unknown.push(conversationId);
    }
    if (unknown.length > 0) {
      const found = this.#search(userId, unknown, find);
      for (const conversationId of unknown) pending.push({ conversationId, found });
    }
    if (pending.length === 0) return memberships;
    const found = await Promise.all(pending.map(async (it) => (await it.found).get(it.conversationId)));
    for (const [index, { conversationId }] of pending.entries())
      if (found[index] !== undefined) memberships.set(conversationId, found[index]);
    return memberships;
  }

  /** Finds the same by what is remembered alone; null: that is not all that is asked for. */
  remembered({ userId, conversationIds }: MembershipQuestion): Memberships | null {
    const memberships: Memberships = new Map();
    for (const conversationId of conversationIds) {
      const answer = this.recall({ conversationId, userId });
      if (answer === null) return null;
      if (answer.membership !== undefined) memberships.set(conversationId, answer.membership);
    }
    return memberships;
  }

  /** Says what is remembered of one pair, without a membership of one who is no member; null: nothing is. */
  recall(pair: MembershipKey): { membership: Membership | undefined } | null {
    const answer = this.#answers.get(keyOf(pair));
    return answer !== undefined && answer.until > this.options.now() ? answer : null;
  }

  /** Forgets an answer that has changed; one that is on its way is not remembered. */
  forget(pair: MembershipKey): void {
    const key = keyOf(pair);
    this.#answers.delete(key);
    this.#searches.delete(key);
  }

  forgetAll(): void {
    this.#answers.clear();
    this.#searches.clear();
  }

  async #search(userId: string, conversationIds: string[], find: Find): Promise<Memberships> {
    const keys = conversationIds.map((conversationId) => ({ conversationId, key: keyOf({ conversationId, userId }) }));
    const found = find(conversationIds);
    for (const { key } of keys) {
      this.#answers.delete(key);
      this.#searches.set(key, found);
    }
    const own = () => keys.filter(({ key }) => this.#searches.get(key) === found);
    try {
      const memberships = await found;
      for (const { conversationId, key } of own()) this.#remember(key, memberships.get(conversationId));
      return memberships;
    } finally {
      for (const { key } of own()) this.#searches.delete(key);
    }
  }

  #remember(key: string, membership: Membership | undefined): void {
    const { now, ttlMs } = this.options;
    this.#answers.set(key, { membership, until: now() + ttlMs });
  }
}
