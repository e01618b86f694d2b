/** What backends send: `publish` to a topic, users, a conversation or everyone [PUB1]. */
import type { Audience } from "../broadcast/broadcaster.ts";
import type { ClientPayload } from "../protocol/client.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { serverPayloads } from "../protocol/server.ts";
import { conversationTopic, isLogged, notificationsTopic, parseTopic, userTopic } from "../subscription/topic.ts";
import type { Handler, Request } from "./context.ts";

/** Messages of the server that are replies or speak of one connection; nobody publishes them as events. */
const notEvents = new Set([
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
] satisfies (keyof typeof serverPayloads)[] as string[]);

export const publish: Handler<"publish"> = async (request) => {
  const { from, payload, services } = request;
  if (!from.roles.includes("service")) throw new ProtocolError("forbidden", "Publishing needs the role service.");
  if (notEvents.has(payload.type)) {
    throw new ProtocolError("invalid_payload", "This type is a reply of the server's own.", { field: "payload.type" });
  }
  const audience: Audience = { except: from, exceptDevice: payload.except_device };
  const { type, payload: body } = payload;
  if (payload.all === true) {
    if (payload.logged) {
      throw new ProtocolError("invalid_payload", "What goes to everyone is not logged.", { field: "payload.logged" });
    }
    services.broadcaster.toAll({ type, payload: body }, audience);
    return { type: "ack", payload: { published: [{ topic: "all" }] } };
  }
  const topics = topicsOf(payload);
  const published = topics.map((topic) => publishTo(request, topic, audience));
  return { type: "ack", payload: { published: await Promise.all(published) } };
};

/** The topics meant. */
function topicsOf({ topic, user_ids, conversation_id, type }: ClientPayload<"publish">): string[] {
  if (conversation_id !== undefined) return [conversationTopic(conversation_id)];
  if (user_ids !== undefined)
    return [...new Set(user_ids)].map(type === "notification" ? notificationsTopic : userTopic);
  if (parseTopic(topic!) === null) {
    throw new ProtocolError("invalid_payload", "This is not the whole name of a topic.", { field: "payload.topic" });
  }
  return [topic!];
}

async function publishTo(
  { from, payload, services, correlationId }: Request<"publish">,
  topic: string,
  audience: Audience,
) {
  const { type, payload: body, event_key } = payload;
  const canBeLogged = isLogged(parseTopic(topic)!);
  if (payload.logged === true && !canBeLogged) {
    throw new ProtocolError("invalid_payload", "Events of this topic are not logged.", { field: "payload.logged" });
  }
  if (!(payload.logged ?? canBeLogged)) {
    services.broadcaster.toTopic(topic, { type, payload: body }, audience);
    return { topic };
  }
  const { seq, position, duplicate } = await services.publisher.append(
    {
      id: services.newId(),
      topic,
      type,
      payload: JSON.stringify(body),
      createdAt: services.now(),
      ...(type === "message.new" && typeof body.sender_id === "string" ? { senderId: body.sender_id } : {}),
      ...(event_key === undefined ? {} : { idempotencyKey: `event:${from.userId}:${topic}:${event_key}` }),
    },
    { audience, correlationId },
  );
  return { topic, seq, position, ...(event_key === undefined ? {} : { duplicate }) };
}
