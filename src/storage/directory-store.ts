/** Describes as a port what the storage knows of users and of who is in which conversation [PUB3]. */
import type { AtOnce } from "../ground/at-once.ts";
import { ExpectedError } from "../ground/expected-error.ts";

/** Refuses a write to what belongs to the application, which alone writes to it; the message is for clients too. */
export class DirectoryReadOnly extends ExpectedError {
  constructor(message: string) {
    super(message);
    this.name = "DirectoryReadOnly";
  }
}

/** Refuses to keep what is about to be taken away again: the user is being erased [BAK4]; the message is for clients too. */
export class BeingErased extends ExpectedError {
  constructor(options?: ErrorOptions) {
    super(
      "A user who is being erased is not changed meanwhile; admin.users.erasure says when that is finished.",
      options,
    );
    this.name = "BeingErased";
  }
}

export type UserState = "active" | "disabled" | "unknown";

/** Says of a user what keeps it out, each by itself. */
export interface Standing {
  /** `disabled` only where somebody has said so. */
  state: UserState;
  /** When its block ends, ms since 1970; null: it is not blocked. */
  blockedUntil: number | null;
}

/** Says what a member of a conversation may do there. */
export interface Membership {
  /** False: kept from writing, while reading goes on [MSG5]. */
  mayWrite: boolean;
}

/** By the id of the conversation or of the user, whichever was asked about. */
export type Memberships = Map<string, Membership>;

/** A member as a page of them has it. */
export interface Member extends Membership {
  userId: string;
}

/** A hint to ask the directory, never a fact: anybody who can reach the database may have caused it, and it may be late. */
export type DirectoryChange =
  | {
      /** `member_updated`: what the member may do may have changed. */
      kind: "member_added" | "member_removed" | "member_updated";
      conversationId: string;
      userId: string;
      /** When, ms since 1970, where that is told. */
      at?: number;
    }
  | { kind: "user_changed"; userId: string }
  /** Changes may have been missed: whatever is cached is stale. */
  | { kind: "resync" };

/**
 * Knows who exists and who is in which conversation [PUB3]. What is written rejects with `DirectoryReadOnly` where that is not ours,
 * and with `BeingErased`, wholly, where some of it would not stay.
 */
export interface Directory {
  /** `disabled` also while the user is blocked, or being erased. */
  userState(userId: string): AtOnce<UserState>;
  /** For who wants to know why: a user who is being erased stands as before. */
  standingOf(userId: string): Promise<Standing>;
  /** Finds those of the conversations that the user is a member of. */
  membershipsAmong(userId: string, conversationIds: string[]): Promise<Memberships>;
  /** Finds those of the users who are members of the conversation. */
  membersAmong(conversationId: string, userIds: string[]): Promise<Memberships>;
  /** Finds all members, or as many as `limit`. */
  membersOf(conversationId: string, limit?: number): Promise<string[]>;
  /** Reads a page of the members in an order of the engine's, from the first one after `after` [MEM1]. */
  membersPage(query: { conversationId: string; after?: string | undefined; limit: number }): Promise<Member[]>;
  /** Finds the members of each of the conversations, at most `limit` of one; conversations without any are left out. */
  membersOfEach(conversationIds: string[], limit: number): Promise<Map<string, string[]>>;
  /** Counts the members of each of the conversations up to `most`; one that is left out has none. */
  memberCounts(conversationIds: string[], most: number): Promise<Map<string, number>>;
  conversationsOf(userId: string): Promise<string[]>;
  /** Finds everyone who shares a conversation with the user, without the user, at most `limit`. */
  peersOf(userId: string, limit: number): Promise<string[]>;
  /** Finds those of `userIds` who share a conversation with the user; the user counts as sharing with itself. */
  sharingWith(userId: string, userIds: string[]): Promise<Set<string>>;
  upsertUsers(userIds: string[]): Promise<void>;
  setDisabled(userId: string, disabled: boolean): Promise<void>;
  /**
   * Has the user, known or not, count as disabled until then (ms since 1970); replaces an earlier block, and a moment that
   * has passed lifts it. Tells nobody: whoever blocks sends the user away, and then has all nodes `recheck` [ADM1].
   */
  block(userId: string, untilMs: number): Promise<void>;
  /** Has every node look at the user once more, as after a change of the user. */
  recheck(userId: string): Promise<void>;
  addMembers(conversationId: string, userIds: string[]): Promise<void>;
  /** Makes one user a member of many conversations. */
  addMemberships(userId: string, conversationIds: string[]): Promise<void>;
  removeMembers(conversationId: string, userIds: string[]): Promise<void>;
  /** Lets a member write, or keeps it from writing [MSG5]. @returns whether there is such a member */
  setMayWrite(pair: { conversationId: string; userId: string }, mayWrite: boolean): Promise<boolean>;
  /** Tells of every change, this node's own included, within 1 s, whoever made it. @returns stops it */
  watch(listener: (change: DirectoryChange) => void): () => void;
}
