/** Decides what may be published and where it goes, whichever way it comes in: `publish`, outbox or stream [PUB1] [PUB2]. */
import * as v from "valibot";
import { contentDigest, idempotencyKey } from "../broadcast/idempotency-key.ts";
import { amending, isMessageChange, type MessageChange } from "../broadcast/message-changes.ts";
import { momentText } from "../ground/moments.ts";
import type { ClientPayload } from "../protocol/client.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { identifier } from "../protocol/fields.ts";
import { phraseOf } from "../protocol/phrase.ts";
import { type ServerMessageType, type ServerPayload, serverPayloads } from "../protocol/server.ts";
import {
  conversationTopic,
  isLogged,
  notificationsTopic,
  parseTopic,
  topicKinds,
  userTopic,
} from "../protocol/topic.ts";
import type { NewEvent } from "../storage/ports.ts";

/** Names messages of the server that are replies or speak of one connection; nobody publishes them as events. */
export const notEvents: ReadonlySet<string> = new Set<ServerMessageType>([
  "connected",
  "auth.success",
  "auth.failed",
  "auth.expiring",
  "subscribed",
  "unsubscribed",
  "pong",
  "ack",
  "error",
  "history",
  "members",
  "draining",
]);

export type PublishRequest = Pick<
  ClientPayload<"publish">,
  "topic" | "user_ids" | "conversation_id" | "type" | "payload" | "event_key"
>;

export interface Publication {
  id: string;
  type: string;
  body: Record<string, unknown>;
  createdAt: number;
  /** Set on messages: receipts and unread counts speak of them. */
  senderId: string | null;
  /** How the publisher calls it, so that it is appended once to each topic: by its `event_key`, and by its own `message_id` [LOG2]. */
  keys: { space: "key" | "id"; name: string }[];
  /** The field that has a key; null where there is none. */
  keyField: string | null;
  /** Of what the publisher says, without what is filled in here; left out where there is no key. */
  digest?: string;
  /** Changes a message of its conversation, where it is such an event. */
  change?: Pick<NewEvent, "amendment" | "compactionKey">;
}

/**
 * Builds the event as clients will see it; one of our own types has to look like one.
 * @throws ProtocolError `invalid_payload` with the field
 */
export function readPublication(
  request: PublishRequest,
  { now, newId }: { now: () => number; newId: () => string },
): Publication {
  const { type, event_key } = request;
  const id = newId();
  const createdAt = now();
  if (notEvents.has(type) || type.startsWith("admin."))
    throw invalidPublish("type", "This type is a reply of the server's own.");
  // Said before anything of the payload, which is not at fault.
  if (isMessageChange(type) && !isOfConversation(request))
    throw invalidPublish("type", "A message is changed in its conversation.");
  const isOwn = Object.hasOwn(serverPayloads, type);
  const said = withConversation(request, isOwn && needsConversation(type as ServerMessageType));
  const event: Publication = {
    id,
    type,
    body: said,
    createdAt,
    senderId: null,
    keys: event_key === undefined ? [] : [{ space: "key", name: event_key }],
    keyField: event_key === undefined ? null : "event_key",
  };
  if (event_key !== undefined) event.digest = contentDigest({ type, said });
  if (!isOwn) return event;
  const complete = { ...momentsOf(type, { id, at: momentText(createdAt) }), ...said };
  const result = v.safeParse(serverPayloads[type as ServerMessageType], complete, { abortEarly: true });
  if (!result.success) {
    const [issue] = result.issues;
    const path = v.getDotPath(issue) ?? "";
    throw invalidPublish(
      path === "" ? "payload" : `payload.${path}`,
      `This is not the payload of ${type}: ${`${path} ${phraseOf(issue)}`.trimStart()}.`,
    );
  }
  if (isMessageChange(type)) {
    const change = { type, payload: result.output } as MessageChange;
    return { ...event, body: complete, change: amending(change) };
  }
  if (type !== "message.new") return event;
  const notSaid = ["deleted_at", "reactions"].find((name) => said[name] !== undefined);
  if (notSaid !== undefined) throw invalidPublish(`payload.${notSaid}`, "This is what becomes of a message later.");
  if (said.content === null) throw invalidPublish("payload.content", "This is what a deleted message has.");
  const message = result.output as ServerPayload<"message.new">;
  // Receipts could not name another one, and an index that cannot hold it would fail all that is appended with it.
  const named = v.safeParse(identifier, message.message_id, { abortPipeEarly: true });
  if (!named.success) throw invalidPublish("payload.message_id", `${named.issues[0].message}.`);
  // Receipts name messages by their event's id, so the application's id is the event's; sent again, it is the same one.
  const ofMessage = { ...event, id: message.message_id, body: complete, senderId: message.sender_id };
  if (message.message_id === id) return ofMessage;
  return {
    ...ofMessage,
    keys: [...event.keys, { space: "id", name: message.message_id }],
    keyField: event.keyField ?? "payload.message_id",
    digest: event.digest ?? contentDigest({ type, said }),
  };
}

