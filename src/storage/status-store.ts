/** Describes as a port what users set by hand, when they were last seen, and who is here while the only node is restarted [PRE1] [PRE2]. */
import type { AtOnce } from "../ground/at-once.ts";
import type { PresentStore } from "./present-store.ts";

export interface UserStatus {
  status: "online" | "away" | "busy" | "invisible";
  text: string | null;
  emoji: string | null;
  /** Milliseconds since 1970; null: stays until it is changed. */
  expiresAt: number | null;
}

/** How somebody stands who is not here. */
export interface StoredStatus {
  status: UserStatus | null;
  /** Milliseconds since 1970; null: never seen, or not known. */
  lastSeenAt: number | null;
}

export interface StatusStore extends PresentStore {
  set(userId: string, status: UserStatus | null): Promise<void>;
  get(userIds: string[]): AtOnce<Map<string, StoredStatus>>;
  setLastSeen(userIds: string[], at: number): Promise<void>;
  /** Clears statuses that have expired by `now`, at most `limit`. @returns how many */
  clearExpired(now: number, limit: number): Promise<number>;
}
