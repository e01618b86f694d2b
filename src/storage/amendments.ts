/** Says how messages of the log are changed afterwards, and makes of a payload what it is after that; both engines do [MSG2] [MSG3]. */

interface OfMessage {
  /** Of a message of the topic that its event is appended to. */
  messageId: string;
}

interface OfSender extends OfMessage {
  /** Only where this user has sent it; anybody else's is as unknown. */
  sentBy?: string;
}

export type Amendment =
  /** `content` is JSON text; `at` is a moment. */
  | (OfSender & { kind: "edit"; content: string; at: string })
  | (OfSender & { kind: "delete"; at: string })
  | (OfMessage & { kind: "react" | "unreact"; userId: string; reaction: string; at: number });

/** `unknown`: there is no such message, or it is not this user's. `too_many`: reactions, of this user or of all. */
export type AmendmentRefusal = "unknown" | "deleted" | "too_many";

/** Says what has come of an amendment; `unchanged`: it is so already. */
export type AmendmentOutcome = "applied" | "unchanged" | AmendmentRefusal;

export const reactionLimits = {
  /** Different ones of one user on one message. */
  ofUser: 20,
  /** Different ones on one message, of all users: what history shows of a message is bounded. */
  ofMessage: 100,
  /** Users that are named of each; all are counted. */
  usersShown: 20,
} as const;

/** Stays of a message once it is deleted: by what names it is known, who has sent it, and when. */
const keptFields: ReadonlySet<string> = new Set([
  "message_id",
  "client_message_id",
  "conversation_id",
  "sender_id",
  "created_at",
]);

type Fields = Record<string, unknown>;

const entry = (name: string, text: string) => `${JSON.stringify(name)}:${text}`;

/** @param content JSON text @returns the payload with it; a deleted one as it is, of which nobody makes another; null where it has that already */
export function editedPayload(payload: string, { content, at }: { content: string; at: string }): string | null {
  const message = JSON.parse(payload) as Fields;
  if (message.deleted_at !== undefined) return payload;
  if (JSON.stringify(message.content) === content) return null;
  const entries = Object.entries(message)
    .filter(([name]) => name !== "edited_at")
    .map(([name, value]) => entry(name, name === "content" ? content : JSON.stringify(value)));
  return `{${[...entries, entry("edited_at", JSON.stringify(at))].join(",")}}`;
}

/** Takes out everything that somebody has said: the content, and whatever an application has put beside it. */
export function deletedPayload(payload: string, at: string): string {
  const kept = Object.entries(JSON.parse(payload) as Fields).filter(([name]) => keptFields.has(name));
  return JSON.stringify({ ...Object.fromEntries(kept), content: null, deleted_at: at });
}

/** Reads who has sent a message, also of a deleted one. */
export const senderOf = (payload: string): unknown => (JSON.parse(payload) as Fields).sender_id;

/** Says whether one may delete an edit of which retention has removed the message: then only the edit says whose it is. */
export const mayDeleteEdit = (payload: string, sentBy: string | undefined): boolean =>
  sentBy === undefined || (JSON.parse(payload) as Fields).edited_by === sentBy;

/** The reactions of one kind on a message, as they are shown. */
export interface ShownReaction {
  reaction: string;
  count: number;
  /** The first of them. */
  user_ids: string[];
}

/** The SQL of a payload with the reactions that are kept beside it: it is never parsed for them. @param columns both, as SQL */
export const shownPayload = (columns: { payload: string; reactions: string }, cut: (payload: string) => string) =>
  `CASE WHEN ${columns.reactions} IS NULL THEN ${columns.payload}
    ELSE ${cut(columns.payload)} || ',"reactions":' || ${columns.reactions} || '}' END`;
