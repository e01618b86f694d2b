/** Says what a message is to an application, and how the wire's words become it [MSG1] [MSG2] [MSG3]. */
import type { OutboxEntry, OutboxType, ServerEvent } from "../core.ts";
import type { Content, ServerPayloads } from "../wire.ts";

/** How many react in one way, and who. */
export interface Reaction {
  readonly reaction: string;
  /** All who have it; `userIds` may name fewer, not below the first 20. */
  readonly count: number;
  readonly userIds: readonly string[];
  /** True where this user is known to be among them. */
  readonly isMine: boolean;
}

/** A message of a conversation. Never changed in place: the same object until something of it has changed. */
export interface Message {
  /** The same from the moment of sending on: what a list of messages is keyed by. */
  readonly key: string;
  /** The service's; as long as it is `pending` or has `failed`, the `clientMessageId`. */
  readonly id: string;
  /** Null where a backend has published it without. */
  readonly clientMessageId: string | null;
  readonly conversationId: string;
  readonly senderId: string;
  readonly isOwn: boolean;
  /** Null once it is deleted. */
  readonly content: Content | null;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
  readonly editedAt: string | null;
  readonly deletedAt: string | null;
  /** Its number in the conversation; null as long as it has none. */
  readonly seq: number | null;
  /** In the order in which this device has heard of them. */
  readonly reactions: readonly Reaction[];
  /** Of it as it is shown: `pending` also while an edit or a deletion is on its way, `failed` where it was refused. */
  readonly state: "pending" | "sent" | "failed";
  /** Why it has failed. */
  readonly error?: { readonly code: string; readonly message: string; readonly field?: string };
}

export type SentMessage = Message & { readonly seq: number };

/** A logged event of a conversation, of which more types may come than are folded. */
export type LoggedEvent = Pick<ServerEvent, "type" | "payload"> & { seq: number };

/** @param userId whose device this is */
export function messageOf({ seq, payload }: LoggedEvent, userId: string | null): SentMessage {
  const told = payload as unknown as ServerPayloads["message.new"];
  const isOwn = told.sender_id === userId;
  const clientMessageId = told.client_message_id ?? null;
  const reactions = (told.reactions ?? []).map(({ reaction, count, user_ids: userIds }) => {
    return { reaction, count, userIds, isMine: userId !== null && userIds.includes(userId) };
  });
  return {
    key: isOwn && clientMessageId !== null ? clientMessageId : told.message_id,
    id: told.message_id,
    clientMessageId,
    conversationId: told.conversation_id,
    senderId: told.sender_id,
    isOwn,
    content: told.content,
    createdAt: told.created_at,
    editedAt: told.edited_at ?? null,
    deletedAt: told.deleted_at ?? null,
    seq,
    reactions,
    state: "sent",
  };
}

/** Gives what the others are told of what this device has done. @returns null where it has made nothing [SUB6] [MSG2] */
export function eventOf(entry: OutboxEntry, ack: ServerPayloads["ack"], userId: string): LoggedEvent | null {
  const { seq, duplicate = false, message_id, created_at, at } = ack;
  if (seq === undefined || (duplicate && entry.type !== "message.send")) return null;
  const told = (type: string, more: object) => ({ type, seq, payload: { ...entry.payload, ...more } });
  switch (entry.type) {
    case "message.send":
      return told("message.new", { message_id, sender_id: userId, created_at });
    case "message.edit":
      return told("message.edited", { edited_at: at });
    case "message.delete":
      return told("message.deleted", { deleted_at: at });
    case "reaction.add":
    case "reaction.remove":
      return told("message.reaction", { user_id: userId, added: entry.type === "reaction.add", at });
    default:
      return null;
  }
}

interface Reacting {
  reaction: string;
  userId: string;
  isMine: boolean;
  added: boolean;
}

/**
 * Puts a user in or out. Where more have a reaction than are named, whoever is not named may be among them or not: `isExact` is false, and
 * the count is a guess until the message is read anew [MSG3].
 */
export function withReaction(
  reactions: readonly Reaction[],
  { reaction, userId, isMine, added }: Reacting,
): { reactions: readonly Reaction[]; isExact: boolean } {
  const held = reactions.find((it) => it.reaction === reaction);
  const isNamed = held?.userIds.includes(userId) ?? false;
  const hasUnnamed = held !== undefined && held.count > held.userIds.length;
  if (added && isNamed) return { reactions, isExact: true };
  if (!added && !isNamed && !hasUnnamed) return { reactions, isExact: true };
  const before = held ?? { reaction, count: 0, userIds: [], isMine: false };
  const userIds = !added
    ? before.userIds.filter((it) => it !== userId)
    : hasUnnamed
      ? before.userIds
      : [...before.userIds, userId];
  const count = Math.max(before.count + (added ? 1 : -1), userIds.length);
  const now = { reaction, count, userIds, isMine: isMine ? added : before.isMine };
  const all = held === undefined ? [...reactions, now] : reactions.map((it) => (it === held ? now : it));
  return { reactions: all.filter((it) => it.count > 0), isExact: !hasUnnamed };
}

export const isOf = <T extends OutboxType>(entry: OutboxEntry, ...types: T[]): entry is OutboxEntry<T> =>
  (types as OutboxType[]).includes(entry.type);

/** It is gone, whenever that was: of its text nothing stays here until the message has been read anew. */
export function deletionOf({ payload, createdAt }: OutboxEntry) {
  const { conversation_id, message_id } = payload as ServerPayloads["message.deleted"];
  const told = { conversation_id, message_id, deleted_at: new Date(createdAt).toISOString() };
  return { type: "message.deleted" as const, seq: 0, payload: told };
}
