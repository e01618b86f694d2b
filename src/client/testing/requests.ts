/** Answers each request as the server would, but for what only a service or an administrator may ask. */
import type { ClientPayloads, JsonObject, ServerPayloads } from "../wire.ts";
import { type FakeConnection, Refusal } from "./connections.ts";
import type { LoggedEvent } from "./log.ts";
import type { FakeSubscriptions, World } from "./subscribing.ts";

/** Of the application's own event types which there are, and which of them the log keeps [MSG4]. */
export type FakeEvents = Record<string, { logged: boolean }>;

export interface RequestWorld extends World {
  subscriptions: FakeSubscriptions;
  events: FakeEvents;
}

/** The requests of users; all others are forbidden. */
type UserRequest = Exclude<keyof ClientPayloads, `admin.${string}` | "publish" | "authenticate">;

interface Asked<T extends UserRequest> {
  world: RequestWorld;
  from: FakeConnection;
  userId: string;
  payload: ClientPayloads[T];
}

type ReplyType = "ack" | "pong" | "subscribed" | "unsubscribed" | "history" | "members" | "presence.update";
type Answer = { [T in ReplyType]: { type: T; payload: ServerPayloads[T] } }[ReplyType];

const ack = (payload: ServerPayloads["ack"] = {}): Answer => ({ type: "ack", payload });

const acceptedAs = ({ event, isDuplicate }: { event: LoggedEvent; isDuplicate: boolean }) => ({
  ...{ topic: event.topic, seq: event.seq, position: event.position, created_at: event.timestamp },
  duplicate: isDuplicate,
});

/** The answer to an amendment: null says that it was so already [MSG2]. */
const amended = (
  { conversation_id, message_id }: { conversation_id: string; message_id: string },
  event: LoggedEvent | null,
) =>
  ack(
    event === null
      ? { message_id, topic: `conversation:${conversation_id}`, duplicate: true }
      : {
          ...{ message_id, topic: event.topic, seq: event.seq, position: event.position },
          ...{ at: event.timestamp, duplicate: false },
        },
  );

const by = ({ userId, from }: { userId: string; from: FakeConnection }) => ({ userId, connection: from });

function mark(kind: "read" | "delivered", asked: Asked<"mark.read" | "mark.delivered">): Answer {
  const { world, payload } = asked;
  const { conversation_id: id, message_ids: ids } = payload;
  world.chat.conversation(id, asked.userId);
  const named = world.log.messagesOf(id).filter((it) => ids?.includes(it.payload.message_id));
  const upToSeq = payload.up_to_seq ?? Math.max(0, ...named.map(({ seq }) => seq));
  const isPrivate = "private" in payload && payload.private === true;
  return ack(world.chat.mark(id, by(asked), { kind, upToSeq, isPrivate }));
}

function history({ world, from, payload }: Asked<"history">): Answer {
  const { topic, before_seq: before = Number.POSITIVE_INFINITY, after_seq: after, limit = 50, types } = payload;
  if (world.subscriptions.refusedOf(from, [topic]).length > 0)
    throw new Refusal("forbidden", { field: "payload.topic" });
  const found = world.log
    .eventsOf(topic)
    .filter(({ seq, type }) => seq < before && seq > (after ?? 0) && (types?.includes(type) ?? true));
  const events = after === undefined ? found.slice(-limit) : found.slice(0, limit);
  return { type: "history", payload: { topic, events, has_more: found.length > events.length } };
}

function members({ world, userId, payload }: Asked<"members">): Answer {
  const { conversation_id, after = "", limit = 100 } = payload;
  const conversation = world.chat.conversation(conversation_id, userId);
  const rest = [...conversation.members.keys()].sort().filter((id) => id > after);
  const user_ids = rest.slice(0, limit);
  const may_not_write = user_ids.filter((id) => conversation.mayNotWrite.has(id));
  const next = rest.length > limit ? user_ids.at(-1)! : null;
  return { type: "members", payload: { conversation_id, user_ids, may_not_write, next } };
}

function sendEvent({ world, from, userId, payload }: Asked<"event.send">): Answer {
  const { conversation_id: id, type, payload: data, client_event_id: key } = payload;
  const known = world.events[type];
  if (known === undefined) throw new Refusal("forbidden", { field: "payload.type" });
  if (known.logged) return ack(acceptedAs(world.chat.postEvent(id, by({ userId, from }), { type, data, key })));
  world.chat.passOn(id, by({ userId, from }), { type, data, key });
  return ack();
}

