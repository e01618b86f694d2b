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
  /** `client_message_id`s that it sent. */
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
  id: string;
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
  /** By topic: what the log's pages held once all was at rest. */
  logs: Map<string, Map<number, LoggedMessage>>;
}

export function factsOf(history: History): Facts {
  const devices = history.devices.map(deviceFacts);
  const facts: Facts = { history, devices, acked: devices.flatMap(ackedBy), known: new Map(), logs: new Map() };
  for (const { connections } of devices) {
    for (const { events, exchanges } of connections) {
      for (const { event } of events) addTo(facts.known, event);
      for (const { event, order } of pagesOf(exchanges)) {
        addTo(facts.known, event);
        if (history.rest !== null && order > history.rest.order) addTo(facts.logs, event);
      }
    }
  }
  return facts;
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
export function ackedBefore({ connections }: DeviceFacts, order: number): number {
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
  for (const { payload } of sendsOf(device)) facts.sent.add(payload.client_message_id);
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

/** All that the device ever sent. */
export function sendsOf({ earlier = [], connections }: DeviceHistory): { payload: any }[] {
  return [...earlier, ...connections].flatMap(({ entries }) =>
    entries.flatMap((entry) => (entry.kind === "request" && entry.type === "message.send" ? [entry] : [])),
  );
}

function ackedBy(device: DeviceFacts): Acked[] {
  return device.connections.flatMap(({ exchanges }) =>
    repliesTo(exchanges, "message.send")
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
  );
}

function addTo(topics: Map<string, Map<number, LoggedMessage>>, event: LoggedMessage): void {
  const events = topics.get(event.topic) ?? new Map<number, LoggedMessage>();
  topics.set(event.topic, events);
  if (!events.has(event.seq)) events.set(event.seq, event);
}
