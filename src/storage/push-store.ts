/** Describes as a port what the search for missed events keeps, and asks of what others keep [BAK3]. */
import type { CursorParts } from "./epochs.ts";

/** The right to search, until it runs out: one at a time has it, and nothing but work that is done once depends on it. */
export interface PushLease {
  /** Names a run of a node. */
  holder: string;
  forMs: number;
}

/** Says how it is with the search for whoever asks for the lease; only the holder is given the place. */
export type PushTurn = { kind: "not_begun" } | { kind: "elsewhere" } | { kind: "ours"; place: CursorParts };

/** Names a user on a topic. */
export interface UserOnTopic {
  topic: string;
  userId: string;
}

/** Keeps how far the log has been searched for events that were missed. Every method rejects with `Unavailable` while the engine is away. */
export interface PushStore {
  /** Begins at a place, unless it has begun before. */
  begin(place: CursorParts): Promise<void>;
  hasBegun(): Promise<boolean>;
  /** Forgets the place: it is as if nobody had ever asked for missed events. */
  forget(): Promise<void>;
  /** Takes the lease where nobody has it, and keeps one's own for longer. */
  take(lease: PushLease): Promise<PushTurn>;
  /** Notes that everything up to the place has been searched. @returns whether it still is the holder, without which nothing is noted */
  move(holder: string, place: CursorParts): Promise<boolean>;
  /** Gives up the lease, where it has it. */
  release(holder: string): Promise<void>;
  /**
   * Says how far the log goes beyond the place, in positions, and when (ms since 1970) the oldest event there is was logged;
   * null: there is none. Of a search that has not begun: nothing.
   */
  lag(): Promise<{ behind: number; oldestAt: number | null } | null>;
  /** Finds those of the positions whose events are still there, messages that were deleted left out. */
  standing(positions: number[]): Promise<Set<number>>;
  /** Says of each, in order, up to which `seq` of the topic the user has received or read it, or has joined after it. */
  receivedThrough(users: UserOnTopic[]): Promise<number[]>;
  /** Reads how far devices of the users have acknowledged the log: the farthest place of each epoch, in any order. */
  acknowledgedBy(userIds: string[]): Promise<({ userId: string } & CursorParts)[]>;
}
