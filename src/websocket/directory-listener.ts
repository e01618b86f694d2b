/** Brings this node's connections in line with the directory, and tells them of it: what it hears is a hint, upon which it asks what is so [SUB3] [AUTH4] [MEM1]. */

import type { DirectoryView } from "../directory/directory.ts";
import { pages } from "../ground/pages.ts";
import type { Timers } from "../ground/timers.ts";
import { CloseCode } from "../protocol/close.ts";
import type { Directory, DirectoryChange, Membership as DirectoryMembership } from "../storage/directory-store.ts";
import type { MemberNews } from "../subscription/member-news.ts";
import type { Membership } from "../subscription/membership.ts";
import { type Outage, type OutageLogger, warnsOnce } from "../telemetry/outage.ts";
import type { Hub } from "./hub.ts";
import { Resync } from "./resync.ts";

export interface DirectoryListenerOptions {
  view: Pick<DirectoryView, "onChange">;
  directory: Pick<Directory, "userState" | "membersAmong" | "membershipsAmong">;
  membership: Pick<Membership, "apply" | "concerns" | "muted">;
  news: Pick<MemberNews, "tell" | "mayBeMissed" | "stop">;
  hub: Pick<Hub, "userIds" | "ofUser">;
  timers: Timers;
  /** Milliseconds since 1970. */
  now: () => number;
  logger: OutageLogger;
}

type MemberHint = Extract<DirectoryChange, { conversationId: string }>;

interface Pair {
  conversationId: string;
  userId: string;
  /** Heard of it since others were last told; they are told of what is so and was heard. */
  hints: Set<MemberHint["kind"]>;
  /** When the last of that was, ms since 1970. */
  at: number;
}

/** After what failed everything is looked at again so much later, ms. */
const retryDelayMs = 1_000;
/** Users that are asked about at once where all are. */
const atOnce = 64;
/** Questions at once for what single changes are about. */
const questionsAtOnce = 8;
/** More than so many changes that wait are answered by looking at everything. */
const hintsMax = 2_000;

export class DirectoryListener {
  readonly #following: Outage;
  readonly #resync: Resync;
  /** Named to be asked about; named twice is asked once. */
  #pairs = new Map<string, Pair>();
  #users = new Set<string>();
  #isAsking = false;
  #isStopped = false;
  #unfollow: (() => void) | null = null;

