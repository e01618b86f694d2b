/** Answers who exists and who shares what, the way `directory.mode` has it [PUB3]. */

import { assertNever } from "../ground/assert.ts";
import { type AtOnce, atOnce, got, type Steps } from "../ground/at-once.ts";
import { pages } from "../ground/pages.ts";
import { isSlip } from "../protocol/fields.ts";
import type { Directory, DirectoryChange, Membership, Memberships, UserState } from "../storage/directory-store.ts";
import { namesPerQuestion } from "../storage/ports.ts";
import { MembershipCache } from "./membership-cache.ts";
import { SmallConversations } from "./small-conversations.ts";

export interface DirectoryViewOptions {
  directory: Directory;
  /** `open`: users and conversations come into being on first use. `managed`: only what is there. */
  mode: "open" | "managed";
  /** How long a membership may be remembered; a change is seen at once all the same. */
  cacheTtlMs: number;
  /** Memberships that are remembered at most. */
  cacheSize: number;
  /** Members of a conversation that is told of receipts at most [REC3]. */
  receiptsMembersMax: number;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** Every method rejects with `Unavailable` while the engine is away; remembered memberships are still answered. */
export interface DirectoryView {
  /**
   * Says whether the user may come in: `active` may. In open mode a user nobody knew comes into being, but for slips such as
   * `undefined`. Always asked afresh.
   */
  admit(userId: string): AtOnce<UserState>;
  /**
   * Finds what the user may do in the conversation, which members may use. In open mode a conversation is joined on first use,
   * but for slips such as `*`; a user who was removed from one joins it again with the next use.
   */
  ensureMember(conversationId: string, userId: string): Promise<Membership | undefined>;
  /** Does what `ensureMember` does for many conversations at once. @returns those that the user may use */
  ensureMemberships(userId: string, conversationIds: string[]): Promise<Memberships>;
  /** Finds those of the conversations that the user is a member of now; changes nothing. */
  membershipsAmong(userId: string, conversationIds: string[]): Promise<Memberships>;
  /** Finds the same where it is remembered of each of them; null: it has to be asked for. */
  rememberedMemberships(userId: string, conversationIds: string[]): Memberships | null;
  /** Finds what the user may do where it is a member now; changes nothing. */
  membership(conversationId: string, userId: string): Promise<Membership | undefined>;
  /** Says whether the user is a member now; changes nothing. */
  isMember(conversationId: string, userId: string): Promise<boolean>;
  /** Reads a page of the members, from the first one after `after`; always asked afresh [MEM1]. */
  membersPage: Directory["membersPage"];
  /** Finds all members, or as many as `limit`. */
  membersOf(conversationId: string, limit?: number): Promise<string[]>;
  /** Finds those of the users who are members of the conversation now; always asked afresh. */
  membersAmong(conversationId: string, userIds: string[]): Promise<Set<string>>;
  /** Finds the members of each of the conversations, at most `limit` of one; conversations without any are left out. */
  membersOfEach(conversationIds: string[], limit: number): Promise<Map<string, string[]>>;
  /** Finds those of the conversations that have so few members that they are told of receipts [REC3]. */
  toldOfReceipts(conversationIds: string[]): AtOnce<Set<string>>;
  conversationsOf(userId: string): Promise<string[]>;
  /** Finds everyone who shares a conversation with the user, without the user, at most `limit`. */
  peersOf(userId: string, limit: number): Promise<string[]>;
  /** Finds those of `userIds` who share a conversation with the user; the user counts as sharing with itself. */
  sharingWith(userId: string, userIds: string[]): Promise<Set<string>>;
  /** Tells of every change, after which no answer here is older than it. @returns stops it */
  onChange(listener: (change: DirectoryChange) => void): () => void;
  /** Follows changes no more. */
  stop(): void;
}

/** A conversation with fewer members is read whole; lists of users are asked about in parts as long. */
const smallMax = 1_000;
/** Conversations that are joined by one statement: what is appended waits for it. */
const joinedAtOnce = 200;
/** Users about whom it is asked at once whether they share a conversation: the others' questions come in between. */
const sharingAtOnce = 100;
/** Allows what anybody may do who has just joined by itself. */
const newcomer: Membership = { mayWrite: true };

export function createDirectoryView(options: DirectoryViewOptions): DirectoryView {
  const { directory, cacheTtlMs, cacheSize, now } = options;
  const memberships = new MembershipCache({ ttlMs: cacheTtlMs, sizeMax: cacheSize, now });
  const small = new SmallConversations({
    directory,
    membersMax: options.receiptsMembersMax,
    ttlMs: cacheTtlMs,
    sizeMax: cacheSize,
    now,
  });
  const listeners = new Set<(change: DirectoryChange) => void>();
  const unwatch = directory.watch((change) => {
    forget({ memberships, small }, change);
    for (const listener of [...listeners]) listener(change);
  });
  return {
    ...createMemberQuestions(options, memberships),
    ...createUserQuestions(options),
    membersPage: (query) => directory.membersPage(query),
    membersOf: (conversationId, limit) => directory.membersOf(conversationId, limit),
    membersOfEach: (conversationIds, limit) => directory.membersOfEach(conversationIds, limit),
    toldOfReceipts: (conversationIds) => small.among(conversationIds),
    conversationsOf: (userId) => directory.conversationsOf(userId),
    peersOf: (userId, limit) => directory.peersOf(userId, limit),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    stop() {
      unwatch();
      listeners.clear();
    },
  };
}

interface Remembered {
  memberships: MembershipCache;
  small: SmallConversations;
}

function forget({ memberships, small }: Remembered, change: DirectoryChange): void {
  switch (change.kind) {
    case "member_added":
    case "member_removed":
    case "member_updated":
      memberships.forget(change);
      small.forget(change.conversationId);
      return;
    case "resync":
      memberships.forgetAll();
      small.forgetAll();
      return;
    case "user_changed":
      // Users are never remembered.
      return;
    default:
      assertNever(change);
  }
}

function createUserQuestions({ directory, mode }: DirectoryViewOptions): Pick<DirectoryView, "admit" | "sharingWith"> {
  function* admit(userId: string): Steps<UserState> {
    const asking = directory.userState(userId);
    const state = asking instanceof Promise ? yield asking : asking;
    if (state !== "unknown" || mode === "managed" || isSlip(userId)) return state;
    yield directory.upsertUsers([userId]);
    // Asked again: between the two somebody may have disabled the user, and an upsert does not undo that.
    return yield* got(directory.userState(userId));
  }
  return {
    admit: (userId) => atOnce(admit(userId)),
    async sharingWith(userId, userIds) {
      const found = new Set<string>();
      for (const page of pages(userIds, sharingAtOnce))
        for (const other of await directory.sharingWith(userId, page)) found.add(other);
      return found;
    },
  };
}

type MemberQuestions = Pick<
  DirectoryView,
  | "ensureMember"
  | "ensureMemberships"
  | "membershipsAmong"
  | "rememberedMemberships"
  | "membership"
  | "isMember"
  | "membersAmong"
>;

function createMemberQuestions(
  { directory, mode }: DirectoryViewOptions,
  memberships: MembershipCache,
): MemberQuestions {
  async function membershipsAmong(userId: string, conversationIds: string[]): Promise<Memberships> {
    const found: Memberships = new Map();
    for (const page of pages(conversationIds, namesPerQuestion)) {
      const question = { userId, conversationIds: page };
      const some = await memberships.lookUp(question, (unknown) => directory.membershipsAmong(userId, unknown));
      for (const [conversationId, membership] of some) found.set(conversationId, membership);
    }
    return found;
  }

  async function join(userId: string, conversationIds: string[]): Promise<void> {
    await directory.addMemberships(userId, conversationIds);
    // Our own change is forgotten at once, not only when the watch comes round to it.
    for (const conversationId of conversationIds) memberships.forget({ conversationId, userId });
  }

  async function ensureMemberships(userId: string, conversationIds: string[]): Promise<Memberships> {
    const found = await membershipsAmong(userId, conversationIds);
    if (mode === "managed") return found;
    const fresh = conversationIds.filter((id) => !found.has(id) && !isSlip(id));
    for (const page of pages(fresh, joinedAtOnce)) await join(userId, page);
    return new Map([...found, ...fresh.map((id) => [id, newcomer] as const)]);
  }

  async function membership(conversationId: string, userId: string): Promise<Membership | undefined> {
    const known = memberships.recall({ conversationId, userId });
    return known === null ? (await membershipsAmong(userId, [conversationId])).get(conversationId) : known.membership;
  }

  async function membersAmong(conversationId: string, userIds: string[]): Promise<Set<string>> {
    // Most conversations are small, however many users are asked about.
    if (userIds.length >= smallMax) {
      const members = await directory.membersOf(conversationId, smallMax);
      if (members.length < smallMax) return new Set(members).intersection(new Set(userIds));
    }
    const found = new Set<string>();
    for (const page of pages(userIds, smallMax))
      for (const userId of (await directory.membersAmong(conversationId, page)).keys()) found.add(userId);
    return found;
  }

  return {
    membershipsAmong,
    rememberedMemberships: (userId, conversationIds) => memberships.remembered({ userId, conversationIds }),
    ensureMemberships,
    membersAmong,
    // Mostly remembered: people say more than one thing.
    ensureMember: async (conversationId, userId) =>
      memberships.recall({ conversationId, userId })?.membership ??
      (await ensureMemberships(userId, [conversationId])).get(conversationId),
    membership,
    isMember: async (conversationId, userId) => (await membership(conversationId, userId)) !== undefined,
  };
}
