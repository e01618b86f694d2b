/** Works out what was asked of each message and what became known of it, each with its moment: what an answer may say follows from it [MSG2] [MSG3]. */
import { type DeviceFacts, type Facts, keyIn, pagesOf, repliesTo, type Said, saidOn } from "./facts.ts";
import { type Exchange, exchangesOf, type LoggedMessage } from "./history.ts";

/** An edit, a deletion, or one side of a reaction. */
export interface Change {
  by: string;
  /** When it was first asked for; an event that nobody asked for has its own order. */
  askedAt: number;
  /** When anybody first knew that it is so. Infinite: nobody has been told. */
  knownAt: number;
  /** Null: nobody has been told its number. */
  seq: number | null;
  /** Of an edit. */
  content?: unknown;
  /** Of a reaction. */
  added?: boolean;
}

export interface MessageFacts {
  messageId: string;
  topic: string;
  seq: number;
  position: number;
  senderId: string;
  /** As it was sent. Undefined: nobody of the population has sent it. */
  content: unknown;
  askedAt: number;
  knownAt: number;
  edits: Change[];
  deletions: Change[];
  /** By `reactionKey`. */
  reactions: Map<string, Change[]>;
}

/** One sight of an event, and the span in which the log was read for it. */
export interface Sight {
  event: LoggedMessage;
  from: number;
  to: number;
  in: "history" | "a replay" | "last_message" | "an event";
}

/** Requests that change a message, by their type. */
const changing = new Set(["message.edit", "message.delete", "reaction.add", "reaction.remove"]);
export const changeTypes = new Set(["message.edited", "message.deleted", "message.reaction"]);

export const reactionKey = (userId: string, reaction: string) => `${userId} ${reaction}`;

export interface Messages {
  byId: Map<string, MessageFacts>;
  sights: Map<DeviceFacts, Sight[]>;
  /** Changes that nobody had asked for. */
  invented: LoggedMessage[];
}

const workedOut = new WeakMap<Facts, Messages>();

/** Worked out once for all rules. */
export function messagesOf(facts: Facts): Messages {
  const known = workedOut.get(facts) ?? workOut(facts.devices);
  workedOut.set(facts, known);
  return known;
}

function workOut(devices: DeviceFacts[]): Messages {
  const messages: Messages = { byId: new Map(), sights: new Map(), invented: [] };
  const said = saidBy(devices);
  for (const device of devices) {
    messages.sights.set(device, sightsOn(device));
    for (const { exchanges } of device.connections) {
      for (const { request, order, message } of repliesTo(exchanges, "message.send")) {
        if (message.type !== "ack") continue;
        const { message_id: messageId, topic, seq, position } = message.payload;
        const key = request.payload.client_message_id;
        noteMessage(messages, said, { messageId, key, topic, seq, position, senderId: device.device.userId, order });
      }
    }
  }
  for (const { event, to } of [...messages.sights.values()].flat()) {
    if (event.type !== "message.new") continue;
    const { message_id: messageId, sender_id: senderId } = event.payload;
    const { topic, seq, position } = event;
    noteMessage(messages, said, { messageId, key: keyIn(event), topic, seq, position, senderId, order: to });
  }
  noteChanges(messages, devices);
  return messages;
}

/** Everything that was ever said, by author and key, also where nobody knows what became of it. */
function saidBy(devices: DeviceFacts[]): Map<string, Said> {
  const said = new Map<string, Said>();
  for (const { device } of devices) {
    for (const it of saidOn(device)) {
      const key = `${device.userId} ${it.key}`;
      if (!said.has(key)) said.set(key, it);
    }
  }
  return said;
}

function noteMessage(
  { byId }: Messages,
  said: Map<string, Said>,
  seen: Pick<MessageFacts, "messageId" | "topic" | "seq" | "position" | "senderId"> & { key: string; order: number },
): void {
  const { messageId, key, topic, seq, position, senderId, order } = seen;
  const known = byId.get(messageId);
  if (known !== undefined) {
    known.knownAt = Math.min(known.knownAt, order);
    return;
  }
  const origin = said.get(`${senderId} ${key}`);
  byId.set(messageId, {
    ...{ messageId, topic, seq, position, senderId, content: origin?.content },
    ...{ askedAt: origin?.order ?? order, knownAt: order },
    ...{ edits: [], deletions: [], reactions: new Map() },
  });
}

