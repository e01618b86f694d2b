/** Handles `event.send`: an application's own event by a client, of a type that the configuration names [MSG4]. */
import { contentDigest, idempotencyKey } from "../broadcast/idempotency-key.ts";
import { SettingError } from "../config/faults.ts";
import type { Config } from "../config/schema.ts";
import { momentText } from "../ground/moments.ts";
import { clientPayloads } from "../protocol/client.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { serverPayloads } from "../protocol/server.ts";
import { conversationTopic } from "../protocol/topic.ts";
import type { AppendedEvent, NewEvent, Once } from "../storage/ports.ts";
import { ack, type PendingReply, type PipelinedHandler, type Reply, type Request } from "./context.ts";
import { requireMember } from "./require-member.ts";
import { sentBefore } from "./sent-before.ts";

type Needs = "config" | "directory" | "log" | "publisher" | "broadcaster" | "now" | "newId";

interface OwnEvent {
  type: string;
  payload: Record<string, unknown>;
}

/** Says whether a type is the protocol's own, which no client may send as an event of the application's. */
const isOurs = (type: string) =>
  Object.hasOwn(serverPayloads, type) || Object.hasOwn(clientPayloads, type) || type.startsWith("admin.");

/** @throws SettingError where the configuration lets clients send what only the service says */
export function checkEventTypes({ events }: Pick<Config, "events">): void {
  const ours = Object.keys(events).filter(isOurs);
  if (ours.length > 0)
    throw new SettingError(
      "events",
      `${ours.join(", ")}: types of the protocol's own, or kept for it, are not for clients to send`,
    );
}

export const sendEvent: PipelinedHandler<"event.send", Needs> = async (request) => {
  const { from, payload, services } = request;
  // Of now: what follows is taken up only once this has its place.
  const { ahead } = from;
  const { conversation_id, type, client_event_id, payload: data } = payload;
  const declared = Object.hasOwn(services.config.events, type) ? services.config.events[type] : undefined;
  // One of a type that is not declared any more may have been logged once.
  const isLogged = declared?.logged ?? true;
  const once = isLogged ? onceOf(request) : undefined;
  const first = await sentBefore(request, once, async () => {
    if (declared === undefined)
      throw new ProtocolError("forbidden", "Clients do not send events of this type here.", { field: "payload.type" });
    await requireMember(request, { joins: true, writes: true });
  });
  if (first !== undefined) return acknowledgementOf(first);
  const event = {
    type,
    payload: {
      conversation_id,
      user_id: from.userId,
      ...(client_event_id === undefined ? {} : { client_event_id }),
      data,
    },
  };
  if (isLogged) return append(request, event, once);
  // It has no place in the log's queue that would keep it behind what the connection has sent before [ENV7].
  await ahead;
  services.broadcaster.toTopic(conversationTopic(conversation_id), event, { except: from });
  return ack;
};

/** @returns undefined where the sender has given it no key */
function onceOf({ from, payload }: Request<"event.send">): Once | undefined {
  const { conversation_id, type, client_event_id: key, payload: data } = payload;
  if (key === undefined) return undefined;
  return {
    keys: [idempotencyKey(["event", from.userId, conversation_id], key)],
    digest: contentDigest({ type, data }),
  };
}

function append(
  { from, payload, services, correlationId, span }: Request<"event.send", Needs>,
  { type, payload: said }: OwnEvent,
  once: Once | undefined,
): PendingReply {
  const event: NewEvent = {
    id: services.newId(),
    topic: conversationTopic(payload.conversation_id),
    type,
    payload: JSON.stringify(said),
    createdAt: services.now(),
  };
  if (once !== undefined) event.once = once;
  const appended = services.publisher.appendAll([event], { audience: { except: from }, correlationId, span });
  return { events: 1, settled: appended.then(([first]) => acknowledgementOf(first!)) };
}

function acknowledgementOf({ topic, seq, position, createdAt, duplicate, conflict }: AppendedEvent): Reply {
  if (conflict)
    throw new ProtocolError("conflict", "You have sent something else here under this client_event_id.", {
      field: "payload.client_event_id",
    });
  return {
    type: "ack",
    payload: { topic, seq, position, created_at: momentText(createdAt), duplicate },
  };
}
