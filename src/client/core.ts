/** Says what the parts of the client are to each other: the one connection, wherever it is, and those that live from it. */
import type { ClientPayloads, JsonObject, ReplyTypes, ServerPayloads } from "./wire.ts";

/** Names what is followed, as `subscribe` does. */
export type Scope = Pick<ClientPayloads["subscribe"], "topics" | "filters">;

export type RequestType = keyof ClientPayloads;
export type Reply<T extends RequestType> = ServerPayloads[T extends keyof ReplyTypes ? ReplyTypes[T] : "ack"];

/** One message of the server that answers nothing [ENV2]. */
export interface ServerEvent<Payload = JsonObject> {
  id: string;
  type: string;
  payload: Payload;
  /** RFC 3339, UTC. */
  timestamp: string;
  /** The three are there on logged events only. */
  topic?: string;
  seq?: number;
  position?: number;
}

export type Subscribed = ServerPayloads["subscribed"];
export type SubscribedTopic = Subscribed["topics"][number];

/**
 * Where the connection is. `stopped`: nothing happens until `start()`; `waiting`: it comes back by itself; `connecting`:
 * from the first byte until all that was missed is here; `live`.
 */
export type ConnectionState =
  | { status: "stopped"; reason: StopReason; code?: number; message?: string }
  | {
      status: "waiting";
      reason: "offline" | "closed" | "refused" | "draining" | "no_token";
      code?: number;
      retryAt: number;
    }
  | { status: "connecting" }
  | { status: "live" };

/** Why it does not come back by itself: asked to, or what the close code means [ENV5]. */
export type StopReason =
  | "new"
  | "stopped"
  | "signed_out"
  | "protocol_abuse"
  | "authentication"
  | "identity_change"
  | "version"
  | "replaced"
  | "revoked"
  | "too_many_devices";

/** Tells what happens, in the order in which it is to be taken [LOG3]. */
export type News =
  /** An event of others, or of this user's other devices: each once, none missing between two gaps. */
  | { kind: "event"; event: ServerEvent }
  /** A `subscribed`: what was asked for, what came by itself, what came back. Its snapshots stand at their place among the events. */
  | { kind: "subscribed"; topics: SubscribedTopic[] }
  /**
   * Nothing more is heard of these. Without a reason the last one here has let them go; `access_revoked`: the server has taken them, or did
   * not give them back when it was asked for them again.
   */
  | { kind: "unsubscribed"; topics: string[]; reason?: "access_revoked" | "in_log" }
  /** Of these topics something is missing: forget what is kept of them and load anew; their `subscribed` follows [LOG4]. */
  | { kind: "gap"; topics: string[] }
  /**
   * Something in the outbox was taken, or asked for past it: `ack` of it, as if it were the event that the others get [SUB6]. Told before the
   * entry goes.
   */
  | { kind: "sent"; entry: OutboxEntry; ack: ServerPayloads["ack"] }
  /** Another user is here, or this one has signed out, and nothing is kept any more: forget everything. */
  | { kind: "forgotten" };

export type Unlisten = () => void;

/** Tells the time and waits, so that a test may turn it by hand. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Runs it once, after so many milliseconds. @returns what calls it off */
  after(delayMs: number, run: () => void): Unlisten;
}

/** Names the requests that are written down until the server has it, in order, over reloads and reconnects [LOG2]. */
export type OutboxType =
  | "message.send"
  | "message.edit"
  | "message.delete"
  | "reaction.add"
  | "reaction.remove"
  | "event.send"
  | "mark.read"
  | "mark.delivered";

export interface OutboxEntry<T extends OutboxType = OutboxType> {
  /** Of a `message.send` its `client_message_id`. */
  id: string;
  type: T;
  payload: ClientPayloads[T];
  /** Milliseconds since 1970. */
  createdAt: number;
  /** `failed`: the server refused it for good; it waits for `retry` or `discard`, and holds nothing up. */
  state: "pending" | "failed";
  error?: { code: string; message: string; field?: string };
}

