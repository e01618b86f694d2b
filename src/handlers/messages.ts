/** Handles messages of conversations: `message.send`, and `history` for scrolling back [MSG1] [LOG8]. */
import { contentDigest, idempotencyKey } from "../broadcast/idempotency-key.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { WireFormat } from "../protocol/limits.ts";
import { conversationTopic, parseTopic } from "../protocol/topic.ts";
import type { AppendedEvent, LoggedEvent } from "../storage/ports.ts";
import type { Handler, PipelinedHandler, Reply } from "./context.ts";
import { requireMember } from "./require-member.ts";

/** Characters of payload that one page of history has, unless its only event has more; what must be converted has fewer. */
const pageCharacters: Record<WireFormat, number> = { json: 1024 * 1024, protobuf: 256 * 1024 };

export const send: PipelinedHandler<"message.send", "config" | "directory" | "publisher" | "now" | "newId"> = async (
  request,
) => {
  const { from, payload, services, correlationId } = request;
  const { config, publisher } = services;
  const { conversation_id, client_message_id, content } = payload;
  if (!config.messages.accept)
    throw new ProtocolError("forbidden", "Messages are sent by the application's backend here.");
  await requireMember(request, { joins: true, writes: true });
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
      once: {
        keys: [idempotencyKey(["sent", from.userId, conversation_id], client_message_id)],
        digest: contentDigest(content),
      },
    },
    { audience: { except: from }, correlationId },
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

export const history: Handler<"history", "subscriptions" | "log"> = async ({ from, payload, services }) => {
  const topic = parseTopic(payload.topic);
  if (topic === null || !(await services.subscriptions.mayRead(from, topic))) {
    throw new ProtocolError("forbidden", "You may not read this topic.", { field: "payload.topic" });
  }
  const { before_seq: beforeSeq, after_seq: afterSeq, limit } = payload;
  const charactersMax = pageCharacters[from.format];
  const page = await services.log.page({
    topic: topic.name,
    limit,
    // No text has fewer bytes than characters.
    bytesMax: charactersMax,
    ...(beforeSeq === undefined ? {} : { beforeSeq }),
    ...(afterSeq === undefined ? {} : { afterSeq }),
  });
  const events = afterSeq === undefined ? newestOf(page.events, charactersMax) : oldestOf(page.events, charactersMax);
  const hasMore = page.more || events.length < page.events.length;
  const shown = events.map(shownEvent).join(",");
  return {
    type: "history",
    text: `{"topic":${JSON.stringify(topic.name)},"events":[${shown}],"has_more":${hasMore}}`,
  };
};

/** JSON text of the event. */
function shownEvent({ payload, createdAt, ...event }: LoggedEvent): string {
  const head = JSON.stringify({ ...event, timestamp: new Date(createdAt).toISOString() });
  return `${head.slice(0, -1)},"payload":${payload}}`;
}

/** As many events from the start as one answer should carry, at least one: a slow client must be able to take it [CON7]. */
function oldestOf(events: LoggedEvent[], charactersMax: number): LoggedEvent[] {
  let characters = 0;
  const end = events.findIndex(({ payload }, index) => (characters += payload.length) > charactersMax && index > 0);
  return end === -1 ? events : events.slice(0, end);
}

const newestOf = (events: LoggedEvent[], charactersMax: number) =>
  oldestOf(events.toReversed(), charactersMax).toReversed();
