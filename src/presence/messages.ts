/** Writes views the way clients are sent them: in events, in snapshots and in answers to `presence.query` [PRE3] [PRE4] [PRE5]. */
import { momentText } from "../ground/moments.ts";
import type { PresenceView, ServerPayload } from "../protocol/server.ts";
import type { View, ViewForOthers } from "./view.ts";

type EventType = "presence.online" | "presence.offline" | "presence.update";
export type PresenceMessage = { [Type in EventType]: { type: Type; payload: ServerPayload<Type> } }[EventType];

/** Says what others are told where they were shown something else; moments in ms since 1970. */
export function writeChange(
  userId: string,
  { was, is, lastSeenAt, at }: { was: ViewForOthers; is: ViewForOthers; lastSeenAt: number | null; at: number },
): PresenceMessage {
  if (is.status === "offline") {
    const payload = { user_id: userId, ...(lastSeenAt === null ? {} : { last_seen: momentText(lastSeenAt) }) };
    return { type: "presence.offline", payload };
  }
  if (was.status !== "offline") return updateOf(userId, is, at);
  const payload = { user_id: userId, status: is.status, ...besides(is), at: momentText(at) };
  return { type: "presence.online", payload };
}

export function updateOf(userId: string, { status, text, emoji, expiresAt }: View, at: number): PresenceMessage {
  const end = expiresAt === null ? {} : { expires_at: momentText(expiresAt) };
  const payload = { user_id: userId, status, status_text: text, status_emoji: emoji, ...end, at: momentText(at) };
  return { type: "presence.update", payload };
}

/** @param lastSeenAt null: not known, or not to be told */
export function writeView(userId: string, view: View, lastSeenAt: number | null): PresenceView {
  return {
    user_id: userId,
    status: view.status,
    ...besides(view),
    ...(view.expiresAt === null ? {} : { expires_at: momentText(view.expiresAt) }),
    ...(view.status !== "offline" || lastSeenAt === null ? {} : { last_seen: momentText(lastSeenAt) }),
  };
}

const besides = ({ text, emoji }: View) => ({
  ...(text === null ? {} : { status_text: text }),
  ...(emoji === null ? {} : { status_emoji: emoji }),
});