export interface Outbox {
  readonly entries: readonly OutboxEntry[];
  onChange(listener: () => void): Unlisten;
  /** Kept before it resolves. Marks of one conversation and kind take each other's place. @throws ClientError `outbox_full`; `stopped` after `signOut` */
  add<T extends OutboxType>(type: T, payload: ClientPayloads[T], id?: string): Promise<OutboxEntry>;
  /** Another content of a `message.send` that has not left yet. @returns false where it has */
  replace(id: string, payload: JsonObject): Promise<boolean>;
  retry(id: string): Promise<void>;
  discard(id: string): Promise<void>;
}

export interface RequestOptions {
  /** Milliseconds until it is given up with `timeout`; 15,000 where left out. Waits for the connection meanwhile. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/**
 * The connection as every tab has it: in the tab that leads it is the connection itself, in the others a line to it. What a
 * tab follows is counted: the last one to leave a topic unsubscribes it.
 */
export interface Core {
  /** Null until somebody is known: from the server, or from what was kept. */
  readonly userId: string | null;
  readonly deviceId: string | null;
  /** True where the connection is here; what is to be done once and not by each tab is done there. */
  readonly isLead: boolean;
  readonly state: ConnectionState;
  onState(listener: (state: ConnectionState) => void): Unlisten;
  onNews(listener: (news: News) => void): Unlisten;
  /**
   * @throws ServerError what the server answers; ClientError `timeout`, `stopped`, `too_large`, `too_many_requests`, and of what must not
   * be asked twice `connection_lost` or `lead_lost`; the signal's reason where it was aborted
   */
  request<T extends RequestType>(type: T, payload: ClientPayloads[T], options?: RequestOptions): Promise<Reply<T>>;
  /**
   * Subscribes now and after every reconnect, until it is let go. Where all of the topics are subscribed already the server is
   * asked all the same, so that whoever asks gets a snapshot.
   */
  follow(
    topics: string[],
    filters?: ClientPayloads["subscribe"]["filters"],
  ): { ready: Promise<Subscribed>; stop: Unlisten };
  readonly outbox: Outbox;
  /** Has what it lists written together with the cursor. */
  keep(kept: Kept): void;
  start(): void;
  /** Closes with 1000: this user goes [PRE1]. What is in the outbox stays. @returns resolves once what is to be kept is written */
  stop(): void | Promise<void>;
  /** Stops, and wipes what was kept of this user. */
  signOut(): Promise<void>;
}

/** Says what this device has had of the log, and of what that is all there was. */
export interface Had {
  place: {
    had(topic: string): number | undefined;
    take(event: Pick<ServerEvent, "topic" | "seq">): boolean;
    begin(topic: string, seq?: number): void;
    noteSent(ack: ServerPayloads["ack"]): void;
    forget(topic: string): void;
    forgetAll(): void;
  };
  covered: Set<string>;
}

/** The connection itself, which one tab has for all of a browser; `connection.ts` is it. */
export interface Connection extends Core {
  /** Resolves once it is known what was kept. */
  readonly loaded: Promise<void>;
  /**
   * Has what is kept put right before `start`, by what was told in this tab by another that has gone since it was written: none of that is
   * told again, and what follows is after it.
   */
  catchUp(take: (had: Had) => void): void;
  /** Leaves it to another tab, which goes on as the same device: closes with 4000, and neither tells nor writes anything after it. */
  leave(): void;
  /** @returns resolves once the line is closed and what is to be kept is written */
  stop(): Promise<void>;
}

/** Where things are kept on the device: a map whose writes are whole or not at all. */
export interface Store {
  /** All whose key begins so, in the order of keys. Values are JSON; what is read is nobody else's. */
  read(prefix: string): Promise<[key: string, value: unknown][]>;
  /** `undefined` removes. All of them or none. */
  write(changes: readonly [key: string, value: unknown][]): Promise<void>;
  clear(): Promise<void>;
}

/**
 * Lists what is kept beside the cursor: the models say what has changed of theirs since they were last asked, and it is written in
 * one piece with the cursor that it belongs to, by the tab that leads.
 */
export interface Kept {
  takeChanges(): [key: string, value: unknown][];
}