/**
 * Completes the payload with the conversation that it goes to, where its type has one.
 * @throws ProtocolError `invalid_payload` where it names another one
 */
function withConversation(
  { topic, conversation_id, payload }: PublishRequest,
  isNeeded: boolean,
): Record<string, unknown> {
  const named = topic === undefined ? null : parseTopic(topic);
  const target = conversation_id ?? (named !== null && topicKinds[named.kind].of === "conversation" ? named.key : null);
  if (target === null) return payload;
  if (payload.conversation_id === undefined) return isNeeded ? { ...payload, conversation_id: target } : payload;
  if (typeof payload.conversation_id === "string" && payload.conversation_id !== target)
    throw invalidPublish("payload.conversation_id", "This is not the conversation that it is published to.");
  return payload;
}

/** Fills in what the publisher may leave out. */
function momentsOf(type: string, { id, at }: { id: string; at: string }): Record<string, string> {
  switch (type) {
    case "message.new":
      return { message_id: id, created_at: at };
    case "message.edited":
      return { edited_at: at };
    case "message.deleted":
      return { deleted_at: at };
    case "message.reaction":
      return { at };
    default:
      return {};
  }
}

const isOfConversation = ({ topic, conversation_id }: PublishRequest): boolean =>
  conversation_id !== undefined || (topic !== undefined && parseTopic(topic)?.kind === "conversation");

/** Says whether events of the type name their conversation. */
function needsConversation(type: ServerMessageType): boolean {
  const { entries = {} } = serverPayloads[type] as { entries?: Record<string, { type: string }> };
  return entries.conversation_id !== undefined && entries.conversation_id.type !== "optional";
}

/**
 * Names the topics meant, whole.
 * @throws ProtocolError `invalid_payload` where a topic is none
 */
export function topicsOf({ topic, user_ids, conversation_id, type }: PublishRequest): string[] {
  if (conversation_id !== undefined) return [conversationTopic(conversation_id)];
  if (user_ids !== undefined)
    return [...new Set(user_ids)].map(type === "notification" ? notificationsTopic : userTopic);
  const named = parseTopic(topic!);
  if (named === null) throw invalidPublish("topic", "This is not the whole name of a topic.");
  if (named.kind === "log") throw invalidPublish("topic", "The log has what is published to all the other topics.");
  if (named.kind === "missed") throw invalidPublish("topic", "It is for this service alone to say what was missed.");
  return [topic!];
}

/**
 * Makes of the publication one topic's event, appended once under its own keys, or else under the given one. `id` is another one
 * where many topics get it: events have ids of their own.
 */
export function toNewEvent(
  { type, body, createdAt, senderId, keys, digest, change }: Publication,
  { topic, id, payload = JSON.stringify(body), key }: { topic: string; id: string; payload?: string; key?: string },
): NewEvent {
  const { kind, key: of } = parseTopic(topic)!;
  const event: NewEvent = { id, topic, type, payload, createdAt, ...change };
  if (senderId !== null) event.senderId = senderId;
  // Whichever way it came in, and whoever sent it: a key is its topic's.
  if (digest !== undefined) {
    const isNamed = keys.some(({ space }) => space === "id");
    event.once = { keys: keys.map((it) => idempotencyKey([it.space, kind, of], it.name)), digest, isNamed };
  } else if (key !== undefined) event.once = { keys: [key] };
  return event;
}

/** Says of a key that is used again which topics have something else under it. */
export function conflictOf(topics: string[]): string {
  const more = topics.length > 1 ? ` and ${topics.length - 1} more` : "";
  return `Something else was published under this key to ${topics[0]}${more}.`;
}

export const canBeLogged = (topic: string) => isLogged(parseTopic(topic)!);

export const invalidPublish = (field: string, message: string) =>
  new ProtocolError("invalid_payload", message, { field: `payload.${field}` });
