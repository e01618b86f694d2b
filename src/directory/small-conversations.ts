/** Remembers for a while which conversations have few members, so that others are told of receipts in them [REC3]. */
import type { AtOnce } from "../ground/at-once.ts";
import { BoundedMap } from "../ground/bounded-map.ts";
import { pages } from "../ground/pages.ts";
import type { Directory } from "../storage/directory-store.ts";
import { namesPerQuestion } from "../storage/ports.ts";

export interface SmallConversationsOptions {
  directory: Pick<Directory, "memberCounts">;
  /** Members that a small one has at most. */
  membersMax: number;
  /** Milliseconds an answer is good for; 0: nothing is remembered. */
  ttlMs: number;
  /** Answers that are remembered at most; the oldest goes first. */
  sizeMax: number;
  now: () => number;
}

export class SmallConversations {
  readonly #answers: BoundedMap<string, { isSmall: boolean; until: number }>;
  /** Counts under way; one that is no longer in here began before a change and may not be remembered. */
  readonly #counting = new Map<string, symbol>();

  constructor(private readonly options: SmallConversationsOptions) {
    const { ttlMs, sizeMax } = options;
    this.#answers = new BoundedMap(ttlMs === 0 ? 0 : sizeMax);
  }

  /** Finds those of the conversations that are small. */
  among(conversationIds: string[]): AtOnce<Set<string>> {
    const small = new Set<string>();
    if (this.options.membersMax === 0) return small;
    const unknown: string[] = [];
    for (const conversationId of conversationIds) {
      const answer = this.#answers.get(conversationId);
      if (answer === undefined || answer.until <= this.options.now()) unknown.push(conversationId);
      else if (answer.isSmall) small.add(conversationId);
    }
    return unknown.length === 0 ? small : this.#addSmall(unknown, small);
  }

  async #addSmall(unknown: string[], small: Set<string>): Promise<Set<string>> {
    for (const page of pages(unknown, namesPerQuestion)) {
      for (const conversationId of await this.#count(page)) small.add(conversationId);
    }
    return small;
  }

  /** Forgets an answer that may have changed; one that is on its way is not remembered. */
  forget(conversationId: string): void {
    this.#answers.delete(conversationId);
    this.#counting.delete(conversationId);
  }

  forgetAll(): void {
    this.#answers.clear();
    this.#counting.clear();
  }

  async #count(conversationIds: string[]): Promise<string[]> {
    const { directory, membersMax, now, ttlMs } = this.options;
    const turn = Symbol("count");
    for (const conversationId of conversationIds) this.#counting.set(conversationId, turn);
    const own = () => conversationIds.filter((conversationId) => this.#counting.get(conversationId) === turn);
    try {
      const counts = await directory.memberCounts(conversationIds, membersMax + 1);
      const isSmall = (conversationId: string) => (counts.get(conversationId) ?? 0) <= membersMax;
      const until = now() + ttlMs;
      for (const conversationId of own())
        this.#answers.set(conversationId, { isSmall: isSmall(conversationId), until });
      return conversationIds.filter(isSmall);
    } finally {
      for (const conversationId of own()) this.#counting.delete(conversationId);
    }
  }
}
