/** Handles messages of conversations: `message.send` [MSG1]. */
import { contentDigest, idempotencyKey } from "../broadcast/idempotency-key.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { conversationTopic } from "../protocol/topic.ts";
import type { AppendedEvent } from "../storage/ports.ts";
import type { PipelinedHandler, Reply } from "./context.ts";
import { requireMember } from "./require-member.ts";
import { sentBefore } from "./sent-before.ts";

type Needs = "config" | "directory" | "log" | "publisher" | "now" | "newId";

export const send: PipelinedHandler<"message.send", Needs> = async (request) => {
  const { from, payload, services, correlationId, span } = request;
  const { config, publisher } = services;
  const { conversation_id, client_message_id, content } = payload;
  const once = {
    keys: [idempotencyKey(["sent", from.userId, conversation_id], client_message_id)],
    digest: contentDigest(content),
  };
  const first = await sentBefore(request, once, async () => {
    if (!config.messages.accept)
      throw new ProtocolError("forbidden", "Messages are sent by the application's backend here.");
    await requireMember(request, { joins: true, writes: true });
  });
  if (first !== undefined) return acknowledgementOf(first);
  const createdAt = services.now();
  const id = services.newId();
  const message = {
    message_id: id,
    client_message_id,
    conversation_id,
    sender_id: from.userId,
    content,
    created_at: new Date(createdAt).toISOString(),
  };
  const appended = publisher.append(
    {
      id,
      topic: conversationTopic(conversation_id),
      type: "message.new",
      payload: message,
      createdAt,
      senderId: from.userId,
      once,
    },
    { audience: { except: from }, correlationId, span },
  );
  return { events: 1, settled: appended.then(acknowledgementOf) };
};

function acknowledgementOf({ id, topic, seq, position, createdAt, duplicate, conflict }: AppendedEvent): Reply {
  if (conflict)
    throw new ProtocolError("conflict", "You have sent something else here under this client_message_id.", {
      field: "payload.client_message_id",
    });
  return {
    type: "ack",
    payload: {
      message_id: id,
      topic,
      seq,
      position,
      created_at: new Date(createdAt).toISOString(),
      duplicate,
    },
  };
}
