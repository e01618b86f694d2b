/** Turns a `presence.update` request into the status that the user has set by hand [PRE2]. */
import type { ClientPayload } from "../protocol/client.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { UserStatus } from "../storage/ports.ts";
import { unlessOver } from "./view.ts";

export type PresenceUpdate = ClientPayload<"presence.update">;

/**
 * Left out of the request, a field stays as it was; `null` clears it.
 * @returns null where nothing is left that was set by hand: the devices decide alone
 * @throws ProtocolError `invalid_payload` for an end that has passed
 */
export function statusByHand(current: UserStatus | null, update: PresenceUpdate, now: number): UserStatus | null {
  const kept = unlessOver(current, now);
  const text = update.status_text === undefined ? (kept?.text ?? null) : update.status_text || null;
  const emoji = update.status_emoji === undefined ? (kept?.emoji ?? null) : update.status_emoji || null;
  const expiresAt = update.expires_at === undefined ? (kept?.expiresAt ?? null) : endOf(update, now);
  if (update.status === "online" && text === null && emoji === null) return null;
  return { status: update.status, text, emoji, expiresAt };
}

/** @throws ProtocolError `invalid_payload` for an end that has passed */
export function endOf({ expires_at }: Pick<PresenceUpdate, "expires_at">, now: number): number | null {
  if (expires_at === undefined || expires_at === null) return null;
  const end = Date.parse(expires_at);
  if (end > now) return end;
  throw new ProtocolError("invalid_payload", "expires_at must be in the future", { field: "payload.expires_at" });
}
