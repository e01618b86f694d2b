/** Brings this node's connections in line with the directory: what it is told is a hint, upon which it asks what is so [SUB3] [AUTH4]. */

import type { DirectoryView } from "../directory/directory.ts";
import { pages } from "../ground/pages.ts";
import type { Timers } from "../ground/timers.ts";
import { CloseCode } from "../protocol/close.ts";
import type { Directory, DirectoryChange } from "../storage/directory-store.ts";
import type { Membership } from "../subscription/membership.ts";
import { type Outage, type OutageLogger, warnsOnce } from "../telemetry/outage.ts";
import type { Hub } from "./hub.ts";
import { Resync } from "./resync.ts";

export interface DirectoryListenerOptions {
  view: Pick<DirectoryView, "onChange">;
  directory: Pick<Directory, "userState" | "membersAmong" | "membershipsAmong">;
  membership: Pick<Membership, "apply" | "concerns">;
  hub: Pick<Hub, "userIds" | "ofUser">;
  timers: Timers;
  /** Milliseconds since 1970. */
  now: () => number;
  logger: OutageLogger;
}

interface Pair {
  conversationId: string;
  userId: string;
}

/** After what failed everything is looked at again so much later, ms. */
const retryDelayMs = 1_000;
/** Users that are asked about at once where all are. */
const atOnce = 64;
/** Questions at once for what single changes are about. */
const questionsAtOnce = 8;
/** More than so many changes that wait are answered by looking at everything. */
const hintsMax = 1_000;

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
  }

  /** Anybody may have sent it who can reach the database. */
  #hear(change: DirectoryChange): void {
    // Applications write many users and members at once, and most are not here.
    if (change.kind === "resync") return this.#resync.want();
    if (change.kind === "user_changed" && this.#isHere(change.userId)) this.#users.add(change.userId);
    if (change.kind !== "user_changed" && this.options.membership.concerns(change)) {
      const { conversationId, userId } = change;
      this.#pairs.set(keyOf(change), { conversationId, userId });
    }
    if (this.#pairs.size + this.#users.size > hintsMax) {
      this.#takeHints();
      return this.#resync.want();
    }
    void this.#askAll();
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
    const { directory, membership } = this.options;
    for (const page of pages(questionsOf(some, directory), questionsAtOnce)) {
      const answers = await Promise.all(page.map((ask) => ask()));
      const removals = answers.flat().flatMap(({ pair, isMember }) => {
        // Told of again meanwhile: the answer may be of before that.
        if (this.#pairs.has(keyOf(pair))) return [];
        if (!isMember) return [membership.apply({ kind: "member_removed", ...pair })];
        // Not waited for: a client may be slow to take what it joins.
        void this.#follow("member_added", () => membership.apply({ kind: "member_added", ...pair })).then((isDone) => {
          if (!isDone) this.#resync.want(retryDelayMs);
        });
        return [];
      });
      await Promise.all(removals);
    }
  }

  async #lookAtEverything(): Promise<void> {
    const { membership, hub } = this.options;
    // Beside each other: what a slow client joins may take long.
    await Promise.all([membership.apply({ kind: "resync" }), this.#sendAwayDisabled(hub.userIds())]);
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

const keyOf = ({ conversationId, userId }: Pair) => `${conversationId} ${userId}`;

type Question = () => Promise<{ pair: Pair; isMember: boolean }[]>;

/** By conversation or by user, whichever takes fewer. */
function questionsOf(pairs: Pair[], directory: Pick<Directory, "membersAmong" | "membershipsAmong">): Question[] {
  const byConversation = Map.groupBy(pairs, ({ conversationId }) => conversationId);
  const byUser = Map.groupBy(pairs, ({ userId }) => userId);
  if (byConversation.size <= byUser.size) {
    return [...byConversation].map(([conversationId, some]) => async () => {
      const userIds = some.map(({ userId }) => userId);
      const members = await directory.membersAmong(conversationId, userIds);
      return some.map((pair) => ({ pair, isMember: members.has(pair.userId) }));
    });
  }
  return [...byUser].map(([userId, some]) => async () => {
    const conversationIds = some.map(({ conversationId }) => conversationId);
    const memberships = await directory.membershipsAmong(userId, conversationIds);
    return some.map((pair) => ({ pair, isMember: memberships.has(pair.conversationId) }));
  });
}
