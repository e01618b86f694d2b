/** Reads a status set by hand from its row, which is the same in both engines [PRE2]. */
import type { UserStatus } from "./ports.ts";

export interface StatusRow {
  userId: string;
  status: UserStatus["status"] | null;
  text: string | null;
  emoji: string | null;
  expiresAt: number | null;
  lastSeenAt: number | null;
}

/** Null where none is set: the row then says only when the user was last seen. */
export function statusOf({ status, text, emoji, expiresAt }: StatusRow): UserStatus | null {
  return status === null ? null : { status, text, emoji, expiresAt };
}