/** Every sight of an event of a conversation on a device. */
function sightsOn({ connections }: DeviceFacts): Sight[] {
  return connections.flatMap(({ exchanges, events }) => {
    const replays = replaysOn(exchanges, events);
    const pages = exchanges.filter(({ type }) => type === "history");
    return [
      ...events.map(({ order, event }): Sight => {
        const from = replays.get(event);
        return { event, from: from ?? 0, to: order, in: from === undefined ? "an event" : "a replay" };
      }),
      ...pages.flatMap((page) =>
        pagesOf([page]).map(({ order, event }): Sight => ({ event, from: page.order, to: order, in: "history" })),
      ),
      ...repliesTo(exchanges, "subscribe").flatMap(({ request, order, message }) =>
        message.type !== "subscribed"
          ? []
          : message.payload.topics.flatMap(({ snapshot }: any): Sight[] => {
              const event = snapshot?.last_message;
              return event ? [{ event, from: request.order, to: order, in: "last_message" }] : [];
            }),
      ),
    ].filter(({ event }) => event.topic.startsWith("conversation:"));
  });
}

/** Finds what was read from the log because somebody came back, with the order of the asking: so many events of each topic as the answer says. */
function replaysOn(
  exchanges: Exchange[],
  events: { order: number; event: LoggedMessage }[],
): Map<LoggedMessage, number> {
  const replays = new Map<LoggedMessage, number>();
  for (const { request, message } of repliesTo(exchanges, "subscribe")) {
    if (message.type !== "subscribed") continue;
    for (const { topic, replayed = 0, recovered } of message.payload.topics) {
      if (replayed === 0 || recovered === false) continue;
      const later = events.filter(({ order, event }) => event.topic === topic && order > request.order);
      for (const { event } of later.slice(0, replayed)) replays.set(event, request.order);
    }
  }
  return replays;
}

function noteChanges({ byId, sights, invented }: Messages, devices: DeviceFacts[]): void {
  const bySeq = new Map<string, Change>();
  /** Without a number so far. */
  const open = new Map<string, Change[]>();
  for (const device of devices) {
    const { userId } = device.device;
    for (const connection of device.device.earlier ?? [])
      for (const exchange of exchangesOf(connection)) noteAsked(exchange, userId);
    for (const { exchanges } of device.connections) for (const exchange of exchanges) noteAsked(exchange, userId, true);
  }
  for (const { event, to } of [...sights.values()].flat()) {
    if (!changeTypes.has(event.type)) continue;
    const place = `${event.topic} ${event.seq}`;
    const { by, content, added } = changeIn(event);
    const change = bySeq.get(place) ?? open.get(sameness(event, by))?.shift();
    if (change === undefined) {
      const made = { by, askedAt: to, knownAt: to, seq: event.seq, content, added };
      invented.push(event);
      bySeq.set(place, made);
      add(event.payload, { ...event, change: made });
    } else {
      bySeq.set(place, change);
      change.seq = event.seq;
      change.knownAt = Math.min(change.knownAt, to);
    }
  }

  function noteAsked({ type, payload, order, replies }: Exchange, userId: string, isTold = false): void {
    if (!changing.has(type)) return;
    const ack = isTold ? replies.find(({ message }) => message.type === "ack") : undefined;
    // Where it changed nothing there is nothing to know of it.
    if (ack?.message.payload.duplicate === true) return;
    const refused = isTold && replies.some(({ message }) => message.type === "error" && !message.payload.retryable);
    if (refused) return;
    const change: Change = {
      by: userId,
      askedAt: order,
      knownAt: ack?.order ?? Number.POSITIVE_INFINITY,
      seq: ack?.message.payload.seq ?? null,
      content: payload.content,
      ...(type.startsWith("reaction.") ? { added: type === "reaction.add" } : {}),
    };
    const asked = { type: eventTypeOf(type), payload };
    add(payload, { ...asked, change });
    if (change.seq !== null) bySeq.set(`conversation:${payload.conversation_id} ${change.seq}`, change);
    else {
      const key = sameness({ ...asked, payload: { ...payload, added: change.added } }, userId);
      open.set(key, [...(open.get(key) ?? []), change]);
    }
  }

  function add(payload: any, { type, change }: { type: string; change: Change }): void {
    const message = byId.get(payload.message_id);
    if (message === undefined) return;
    if (type === "message.edited") message.edits.push(change);
    else if (type === "message.deleted") message.deletions.push(change);
    else {
      const key = reactionKey(change.by, payload.reaction);
      const told = message.reactions.get(key) ?? [];
      told.push(change);
      message.reactions.set(key, told);
    }
  }
}

const eventTypeOf = (request: string) =>
  request === "message.edit" ? "message.edited" : request === "message.delete" ? "message.deleted" : "message.reaction";

/** Tells what was asked for and what happened apart: these are the same. */
const sameness = ({ type, payload }: { type: string; payload: any }, by: string) =>
  JSON.stringify([type, by, payload.message_id, payload.content, payload.reaction, payload.added]);

function changeIn({ type, payload }: LoggedMessage): Pick<Change, "by" | "content" | "added"> {
  switch (type) {
    case "message.edited":
      return { by: payload.edited_by, content: payload.content };
    case "message.deleted":
      return { by: payload.deleted_by };
    default:
      return { by: payload.user_id, added: payload.added };
  }
}
