/** What backends send: `publish` to a topic, users, a conversation or everyone [PUB1]. */
import * as v from "valibot";
import type { Audience } from "../broadcast/broadcaster.ts";
import type { ClientPayload } from "../protocol/client.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { type ServerMessageType, type ServerPayload, serverPayloads } from "../protocol/server.ts";
import type { NewEvent } from "../storage/ports.ts";
import { conversationTopic, isLogged, notificationsTopic, parseTopic, userTopic } from "../subscription/topic.ts";
import type { Handler, Request } from "./context.ts";

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

export const publish: Handler<"publish"> = async (request) => {
  const { from, payload, services } = request;
  if (!from.roles.includes("service")) throw new ProtocolError("forbidden", "Publishing needs the role service.");
  const event = eventOf(request);
  const audience: Audience = { except: from, exceptDevice: payload.except_device };
  if (payload.all === true) {
    if (payload.logged) throw invalid("logged", "What goes to everyone is not logged.");
    services.broadcaster.toAll({ type: event.type, payload: event.body }, audience);
    return { type: "ack", payload: { published: [{ topic: "all" }] } };
  }
  const topics = topicsOf(payload);
  if (payload.logged === true && !topics.every(canBeLogged))
    throw invalid("logged", "Events of this topic are not logged.");
  return {
    type: "ack",
    payload: { published: await Promise.all(topics.map((topic) => publishTo(request, { topic, event, audience }))) },
  };
};

interface PublishedEvent {
  id: string;
  type: string;
  body: Record<string, unknown>;
  createdAt: number;
  /** Set on messages: receipts and unread counts speak of them. */
  senderId: string | null;
  key: string | null;
}

/** The event as clients will see it; one of our own types has to look like one. */
function eventOf({ payload, services }: Request<"publish">): PublishedEvent {
  const { type, payload: body, event_key: key = null } = payload;
  const id = services.newId();
  const createdAt = services.now();
  if (notEvents.has(type)) throw invalid("type", "This type is a reply of the server's own.");
  if (!Object.hasOwn(serverPayloads, type)) return { id, type, body, createdAt, senderId: null, key };
  const complete =
    type === "message.new" ? { message_id: id, created_at: new Date(createdAt).toISOString(), ...body } : body;
  const result = v.safeParse(serverPayloads[type as ServerMessageType], complete, { abortEarly: true });
  if (!result.success) {
    const path = v.getDotPath(result.issues[0]) ?? "";
    throw invalid(path === "" ? "payload" : `payload.${path}`, `This is not the payload of ${type}.`);
  }
  if (type !== "message.new") return { id, type, body: complete, createdAt, senderId: null, key };
  const message = result.output as ServerPayload<"message.new">;
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

/** The topics meant. */
function topicsOf({ topic, user_ids, conversation_id, type }: ClientPayload<"publish">): string[] {
  if (conversation_id !== undefined) return [conversationTopic(conversation_id)];
  if (user_ids !== undefined)
    return [...new Set(user_ids)].map(type === "notification" ? notificationsTopic : userTopic);
  if (parseTopic(topic!) === null) throw invalid("topic", "This is not the whole name of a topic.");
  return [topic!];
}

async function publishTo(
  { from, payload, services, correlationId }: Request<"publish">,
  { topic, event, audience }: { topic: string; event: PublishedEvent; audience: Audience },
) {
  const { type, body, createdAt, senderId, key } = event;
  if (!(payload.logged ?? canBeLogged(topic))) {
    services.broadcaster.toTopic(topic, { type, payload: body }, audience);
    return { topic };
  }
  // One event for each topic: with many topics each needs an id of its own.
  const id = payload.user_ids === undefined ? event.id : services.newId();
  const logged: NewEvent = { id, topic, type, payload: JSON.stringify(body), createdAt };
  if (senderId !== null) logged.senderId = senderId;
  if (key !== null) logged.idempotencyKey = `event:${from.userId}:${topic}:${key}`;
  const { seq, position, duplicate } = await services.publisher.append(logged, { audience, correlationId });
  return { topic, seq, position, ...(key === null ? {} : { duplicate }) };
}

const canBeLogged = (topic: string) => isLogged(parseTopic(topic)!);
const invalid = (field: string, message: string) =>
  new ProtocolError("invalid_payload", message, { field: `payload.${field}` });