  constructor(private readonly options: DirectoryListenerOptions) {
    const { timers, now, logger } = options;
    this.#following = warnsOnce(
      logger,
      "a change of the directory waits",
      "changes of the directory are followed again",
    );
    this.#resync = new Resync({ run: () => this.#follow("resync", () => this.#lookAtEverything()), timers, now });
  }

  start(): void {
    this.#unfollow = this.options.view.onChange((change) => this.#hear(change));
  }

  stop(): void {
    this.#isStopped = true;
    this.#unfollow?.();
    this.#resync.stop();
    this.options.news.stop();
  }

  /** Anybody may have sent it who can reach the database. */
  #hear(change: DirectoryChange): void {
    // Applications write many users and members at once, and most are not here.
    if (change.kind === "resync") return this.#resync.want();
    if (change.kind === "user_changed" && this.#isHere(change.userId)) this.#users.add(change.userId);
    if (change.kind !== "user_changed" && this.options.membership.concerns(change)) {
      const { kind, conversationId, userId, at = this.options.now() } = change;
      this.#note({ conversationId, userId, hints: new Set([kind]), at });
    }
    if (this.#pairs.size + this.#users.size > hintsMax) {
      this.#takeHints();
      return this.#resync.want();
    }
    void this.#askAll();
  }

  #note({ conversationId, userId, hints, at }: Pair): void {
    const key = keyOf({ conversationId, userId });
    const known = this.#pairs.get(key);
    this.#pairs.set(key, {
      conversationId,
      userId,
      hints: known === undefined ? hints : known.hints.union(hints),
      at: Math.max(known?.at ?? at, at),
    });
  }

  #takeHints(): { pairs: Pair[]; users: string[] } {
    const taken = { pairs: [...this.#pairs.values()], users: [...this.#users] };
    this.#pairs = new Map();
    this.#users = new Set();
    return taken;
  }

  /** One round after the other, however many changes are told meanwhile. */
  async #askAll(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    while (this.#pairs.size + this.#users.size > 0 && !this.#isStopped) {
      const { pairs, users } = this.#takeHints();
      const isDone = await Promise.all([
        this.#follow("membership", () => this.#settle(pairs)),
        this.#follow("user", () => this.#sendAwayDisabled(users)),
      ]);
      if (isDone.includes(false)) this.#resync.want(retryDelayMs);
    }
    this.#isAsking = false;
  }

  async #settle(some: Pair[]): Promise<void> {
    const { directory } = this.options;
    for (const page of pages(questionsOf(some, directory), questionsAtOnce)) {
      const answers = await Promise.all(page.map((ask) => ask()));
      const removals = answers.flat().flatMap(({ pair, found }) => {
        // Told of again meanwhile: the answer may be of before that.
        if (this.#pairs.has(keyOf(pair))) this.#note(pair);
        else if (found === undefined) return [this.#removed(pair)];
        else this.#isMember(pair, found);
        return [];
      });
      await Promise.all(removals);
    }
  }

  /** Others are told once it has left: what they hear of it is not heard by it. */
  #removed({ conversationId, userId, hints, at }: Pair): Promise<void> {
    const { membership, news } = this.options;
    const left = membership.apply({ kind: "member_removed", conversationId, userId });
    // Where it was not removed but is none, say, that is still to be heard.
    if (hints.has("member_removed")) news.tell({ kind: "removed", conversationId, userId, at });
    return left;
  }

  #isMember({ conversationId, userId, hints, at }: Pair, { mayWrite }: DirectoryMembership): void {
    const { membership, news } = this.options;
    if (!mayWrite) membership.muted({ conversationId, userId });
    const isNew = hints.has("member_added");
    if (isNew) news.tell({ kind: "added", conversationId, userId, mayWrite, at });
    // Of a newcomer as well: whoever follows who may write need look at nothing else.
    if (hints.has("member_updated")) news.tell({ kind: "updated", conversationId, userId, mayWrite, at });
    if (!isNew && !hints.has("member_removed")) return;
    // Not waited for: a client may be slow to take what it joins.
    const joined = this.#follow("member_added", () =>
      membership.apply({ kind: "member_added", conversationId, userId }),
    );
    void joined.then((isDone) => {
      if (!isDone) this.#resync.want(retryDelayMs);
    });
  }

  async #lookAtEverything(): Promise<void> {
    const { membership, hub, news } = this.options;
    // Told once the directory answers: what clients ask then is so.
    const isAnswered = this.#sendAwayDisabled(hub.userIds()).then(() => news.mayBeMissed());
    // Beside each other: what a slow client joins may take long.
    await Promise.all([membership.apply({ kind: "resync" }), isAnswered]);
  }

  async #sendAwayDisabled(userIds: string[]): Promise<void> {
    for (const page of pages(userIds, atOnce))
      await Promise.all(page.map((userId) => this.#sendAwayIfDisabled(userId)));
  }

  async #sendAwayIfDisabled(userId: string): Promise<void> {
    const { directory, hub } = this.options;
    // A user who comes in just now is checked there.
    if (!this.#isHere(userId) || (await directory.userState(userId)) !== "disabled") return;
    for (const connection of [...hub.ofUser(userId)]) connection.close(CloseCode.revoked, "user disabled");
  }

  #isHere(userId: string): boolean {
    return [...this.options.hub.ofUser(userId)].length > 0;
  }

  /** @returns whether it went well */
  #follow(change: string, work: () => Promise<void>): Promise<boolean> {
    return this.#following.attempt(work(), { change });
  }
}

const keyOf = ({ conversationId, userId }: Pick<Pair, "conversationId" | "userId">) => `${conversationId} ${userId}`;

type Question = () => Promise<{ pair: Pair; found: DirectoryMembership | undefined }[]>;

/** By conversation or by user, whichever takes fewer. */
function questionsOf(pairs: Pair[], directory: Pick<Directory, "membersAmong" | "membershipsAmong">): Question[] {
  const byConversation = Map.groupBy(pairs, ({ conversationId }) => conversationId);
  const byUser = Map.groupBy(pairs, ({ userId }) => userId);
  if (byConversation.size <= byUser.size) {
    return [...byConversation].map(([conversationId, some]) => async () => {
      const userIds = some.map(({ userId }) => userId);
      const members = await directory.membersAmong(conversationId, userIds);
      return some.map((pair) => ({ pair, found: members.get(pair.userId) }));
    });
  }
  return [...byUser].map(([userId, some]) => async () => {
    const conversationIds = some.map(({ conversationId }) => conversationId);
    const memberships = await directory.membershipsAmong(userId, conversationIds);
    return some.map((pair) => ({ pair, found: memberships.get(pair.conversationId) }));
  });
}
