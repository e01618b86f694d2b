/** What may be published and where it goes, whichever way it comes in: `publish`, outbox or stream [PUB1] [PUB2]. */
import * as v from "valibot";
import type { ClientPayload } from "../protocol/client.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { identifier } from "../protocol/fields.ts";
import { phraseOf } from "../protocol/phrase.ts";
import { type ServerMessageType, type ServerPayload, serverPayloads } from "../protocol/server.ts";
import type { NewEvent } from "../storage/ports.ts";
import { conversationTopic, isLogged, notificationsTopic, parseTopic, userTopic } from "../subscription/topic.ts";

/** Messages of the server that are replies or speak of one connection; nobody publishes them as events. */
const notEvents: ReadonlySet<string> = new Set<ServerMessageType>([
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
  /** What the publisher calls it, so that it is appended once [LOG2]. */
  key: string | null;
}

/**
 * The event as clients will see it; one of our own types has to look like one.
 * @throws ProtocolError `invalid_payload` with the field
 */
export function readPublication(
  { type, payload: body, event_key }: PublishRequest,
  { now, newId }: { now: () => number; newId: () => string },
): Publication {
  const id = newId();
  const createdAt = now();
  const key = event_key ?? null;
  if (notEvents.has(type) || type.startsWith("admin."))
    throw invalidPublish("type", "This type is a reply of the server's own.");
  if (!Object.hasOwn(serverPayloads, type)) return { id, type, body, createdAt, senderId: null, key };
  const complete =
    type === "message.new" ? { message_id: id, created_at: new Date(createdAt).toISOString(), ...body } : body;
  const result = v.safeParse(serverPayloads[type as ServerMessageType], complete, { abortEarly: true });
  if (!result.success) {
    const [issue] = result.issues;
    const path = v.getDotPath(issue) ?? "";
    throw invalidPublish(
      path === "" ? "payload" : `payload.${path}`,
      `This is not the payload of ${type}: ${`${path} ${phraseOf(issue)}`.trimStart()}.`,
    );
  }
  if (type !== "message.new") return { id, type, body: complete, createdAt, senderId: null, key };
  const message = result.output as ServerPayload<"message.new">;
  // Receipts could not name another one, and an index that cannot hold it would fail all that is appended with it.
  const named = v.safeParse(identifier, message.message_id, { abortPipeEarly: true });
  if (!named.success) throw invalidPublish("payload.message_id", `${named.issues[0].message}.`);
  // Receipts name messages by their event's id, so the application's id is the event's; sent again, it is the same one.
  return {
    id: message.message_id,
    type,
    body: complete,
    createdAt,
    senderId: message.sender_id,
    key: key ?? (message.message_id === id ? null : `message:${message.message_id}`),
  };
}

/**
 * The whole names of the topics meant.
 * @throws ProtocolError `invalid_payload` where a topic is none
 */
export function topicsOf({ topic, user_ids, conversation_id, type }: PublishRequest): string[] {
  if (conversation_id !== undefined) return [conversationTopic(conversation_id)];
  if (user_ids !== undefined)
    return [...new Set(user_ids)].map(type === "notification" ? notificationsTopic : userTopic);
  if (parseTopic(topic!) === null) throw invalidPublish("topic", "This is not the whole name of a topic.");
  return [topic!];
}

/** The publication as one topic's event. `id` is another one where many topics get it: events have ids of their own. */
export function toNewEvent(
  { type, body, createdAt, senderId }: Publication,
  {
    topic,
    id,
    idempotencyKey,
    payload = JSON.stringify(body),
  }: { topic: string; id: string; idempotencyKey: string | undefined; payload?: string },
): NewEvent {
  const event: NewEvent = { id, topic, type, payload, createdAt };
  if (senderId !== null) event.senderId = senderId;
  if (idempotencyKey !== undefined) event.idempotencyKey = idempotencyKey;
  return event;
}

export const canBeLogged = (topic: string) => isLogged(parseTopic(topic)!);

export const invalidPublish = (field: string, message: string) =>
  new ProtocolError("invalid_payload", message, { field: `payload.${field}` });
