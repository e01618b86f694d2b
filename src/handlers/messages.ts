/** Handles messages of conversations: `message.send` [MSG1]. */
import { contentDigest, idempotencyKey } from "../broadcast/idempotency-key.ts";
import { momentText } from "../ground/moments.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { conversationTopic } from "../protocol/topic.ts";
import type { AppendedEvent, Once } from "../storage/ports.ts";
import type { PendingReply, PipelinedHandler, Reply, Request } from "./context.ts";
import { isKnownToWrite, requireMember } from "./require-member.ts";
import { sentBefore } from "./sent-before.ts";

type Needs = "config" | "directory" | "log" | "publisher" | "now" | "newId";
type SendRequest = Request<"message.send", Needs>;

export const send: PipelinedHandler<"message.send", Needs> = (request) => {
  const { from, payload, services } = request;
  const { conversation_id, client_message_id, content } = payload;
  const once = {
    keys: [idempotencyKey(["sent", from.userId, conversation_id], client_message_id)],
    digest: contentDigest(content),
  };
  // Mostly so: people say more than one thing, and nobody is waited for.
  if (services.config.messages.accept && isKnownToWrite(request)) return append(request, once);
  return sendOnceAllowed(request, once);
};

async function sendOnceAllowed(request: SendRequest, once: Once): Promise<Reply | PendingReply> {
  const first = await sentBefore(request, once, async () => {
    if (!request.services.config.messages.accept)
      throw new ProtocolError("forbidden", "Messages are sent by the application's backend here.");
    await requireMember(request, { joins: true, writes: true });
  });
  return first === undefined ? append(request, once) : acknowledgementOf(first);
}

function append({ from, payload, services, correlationId, span }: SendRequest, once: Once): PendingReply {
  const { conversation_id, client_message_id, content } = payload;
  const createdAt = services.now();
  const id = services.newId();
  const message = {
    message_id: id,
    client_message_id,
    conversation_id,
    sender_id: from.userId,
    content,
    created_at: momentText(createdAt),
  };
  const appended = services.publisher.append(
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
}

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
      created_at: momentText(createdAt),
      duplicate,
    },
  };
}
