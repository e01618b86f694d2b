/** Makes the events that change messages: what each does to its message in the log, and which of them is kept [MSG2] [MSG3]. */
import type { ServerPayload } from "../protocol/server.ts";
import type { NewEvent } from "../storage/ports.ts";
import { contentDigest } from "./idempotency-key.ts";

const messageChangeTypes = ["message.edited", "message.deleted", "message.reaction"] as const;
type MessageChangeType = (typeof messageChangeTypes)[number];

/** An event with its payload, of the types that change a message. */
export type MessageChange = {
  [Type in MessageChangeType]: { type: Type; payload: ServerPayload<Type> };
}[MessageChangeType];

export const isMessageChange = (type: string): type is MessageChangeType =>
  (messageChangeTypes as readonly string[]).includes(type);

/** @param sentBy whose message an edit or a deletion must be of; left out: anybody's */
export function amending(change: MessageChange, sentBy?: string): Pick<NewEvent, "amendment" | "compactionKey"> {
  const { message_id: messageId } = change.payload;
  const whose = sentBy === undefined ? {} : { sentBy };
  // An edit goes with the deletion, and so does what it said.
  const compactionKey = `edit:${messageId}`;
  switch (change.type) {
    case "message.edited": {
      const { content, edited_at: at } = change.payload;
      const amendment = { kind: "edit", messageId, content: JSON.stringify(content), at, ...whose } as const;
      return { compactionKey, amendment };
    }
    case "message.deleted":
      return { compactionKey, amendment: { kind: "delete", messageId, at: change.payload.deleted_at, ...whose } };
    case "message.reaction": {
      const { user_id: userId, reaction, added, at } = change.payload;
      return {
        compactionKey: `reaction:${contentDigest([messageId, userId, reaction])}`,
        amendment: { kind: added ? "react" : "unreact", messageId, userId, reaction, at: Date.parse(at) },
      };
    }
  }
}
