/** Tells which events have said what a deletion takes back, so that nothing kept in memory says it once more [MSG2]. */
import type { ServerPayload } from "../protocol/server.ts";
import type { LoggedEvent } from "../storage/ports.ts";

type Said = Pick<LoggedEvent, "type" | "id" | "payload">;

/** The message that an event deletes; null: it is no deletion. */
export function deletedBy({ type, payload }: Said): string | null {
  if (type !== "message.deleted") return null;
  return (JSON.parse(payload) as ServerPayload<"message.deleted">).message_id;
}

/** How the payload of a message ends once it is deleted, as `deletedPayload` writes it. */
const isWithoutText = /,"content":null,"deleted_at":"[^"]*"\}$/;

/** Says whether an event of the same topic has the message's text. */
export function hasTextOf(messageId: string, { type, id, payload }: Said): boolean {
  if (type === "message.new") return id === messageId && !isWithoutText.test(payload.slice(-100));
  // Looked for before it is read: an edit may be long, and most are of others. It may name the message without being of it.
  if (type !== "message.edited" || !payload.includes(JSON.stringify(messageId))) return false;
  return (JSON.parse(payload) as ServerPayload<"message.edited">).message_id === messageId;
}
