/** Remembers for a while who is a member of what and who is not, and never longer than until that changes. */

export interface MembershipKey {
  conversationId: string;
  userId: string;
}

export interface MembershipCacheOptions {
  /** Milliseconds an answer is good for; 0: nothing is remembered. */
  ttlMs: number;
  /** Answers that are remembered at most; the oldest goes first. */
  sizeMax: number;
  now: () => number;
}

export interface MembershipCache {
  /** The remembered answer, or that of `find`; callers that ask at the same time share one `find`. */
  lookUp(key: MembershipKey, find: () => Promise<boolean>): Promise<boolean>;
  /** The answer has changed: it is forgotten, and one that is on its way is not remembered. */
  forget(key: MembershipKey): void;
  forgetAll(): void;
}

/** A conversation's id holds no space, so that the joined key stands for one pair only. */
const keyOf = ({ conversationId, userId }: MembershipKey) => `${conversationId} ${userId}`;

export function createMembershipCache({ ttlMs, sizeMax, now }: MembershipCacheOptions): MembershipCache {
  const answers = new Map<string, { member: boolean; until: number }>();
  /** Searches under way; one that is no longer in here began before a change and may not be remembered. */
  const searches = new Map<string, Promise<boolean>>();

  function remember(key: string, member: boolean): void {
    if (ttlMs === 0 || sizeMax === 0) return;
    answers.delete(key);
    if (answers.size >= sizeMax) {
      for (const oldest of answers.keys()) {
        answers.delete(oldest);
        break;
      }
    }
    answers.set(key, { member, until: now() + ttlMs });
  }

  return {
    async lookUp(pair, find) {
      const key = keyOf(pair);
      const answer = answers.get(key);
      if (answer !== undefined && answer.until > now()) return answer.member;
      answers.delete(key);
      const underWay = searches.get(key);
      if (underWay !== undefined) return underWay;

      const search = find();
      searches.set(key, search);
      try {
        const member = await search;
        if (searches.get(key) === search) remember(key, member);
        return member;
      } finally {
        if (searches.get(key) === search) searches.delete(key);
      }
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
