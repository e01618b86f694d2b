/** Works out once what several rules ask of a history: events, exchanges, what each device was owed and had asked for. */
import type { Received } from "../client.ts";
import { positionOf } from "../cursors.ts";
import {
  type ConnectionHistory,
  type DeviceHistory,
  type Exchange,
  eventsOf,
  exchangesOf,
  type History,
  type LoggedMessage,
  liveFrom,
} from "./history.ts";

export interface ConnectionFacts {
  connection: ConnectionHistory;
  exchanges: Exchange[];
  events: { order: number; event: LoggedMessage }[];
  /** Null: never live. */
  liveFrom: number | null;
}

export interface DeviceFacts {
  device: DeviceHistory;
  name: string;
  connections: ConnectionFacts[];
  /** The one that is open at the end; null: there is none. */
  present: ConnectionFacts | null;
  /** Keys of what it has said. */
  sent: Set<string>;
  /** By topic: the events' ids by `seq`. */
  received: Map<string, Map<number, string>>;
  /** By topic: the head at its first subscription; what came after it is owed. */
  baselines: Map<string, number>;
}

export interface Acked {
  device: DeviceFacts;
  clientMessageId: string;
  topic: string;
  /** Null: the answer does not say. */
  id: string | null;
  seq: number;
  position: number;
  duplicate: boolean;
}

export interface Facts {
  history: History;
  devices: DeviceFacts[];
  acked: Acked[];
  /** By topic and `seq`: every event that anybody ever saw, in the log's pages too; the first sight of it. */
  known: Map<string, Map<number, LoggedMessage>>;
  /** By topic: what the log's pages held when it was read to its end last, once all was at rest. */
  logs: Map<string, Map<number, LoggedMessage>>;
}

export function factsOf(history: History): Facts {
  const devices = history.devices.map(deviceFacts);
  const facts: Facts = { history, devices, acked: devices.flatMap(ackedBy), known: new Map(), logs: new Map() };
  for (const { connections } of devices) {
    for (const { events, exchanges } of connections) {
      for (const { event } of events) addTo(facts.known, event);
      for (const { event } of pagesOf(exchanges)) addTo(facts.known, event);
      if (history.rest !== null) readLogs(facts.logs, exchanges, history.rest.order);
    }
  }
  return facts;
}

/** A reading begins at the first event and takes page after page; only one that came to its end is the log. */
function readLogs(logs: Facts["logs"], exchanges: Exchange[], restOrder: number): void {
  const readings = new Map<string, Map<number, LoggedMessage>>();
  for (const { request, message } of repliesTo(exchanges, "history")) {
    const { topic, after_seq = 0, types } = request.payload;
    if (request.order < restOrder || message.type !== "history" || types !== undefined) continue;
    if (after_seq === 0) readings.set(topic, new Map());
    const reading = readings.get(topic);
    if (reading === undefined) continue;
    for (const event of message.payload.events as LoggedMessage[]) reading.set(event.seq, event);
    if (!message.payload.has_more) logs.set(topic, reading);
  }
}

/** Events in answers to `history`, with the answer's order. */
export function pagesOf(exchanges: Exchange[]): { order: number; event: LoggedMessage }[] {
  return exchanges
    .filter(({ type }) => type === "history")
    .flatMap(({ replies }) => replies)
    .flatMap(({ order, message }) =>
      message.type === "history" ? message.payload.events.map((event: LoggedMessage) => ({ order, event })) : [],
    );
}

/** Answers to requests of one type, in their order. */
export function repliesTo(
  exchanges: Exchange[],
  type: string,
): { request: Exchange; order: number; message: Received }[] {
  return exchanges
    .filter((request) => request.type === type)
    .flatMap((request) => request.replies.map((reply) => ({ request, ...reply })));
}

/**
 * Whether a connection had asked for an event that its device may have had before: it is above the cursor given and
 * above what was said to be seen [LOG4]. On the URL nothing can be said to be seen.
 */
export function wasAskedFor(device: DeviceFacts, { connection, exchanges }: ConnectionFacts, event: LoggedMessage) {
  const isOwnTopic = event.topic.startsWith("user:") || event.topic.startsWith("notifications:");
  const since = isOwnTopic
    ? connection.since
    : (exchanges.find(({ type }) => type === "subscribe")?.payload.since ?? null);
  if (since === null) return false;
  if (since === "acked") return event.position > ackedBefore(device, connection.openedAt);
  if (typeof since === "string") return event.position > positionOf(since);
  return event.position > positionOf(since.cursor) && event.seq > (since.seen?.[event.topic] ?? 0);
}

