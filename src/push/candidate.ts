/** Decides which events somebody may have missed, and who has missed one [BAK3]. */
import { isPlainObject } from "../protocol/envelope.ts";
import type { ServerMessageType } from "../protocol/server.ts";
import { parseTopic, type Topic, topicKinds } from "../protocol/topic.ts";
import type { LoggedEvent } from "../storage/ports.ts";

/** An event that its audience is to learn of by other ways, where it reaches no device of theirs. */
export interface Candidate {
  event: Pick<LoggedEvent, "id" | "topic" | "seq" | "position" | "type">;
  /** The topic, and so its audience: members of a conversation, or one user. */
  of: Topic;
  /** When it was logged, ms since 1970 by the clock of whoever did. */
  at: number;
  /** Of a message its author, of a missed call the caller. */
  senderId: string | null;
}

/** Says of a user where they are and how far they have come by themselves. */
export interface Standing {
  /** When a node with a connected device of theirs last said that it lives, ms by the registry's clock; null: they have none. */
  seenAt: number | null;
  /** Up to which `seq` of the topic they have received or read it, or have joined after it. */
  receivedThrough: number;
  /** Up to which position of the log a device of theirs has acknowledged it. */
  acknowledgedThrough: number;
}

/** `unsure`: the node that has their devices has said nothing since the event, and may be dead. */
export type Outcome = "missed" | "reached" | "unsure";

const types: ReadonlySet<string> = new Set<ServerMessageType>(["message.new", "notification", "call.ended"]);

/** @returns null for an event that nobody is woken for */
export function toCandidate({ id, topic, seq, position, type, payload, createdAt }: LoggedEvent): Candidate | null {
  if (!types.has(type)) return null;
  const of = parseTopic(topic);
  if (of === null || !topicKinds[of.kind].logged || topicKinds[of.kind].of === "missed") return null;
  const candidate = { event: { id, topic, seq, position, type }, of, at: createdAt };
  if (type === "notification") return { ...candidate, senderId: null };
  const said: unknown = JSON.parse(payload);
  const sender = isPlainObject(said) ? (type === "call.ended" ? said.from_user_id : said.sender_id) : undefined;
  if (typeof sender === "string") return { ...candidate, senderId: sender };
  // A call that has no caller in it was published by somebody: it is none that was missed.
  return type === "call.ended" ? null : { ...candidate, senderId: null };
}

/** @param eventAt when the event was logged, ms by the registry's clock */
export function outcomeOf(
  { event, senderId }: Pick<Candidate, "event" | "senderId">,
  { userId, standing, eventAt }: { userId: string; standing: Standing; eventAt: number },
): Outcome {
  if (userId === senderId) return "reached";
  if (standing.receivedThrough >= event.seq || standing.acknowledgedThrough >= event.position) return "reached";
  if (standing.seenAt === null) return "missed";
  return standing.seenAt >= eventAt ? "reached" : "unsure";
}
