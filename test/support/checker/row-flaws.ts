/** Says what a message in an answer may have been: as it was in some moment between the asking and the answer [MSG2] [MSG3]. */
import { type Change, type MessageFacts, reactionKey, type Sight } from "./messages.ts";

/** Finds what of a row of the log cannot have been so in any moment of the span. Null: all of it can. */
export function flawOf(
  message: MessageFacts,
  { event: { payload }, from, to }: Pick<Sight, "event" | "from" | "to">,
): string | null {
  const isDeleted = payload.content === null;
  if (isDeleted !== (payload.deleted_at !== undefined)) return "its text and its deleted_at do not go together";
  const deletedBefore = message.deletions.some(({ knownAt }) => knownAt < from);
  if (isDeleted) {
    if (!message.deletions.some(({ askedAt }) => askedAt < to)) return "nobody had deleted it";
    if (payload.edited_at !== undefined) return "it is deleted, and edited as well";
    return (payload.reactions ?? []).length > 0 ? "it is deleted, and has reactions" : null;
  }
  if (deletedBefore) return "it had been deleted";
  // Sent by nobody of the population: that is another rule's.
  if (message.content === undefined) return null;
  const newest = newestKnown(message.edits, from);
  const content = newest === undefined ? message.content : newest.content;
  const isNewest = payload.content === content && (payload.edited_at !== undefined) === (newest !== undefined);
  const mayFollow = later(message.edits, { than: newest, to }).some((edit) => edit.content === payload.content);
  if (!isNewest && !(mayFollow && payload.edited_at !== undefined)) return "its text is not what it was then";
  return flawOfReactions(message, { reactions: payload.reactions ?? [], from, to });
}

/** Finds those that may have come after what was known. */
const later = (changes: Change[], { than, to }: { than: Change | undefined; to: number }) =>
  changes.filter(({ askedAt, seq }) => askedAt < to && (seq === null || seq > (than?.seq ?? 0)));

const newestKnown = (changes: Change[], before: number): Change | undefined =>
  changes
    .filter(({ knownAt, seq }) => knownAt < before && seq !== null)
    .toSorted((one, other) => one.seq! - other.seq!)
    .at(-1);

function flawOfReactions(
  message: MessageFacts,
  { reactions, from, to }: { reactions: any[]; from: number; to: number },
): string | null {
  const shown = shownReactions(reactions);
  if (shown === null) return "its reactions are counted wrongly";
  for (const key of shown) if (!message.reactions.has(key)) return `nobody had reacted with ${key}`;
  for (const [key, changes] of message.reactions) {
    const newest = newestKnown(changes, from);
    const isShown = shown.has(key);
    if (isShown === (newest?.added ?? false)) continue;
    if (!later(changes, { than: newest, to }).some(({ added }) => added === isShown))
      return `the reaction ${key} is ${isShown ? "shown" : "missing"}`;
  }
  return null;
}

/** By `reactionKey`. @returns null where they contradict themselves */
export function shownReactions(reactions: any[]): Set<string> | null {
  const shown = new Set<string>();
  let count = 0;
  for (const { reaction, user_ids, ...it } of reactions) {
    if (it.count === 0 || it.count !== user_ids.length) return null;
    count += it.count;
    for (const userId of user_ids) shown.add(reactionKey(userId, reaction));
  }
  return shown.size === count ? shown : null;
}
