/** Decides what becomes of each event of the log that is from a user who is erased, or names that user [BAK4]. */
import { isPlainObject } from "../protocol/envelope.ts";
import { serverMessageTypes } from "../protocol/server.ts";
import { parseTopic } from "../protocol/topic.ts";
import type { NamingEvent } from "../storage/erasure-store.ts";

export type Fate =
  /** Its message becomes a deleted one, where it is the user's; of one that retention has removed the last edit goes. */
  | { kind: "deleted"; messageId: string }
  /** Goes, and nobody is told. */
  | { kind: "forgotten" }
  /** Goes on without the user. */
  | { kind: "rewritten"; payload: string }
  /** Is another's, or the application's. */
  | { kind: "kept" };

const [forgotten, kept] = [{ kind: "forgotten" }, { kind: "kept" }] as const;

const ownTypes: ReadonlySet<string> = new Set(serverMessageTypes);

export function fateOf({ topic, id, type, payload: text }: NamingEvent, userId: string): Fate {
  const isOfConversation = parseTopic(topic)?.kind === "conversation";
  // Messages elsewhere are what an application has sent to one user in the name of another.
  if (text === null) return isOfConversation ? { kind: "deleted", messageId: id } : forgotten;
  const payload: unknown = JSON.parse(text);
  if (!isPlainObject(payload)) return kept;
  const isBy = (field: string) => payload[field] === userId;
  switch (type) {
    case "message.edited":
      return isBy("edited_by") ? { kind: "deleted", messageId: String(payload.message_id) } : kept;
    case "message.delivered":
    case "message.read":
    // Has been taken back by now where it stood, and whoever is connected has heard of that.
    case "message.reaction":
      return isBy("user_id") ? forgotten : kept;
    case "call.ended":
    case "call.unreached":
      return isBy("from_user_id") || isBy("to_user_id") ? forgotten : kept;
    case "delivery.missed":
      return isBy("sender_id") ? forgotten : withoutUser(payload, userId);
    default:
      // An event of the application's own that the user has sent by `event.send`.
      return !ownTypes.has(type) && isOfConversation && isBy("user_id") && payload.data !== undefined
        ? forgotten
        : kept;
  }
}

/** Takes the user out of those who were missed. */
function withoutUser(payload: Record<string, unknown>, userId: string): Fate {
  const { user_ids: all } = payload;
  if (!Array.isArray(all) || !all.includes(userId)) return kept;
  const others = all.filter((it) => it !== userId);
  return others.length === 0
    ? forgotten
    : { kind: "rewritten", payload: JSON.stringify({ ...payload, user_ids: others }) };
}
