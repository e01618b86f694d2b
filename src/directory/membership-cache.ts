/** Remembers for a while who is a member of what and who is not, and never longer than until that changes. */

import { BoundedMap } from "../ground/bounded-map.ts";

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

export interface MembershipCache {
  /**
   * Finds those of the conversations that the user is a member of, by what is remembered and what `find` says of the others, asked
   * for all of them at once; callers that ask for the same at the same time share one `find`.
   */
  lookUp(question: MembershipQuestion, find: (conversationIds: string[]) => Promise<Set<string>>): Promise<Set<string>>;
  /** Forgets an answer that has changed, and does not remember one that is on its way. */
  forget(key: MembershipKey): void;
  forgetAll(): void;
}

/** A conversation's id holds no space, so that the joined key stands for one pair only. */
const keyOf = ({ conversationId, userId }: MembershipKey) => `${conversationId} ${userId}`;

export function createMembershipCache({ ttlMs, sizeMax, now }: MembershipCacheOptions): MembershipCache {
  const answers = new BoundedMap<string, { member: boolean; until: number }>(ttlMs === 0 ? 0 : sizeMax);
  /** Searches under way; one that is no longer in here began before a change and may not be remembered. */
  const searches = new Map<string, Promise<Set<string>>>();

  function remember(key: string, member: boolean): void {
    answers.set(key, { member, until: now() + ttlMs });
  }

  async function search(
    userId: string,
    conversationIds: string[],
    find: (conversationIds: string[]) => Promise<Set<string>>,
  ): Promise<Set<string>> {
    const keys = conversationIds.map((conversationId) => ({ conversationId, key: keyOf({ conversationId, userId }) }));
    const found = find(conversationIds);
    for (const { key } of keys) {
      answers.delete(key);
      searches.set(key, found);
    }
    const own = () => keys.filter(({ key }) => searches.get(key) === found);
    try {
      const members = await found;
      for (const { conversationId, key } of own()) remember(key, members.has(conversationId));
      return members;
    } finally {
      for (const { key } of own()) searches.delete(key);
    }
  }

  return {
    async lookUp({ userId, conversationIds }, find) {
      const members = new Set<string>();
      const unknown: string[] = [];
      const pending: { conversationId: string; found: Promise<Set<string>> }[] = [];
      for (const conversationId of conversationIds) {
        const key = keyOf({ conversationId, userId });
        const answer = answers.get(key);
        const underWay = searches.get(key);
        if (answer !== undefined && answer.until > now()) {
          if (answer.member) members.add(conversationId);
        } else if (underWay !== undefined) pending.push({ conversationId, found: underWay });
        else unknown.push(conversationId);
      }
      if (unknown.length > 0) {
        const found = search(userId, unknown, find);
        for (const conversationId of unknown) pending.push({ conversationId, found });
      }
      const found = await Promise.all(pending.map(async (it) => (await it.found).has(it.conversationId)));
      for (const [index, { conversationId }] of pending.entries()) if (found[index]) members.add(conversationId);
      return members;
    },
    forget(pair) {
      const key = keyOf(pair);
      answers.delete(key);
      searches.delete(key);
    },
    forgetAll() {
      answers.clear();
      searches.clear();
    },
  };
}
