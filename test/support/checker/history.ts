/** Holds what clients did and saw, as the judge reads it: plain data, in one order over all of them. */
import type { Received } from "../client.ts";

/** `order` grows over all clients of a run; it stands for time where clocks would lie. */
export type Entry =
  | { order: number; kind: "request"; id: string; type: string; payload: any }
  | { order: number; kind: "message"; message: Received };

export interface ConnectionHistory {
  url: string;
  openedAt: number;
  /** Asked for by `?since=`, for the topics that are subscribed by themselves [SUB2]. */
  since: string | null;
  entries: Entry[];
  /** When its client said that everything was back; null: never. Left out: once its first `subscribe` was answered. */
  liveAt?: number | null;
  /** Null: open to the end. `byClient`: the client wanted it so. */
  closed: { order: number; code: number; byClient: boolean } | null;
}

export interface DeviceHistory {
  userId: string;
  deviceId: string;
  connections: ConnectionHistory[];
  /** Came before it began anew: only what it sent there counts. */
  earlier?: ConnectionHistory[];
  /** Lists what the client has told its application of the log, as far as that has kept it. */
  told?: Told[];
}

/**
 * `own`: an answer named it; `anew`: from here on the topic (null: every one) may be told again; `passed`: another line goes on, from
 * what is acknowledged by then, which may reach up to there [LOG6].
 */
export type Told =
  | { kind: "event" | "own"; topic: string; seq: number }
  | { kind: "anew"; topic: string | null; seq?: undefined }
  | { kind: "passed"; topic: null; seq?: undefined; position: number };

export type TrueStatus = "online" | "away" | "busy" | "offline";

export interface MemoryLoss {
  from: number;
  to: number;
  /** Names what lost all that it held: a node that died, or a Redis that came back empty or was another one. */
  of?: "node" | "Redis" | undefined;
}

/** Tells what a fault may take with it. */
export interface Losses {
  /** Set where what was acknowledged may be gone afterwards. */
  losesLog?: boolean | undefined;
  /** Names what lost all that it held. */
  losesMemoryOf?: MemoryLoss["of"];
}

export interface History {
  conversations: { conversationId: string; userIds: string[] }[];
  devices: DeviceHistory[];
  /** While a lone node restarted it forgot its calls: between these two orders it may have been away. */
  memoryLosses: MemoryLoss[];
  /** From here on the log may have lost what was acknowledged. */
  logLosses: { from: number }[];
  /** How long an event has to find a device before it is missed, ms; null: nobody asks [BAK3]. */
  pushAfterMs?: number | null;
  /** Types that the service lets clients send [MSG4]. */
  ownEvents?: Record<string, { logged: boolean }>;
  /** Users without any device, whom a backend adds to conversations, keeps from writing and removes. */
  ghosts?: string[];
  /** Once everything had come to rest. Null: the run has not got so far. */
  rest: {
    /** Nothing was caused after it, only looked at. */
    order: number;
    /** How each user is really there. */
    statuses: Record<string, TrueStatus>;
  } | null;
}

/** Counts the order of everything that is recorded. */
export class Recorder {
  #order = 0;
  readonly history: History = { conversations: [], devices: [], memoryLosses: [], logLosses: [], rest: null };

  next(): number {
    return ++this.#order;
  }

  addDevice({ userId, deviceId }: Pick<DeviceHistory, "userId" | "deviceId">): DeviceHistory {
    const device: DeviceHistory = { userId, deviceId, connections: [] };
    this.history.devices.push(device);
    return device;
  }

  openConnection(device: DeviceHistory, { url, since }: Pick<ConnectionHistory, "url" | "since">): ConnectionHistory {
    const connection: ConnectionHistory = { url, since, openedAt: this.next(), entries: [], closed: null };
    device.connections.push(connection);
    return connection;
  }

  noteRequest(connection: ConnectionHistory, { id, type, payload }: { id: string; type: string; payload: any }): void {
    connection.entries.push({ order: this.next(), kind: "request", id, type, payload: shortened(payload) });
  }

  noteMessage(connection: ConnectionHistory, message: Received): void {
    connection.entries.push({ order: this.next(), kind: "message", message: withShortContents(message) });
  }

  noteLive(connection: ConnectionHistory): void {
    connection.liveAt = this.next();
  }

  noteClosed(connection: ConnectionHistory, { code, byClient }: { code: number; byClient: boolean }): void {
    connection.closed = { order: this.next(), code, byClient };
  }
}

function withShortContents(message: Received): Received {
  const { type, payload } = message;
  switch (type) {
    case "history":
      return { ...message, payload: { ...payload, events: payload.events.map(withShortContents) } };
    case "subscribed":
      return { ...message, payload: { ...payload, topics: payload.topics.map(withShortLast) } };
    default:
      return { ...message, payload: shortened(payload) };
  }
}

function withShortLast(topic: any): any {
  const last = topic.snapshot?.last_message;
  return last ? { ...topic, snapshot: { ...topic.snapshot, last_message: withShortContents(last) } } : topic;
}

/** A content's place is taken by its length and its hash: that tells two apart, and a long run stays in memory. */
function shortened(payload: any): any {
  return typeof payload?.content === "string" && payload.content.length > 64
    ? { ...payload, content: `${payload.content.length} characters, ${Bun.hash(payload.content).toString(36)}` }
    : payload;
}

/** The messages of a connection that are logged events, in the order in which they came. */
export function eventsOf(connection: ConnectionHistory): LoggedSeen[] {
  return connection.entries.flatMap((entry) =>
    entry.kind === "message" && entry.message.seq !== undefined && entry.message.reply_to === undefined
      ? [{ order: entry.order, event: entry.message as LoggedMessage }]
      : [],
  );
}

export type LoggedMessage = Received & { topic: string; seq: number; position: number };
export interface LoggedSeen {
  order: number;
  event: LoggedMessage;
}

/** A request with its replies (one, where all is well). */
export interface Exchange {
  order: number;
  id: string;
  type: string;
  payload: any;
  replies: { order: number; message: Received }[];
}

export function exchangesOf(connection: ConnectionHistory): Exchange[] {
  const exchanges = new Map<string, Exchange>();
  for (const entry of connection.entries) {
    if (entry.kind === "request") {
      const { order, id, type, payload } = entry;
      exchanges.set(id, { order, id, type, payload, replies: [] });
    } else if (entry.message.reply_to !== undefined) {
      exchanges.get(entry.message.reply_to)?.replies.push({ order: entry.order, message: entry.message });
    }
  }
  return [...exchanges.values()];
}

/** When the connection was live on everything. Null: it never was. */
export function liveFrom(connection: ConnectionHistory): number | null {
  if (connection.liveAt !== undefined) return connection.liveAt;
  for (const { type, replies } of exchangesOf(connection)) {
    if (type === "subscribe" && replies[0]?.message.type === "subscribed") return replies[0].order;
  }
  return null;
}
