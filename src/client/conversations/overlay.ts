/** Shows what waits in the outbox as if it had happened already, and what was refused as failed. */
import type { OutboxEntry } from "../core.ts";
import { isOf, type Message, type SentMessage, withReaction } from "./message.ts";

interface Shown {
  conversationId: string;
  userId: string | null;
}

const timeOf = ({ createdAt }: OutboxEntry) => new Date(createdAt).toISOString();

/** @param entries of this conversation, in the order in which they were added */
export function overlaid(messages: readonly SentMessage[], entries: readonly OutboxEntry[], shown: Shown): Message[] {
  const all: Message[] = [...messages];
  const placeOf = (id: string) => all.findLastIndex((message) => message.id === id);
  for (const entry of entries) {
    if (isOf(entry, "message.send")) {
      const { client_message_id } = entry.payload;
      // Its event may be here before the answer to it.
      const isHere = all.some(({ isOwn, clientMessageId }) => isOwn && clientMessageId === client_message_id);
      if (!isHere) all.push(unsent(entry, shown));
      continue;
    }
    const { message_id } = entry.payload as { message_id?: string };
    const at = message_id === undefined ? -1 : placeOf(message_id);
    if (at >= 0) all[at] = changed(all[at]!, entry, shown.userId);
  }
  return all;
}

/** @returns whether something else is shown by one than by the other */
export const areOther = (one: readonly OutboxEntry[], other: readonly OutboxEntry[]): boolean =>
  one.length !== other.length || one.some((entry, at) => entry !== other[at]);

/** How far this user has read once what waits has been taken. */
export function readOf(entries: readonly OutboxEntry[]): number {
  let readSeq = 0;
  for (const entry of entries) if (isOf(entry, "mark.read")) readSeq = Math.max(readSeq, entry.payload.up_to_seq ?? 0);
  return readSeq;
}

function unsent(entry: OutboxEntry<"message.send">, { conversationId, userId }: Shown): Message {
  const { client_message_id: clientMessageId, content } = entry.payload;
  return {
    key: clientMessageId,
    id: clientMessageId,
    clientMessageId,
    conversationId,
    senderId: userId ?? "",
    isOwn: true,
    content,
    createdAt: timeOf(entry),
    editedAt: null,
    deletedAt: null,
    seq: null,
    reactions: [],
    ...stateOf(entry),
  };
}

function changed(message: Message, entry: OutboxEntry, userId: string | null): Message {
  if (message.deletedAt !== null) return message;
  const isFailed = entry.state === "failed";
  if (isOf(entry, "message.edit"))
    return { ...message, content: entry.payload.content, editedAt: timeOf(entry), ...stateOf(entry) };
  if (isOf(entry, "message.delete")) {
    // One that was refused is there still.
    const gone = isFailed ? {} : { content: null, deletedAt: timeOf(entry), editedAt: null, reactions: [] };
    return { ...message, ...gone, ...stateOf(entry) };
  }
  if (!isOf(entry, "reaction.add", "reaction.remove") || isFailed || userId === null) return message;
  const { reaction } = entry.payload;
  const added = entry.type === "reaction.add";
  const isSo = message.reactions.some((it) => it.reaction === reaction && it.isMine);
  if (isSo === added) return message;
  return {
    ...message,
    reactions: withReaction(message.reactions, { reaction, userId, isMine: true, added }).reactions,
  };
}

const stateOf = ({ state, error }: OutboxEntry): Pick<Message, "state" | "error"> =>
  state === "failed" && error !== undefined ? { state, error } : { state };