const answers: { [T in UserRequest]: (asked: Asked<T>) => Answer } = {
  ping: ({ world }) => ({ type: "pong", payload: { server_time: world.log.moment(), cursor: world.log.cursor } }),
  subscribe: ({ world, from, payload: { topics, filters, since } }) => {
    const names = world.subscriptions.topicsOf(from, topics, filters);
    world.subscriptions.follow(from, topics, filters);
    return { type: "subscribed", payload: world.subscriptions.subscribe(from, names, since) };
  },
  unsubscribe: ({ world, from, payload: { topics, filters } }) => {
    const names = world.subscriptions.topicsOf(from, topics, filters);
    if (filters === undefined) for (const name of topics) from.followed.delete(name);
    return { type: "unsubscribed", payload: { topics: names.filter((topic) => from.topics.delete(topic)) } };
  },
  ack: ({ world, from, payload: { cursor } }) => {
    if (world.log.positionOf(cursor) === null) throw new Refusal("invalid_payload", { field: "payload.cursor" });
    world.subscriptions.acknowledge(from, cursor);
    return ack({ cursor });
  },
  history,
  members,
  "message.send": (asked) => {
    const { conversation_id: id, client_message_id: key, content } = asked.payload;
    const posted = asked.world.chat.post(id, by(asked), { content, key });
    return ack({ message_id: String(posted.event.payload.message_id), ...acceptedAs(posted) });
  },
  "message.edit": (asked) => {
    const { message_id: id, content } = asked.payload;
    return amended(asked.payload, asked.world.chat.edit(id, by(asked), content));
  },
  "message.delete": (asked) => {
    const { message_id: id } = asked.payload;
    return amended(asked.payload, asked.world.chat.delete(id, by(asked)));
  },
  "reaction.add": (asked) => {
    const { message_id: id, reaction } = asked.payload;
    return amended(asked.payload, asked.world.chat.react(id, by(asked), { reaction, added: true }));
  },
  "reaction.remove": (asked) => {
    const { message_id: id, reaction } = asked.payload;
    return amended(asked.payload, asked.world.chat.react(id, by(asked), { reaction, added: false }));
  },
  "event.send": sendEvent,
  "mark.read": (asked) => mark("read", asked),
  "mark.delivered": (asked) => mark("delivered", asked),
  "presence.update": ({ world, userId, from, payload }) => {
    world.presence.update(userId, payload, from);
    return ack();
  },
  "presence.query": ({ world, userId, payload }) => ({
    type: "presence.update",
    payload: { users: [...new Set(payload.user_ids)].map((id) => world.presence.of(id, userId)) },
  }),
  "typing.start": (asked) => {
    asked.world.chat.type(asked.payload.conversation_id, by(asked), true);
    return ack();
  },
  "typing.stop": (asked) => {
    asked.world.chat.type(asked.payload.conversation_id, by(asked), false);
    return ack();
  },
  "call.offer": ({ world, from, userId, payload }) => {
    const { to_user_id: to } = payload;
    if (to !== undefined && !world.presence.maySee(userId, to)) throw new Refusal("forbidden");
    world.calls.offer({ userId, deviceId: from.deviceId }, payload);
    return ack();
  },
  "call.answer": ({ world, from, userId, payload }) => {
    world.calls.answer({ userId, deviceId: from.deviceId }, payload);
    return ack();
  },
  "call.ice": ({ world, from, userId, payload }) => {
    world.calls.ice({ userId, deviceId: from.deviceId }, payload);
    return ack();
  },
  "call.hangup": ({ world, from, userId, payload }) => {
    world.calls.hangUp({ userId, deviceId: from.deviceId }, payload);
    return ack();
  },
};

/** @throws Refusal where it is not done */
export function answer(
  world: RequestWorld,
  from: FakeConnection,
  { type, payload }: { type: string; payload: JsonObject },
): Answer {
  if (type === "publish" || type.startsWith("admin.")) throw new Refusal("forbidden");
  if (!Object.hasOwn(answers, type)) throw new Refusal("unknown_type", { field: "type" });
  if (from.userId === null && type !== "ping") throw new Refusal("not_authenticated");
  const reply = answers[type as UserRequest] as (asked: Asked<never>) => Answer;
  return reply({ world, from, userId: from.userId ?? "", payload: payload as never });
}