/** The position of the cursor that the device knew to be acknowledged. */
function ackedBefore({ connections }: DeviceFacts, order: number): number {
  const cursors = connections.flatMap(({ exchanges }) =>
    repliesTo(exchanges, "ack")
      .filter((reply) => reply.message.type === "ack" && reply.order < order)
      .map((reply) => positionOf(reply.message.payload.cursor)),
  );
  return Math.max(0, ...cursors);
}

function deviceFacts(device: DeviceHistory): DeviceFacts {
  const connections = device.connections.map((connection) => ({
    connection,
    exchanges: exchangesOf(connection),
    events: eventsOf(connection),
    liveFrom: liveFrom(connection),
  }));
  const last = connections.at(-1);
  const facts: DeviceFacts = {
    device,
    name: `${device.userId}/${device.deviceId}`,
    connections,
    present: last !== undefined && last.connection.closed === null ? last : null,
    sent: new Set(),
    received: new Map(),
    baselines: new Map(),
  };
  for (const { key } of saidOn(device)) facts.sent.add(key);
  for (const { connection, events } of connections) {
    for (const { event } of events) {
      const topic = facts.received.get(event.topic) ?? new Map<number, string>();
      facts.received.set(event.topic, topic.set(event.seq, event.id));
    }
    for (const entry of connection.entries) {
      if (entry.kind !== "message" || entry.message.type !== "subscribed") continue;
      for (const { topic, seq } of entry.message.payload.topics)
        if (seq !== undefined && !facts.baselines.has(topic)) facts.baselines.set(topic, seq);
    }
  }
  return facts;
}

/** Something that somebody has said: a message or an event of the application's own, by a client, or a message by a backend. */
export interface Said {
  order: number;
  /** Tells it from all others of its author. */
  key: string;
  conversationId: string;
  content: unknown;
}

/** All that the device ever said. */
export function saidOn(device: DeviceHistory): Said[] {
  return requestsOf(device).flatMap(({ order, type, payload }): Said[] => {
    if (type === "message.send") {
      const { client_message_id: key, conversation_id: conversationId, content } = payload;
      return [{ order, key, conversationId, content }];
    }
    if (type === "event.send") {
      const { client_event_id: key, conversation_id: conversationId, payload: content } = payload;
      return [{ order, key, conversationId, content }];
    }
    if (type !== "publish" || payload.type !== "message.new") return [];
    const { message_id: key, content } = payload.payload;
    return [{ order, key, conversationId: payload.conversation_id, content }];
  });
}

/** The `key` of what was said, in the event that it has become. */
export const keyIn = ({ payload }: Pick<LoggedMessage, "payload">): string =>
  payload.client_message_id ?? payload.client_event_id ?? payload.message_id;

/** Every request of the device, also before it began anew. */
export const requestsOf = ({ earlier = [], connections }: DeviceHistory) =>
  [...earlier, ...connections].flatMap(({ entries }) =>
    entries.flatMap((entry) => (entry.kind === "request" ? [entry] : [])),
  );

function ackedBy(device: DeviceFacts): Acked[] {
  return device.connections.flatMap(({ exchanges }) => [
    ...repliesTo(exchanges, "message.send")
      .filter(({ message }) => message.type === "ack")
      .map(({ request, message: { payload } }) => ({
        device,
        clientMessageId: request.payload.client_message_id,
        topic: payload.topic,
        id: payload.message_id,
        seq: payload.seq,
        position: payload.position,
        duplicate: payload.duplicate,
      })),
    ...repliesTo(exchanges, "event.send")
      .filter(({ message }) => message.type === "ack" && message.payload.seq !== undefined)
      .map(({ request, message: { payload } }) => ({
        device,
        clientMessageId: request.payload.client_event_id,
        topic: payload.topic,
        id: null,
        seq: payload.seq,
        position: payload.position,
        duplicate: payload.duplicate,
      })),
    ...repliesTo(exchanges, "publish")
      .filter(({ request, message }) => request.payload.type === "message.new" && message.type === "ack")
      .flatMap(({ request: { payload }, message }) =>
        message.payload.published.map(({ topic, seq, position, duplicate }: any) => {
          const id = payload.payload.message_id;
          return { device, clientMessageId: id, topic, id, seq, position, duplicate };
        }),
      ),
  ]);
}

function addTo(topics: Map<string, Map<number, LoggedMessage>>, event: LoggedMessage): void {
  const events = topics.get(event.topic) ?? new Map<number, LoggedMessage>();
  topics.set(event.topic, events);
  if (!events.has(event.seq)) events.set(event.seq, event);
}
