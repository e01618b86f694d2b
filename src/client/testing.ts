/** Is `ws-service/client/testing`: a server in the memory of a test, which the client takes for the real one. */
import type { Clock } from "./core.ts";
import { FakeCalls } from "./testing/calls.ts";
import { FakeChat } from "./testing/chat.ts";
import { Connections, type ErrorCode, FakeConnection, Refusal } from "./testing/connections.ts";
import { FakeLog, type LoggedEvent } from "./testing/log.ts";
import { FakePresence, type FakeStatus } from "./testing/presence.ts";
import { answer, type FakeEvents, type RequestWorld } from "./testing/requests.ts";
import { FakeSocket, type ServerEnd, type SocketOwner } from "./testing/socket.ts";
import { FakeSubscriptions } from "./testing/subscribing.ts";
import type { ClientPayloads, Content, JsonObject, ServerPayloads } from "./wire.ts";

export { until } from "./testing/until.ts";
export type { FakeEvents, FakeStatus };

/** A request as it has arrived, of whatever type. */
export type FakeRequest = {
  [T in keyof ClientPayloads]: { type: T; payload: ClientPayloads[T]; userId: string | null; deviceId: string };
}[keyof ClientPayloads];

export interface FakeServerOptions {
  /** Conversations that there are, with their members: `{ c1: ["anna", "ben"] }`. */
  conversations?: Record<string, readonly string[]>;
  /** Lets whoever uses a conversation join it, as on a developer's own machine; else only those above are in one. */
  isOpen?: boolean;
  /** Event types of the application's own; any other is `forbidden`. */
  events?: FakeEvents;
  /** Says whose token it is, null for nobody's. Without it a token is the id of its user. */
  userOf?: (token: string) => string | null;
  clock?: Clock;
}

export interface Refusing {
  /** How many of them; 1 where left out. */
  times?: number;
  field?: string;
  retryAfterMs?: number;
}

/** Keeps no test runner waiting for a call that rings. */
const systemClock: Clock = {
  now: () => Date.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    (timer as { unref?(): void }).unref?.();
    return () => clearTimeout(timer);
  },
};

const retryable: readonly ErrorCode[] = ["rate_limited", "unavailable", "internal"];

export class FakeServer {
  /** Goes into the `webSocket` of a client's options; the `url` may be any. */
  readonly webSocket: new (
    url: string | URL,
    protocols?: string | string[],
  ) => FakeSocket;
  /** All that clients have asked since the beginning, in the order in which it came. */
  readonly requests: FakeRequest[] = [];
  readonly #connections: Connections;
  readonly #world: RequestWorld;
  readonly #userOf: (token: string) => string | null;
  readonly #refusals = new Map<string, { refusal: Refusal; times: number }>();
  readonly #held = new Map<string, (() => void)[]>();
  readonly #watchers = new Set<() => void>();
  #isReachable = true;

  constructor({
    conversations = {},
    events = {},
    isOpen = false,
    userOf = (token) => token,
    clock = systemClock,
  }: FakeServerOptions = {}) {
    this.#userOf = userOf;
    const log = new FakeLog(() => clock.now());
    this.#connections = new Connections(() => ({ id: log.newId(), timestamp: log.moment() }));
    const chat = new FakeChat(log, this.#connections, clock, isOpen);
    const presence = new FakePresence({ log, chat }, this.#connections);
    const calls = new FakeCalls(this.#connections, clock);
    const world = { log, chat, presence, calls };
    this.#world = { ...world, subscriptions: new FakeSubscriptions(world), events };
    for (const [id, members] of Object.entries(conversations)) chat.add(id, members);
    const owner: SocketOwner = {
      opened: (end, url) => this.#open(end, url),
      received: (end, text) => this.#receive(end, text),
      closed: (end, code) => this.#close(end, code),
    };
    this.webSocket = class extends FakeSocket {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(owner, url, protocols);
      }
    };
  }

  /** Requests of one type, oldest first. */
  requestsOf<T extends keyof ClientPayloads>(type: T): Extract<FakeRequest, { type: T }>[] {
    return this.requests.filter((it): it is Extract<FakeRequest, { type: T }> => it.type === type);
  }

  /** Waits until so many requests of a type have come. @returns the last of them */
  received<T extends keyof ClientPayloads>(type: T, count = 1): Promise<Extract<FakeRequest, { type: T }>> {
    return new Promise((resolve) => {
      const look = () => {
        const request = this.requestsOf(type)[count - 1];
        if (request === undefined) return;
        this.#watchers.delete(look);
        resolve(request);
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** Users with a connection, each once. */
  get connected(): string[] {
    return [...new Set(this.#connections.all.flatMap(({ userId }) => userId ?? []))];
  }

  /** Makes a conversation, or adds to its members. */
  addMembers(conversationId: string, userIds: readonly string[]): void {
    const { chat, subscriptions } = this.#world;
    chat.add(conversationId, userIds);
    for (const connection of userIds.flatMap((id) => this.#connections.of(id)))
      subscriptions.joined(connection, conversationId);
  }

  removeMember(conversationId: string, userId: string): void {
    this.#world.chat.remove(conversationId, userId);
  }

  /** Keeps a member from writing, or lets it write again [MSG5]. */
  setMayWrite(conversationId: string, userId: string, mayWrite: boolean): void {
    this.#world.chat.setMayWrite(conversationId, userId, mayWrite);
  }

  /** Has a member say something. @returns the event, whose payload has the `message_id` */
  say(conversationId: string, userId: string, content: Content): LoggedEvent<ServerPayloads["message.new"]> {
    return this.#world.chat.post(conversationId, { userId }, { content }).event as never;
  }

  edit(messageId: string, content: Content): void {
    this.#world.chat.edit(messageId, { userId: this.#senderOf(messageId) }, content);
  }

  delete(messageId: string): void {
    this.#world.chat.delete(messageId, { userId: this.#senderOf(messageId) });
  }

  react(messageId: string, userId: string, reaction: string, added = true): void {
    this.#world.chat.react(messageId, { userId }, { reaction, added });
  }

  /** An event of the application's own, of a type of the options. */
  event(conversationId: string, userId: string, type: string, data: JsonObject): void {
    const { chat, events } = this.#world;
    if (events[type]?.logged) chat.postEvent(conversationId, { userId }, { type, data });
    else chat.passOn(conversationId, { userId }, { type, data });
  }

  /** Has a member type, or stop it; it ends by itself after 10 s. */
  type(conversationId: string, userId: string, isTyping = true): void {
    this.#world.chat.type(conversationId, { userId }, isTyping);
  }

  /** Has a member read all, or up to a `seq`. */
  read(conversationId: string, userId: string, upToSeq = Number.MAX_SAFE_INTEGER): void {
    this.#world.chat.mark(conversationId, { userId }, { kind: "read", upToSeq });
  }

  /** The same of a device that has received all, and shown nothing yet. */
  deliver(conversationId: string, userId: string, upToSeq = Number.MAX_SAFE_INTEGER): void {
    this.#world.chat.mark(conversationId, { userId }, { kind: "delivered", upToSeq });
  }

  /** Says how somebody is; null: as the connections say. */
  setPresence(userId: string, status: FakeStatus | null): void {
    this.#world.presence.set(userId, status);
  }

  /** Has somebody call a user. @returns the call's id */
  call(
    fromUserId: string,
    toUserId: string,
    { media = "audio", sdp = "" }: { media?: "audio" | "video"; sdp?: string } = {},
  ): string {
    const id = crypto.randomUUID();
    const from = { userId: fromUserId, deviceId: null };
    this.#world.calls.offer(from, { call_id: id, to_user_id: toUserId, media, sdp });
    return id;
  }

  endCall(callId: string, reason: ServerPayloads["call.ended"]["reason"] = "hangup"): void {
    this.#world.calls.end(callId, reason);
  }

  /** Sends anything else to all connections of a user, such as a `notification`, `auth.expiring` or `draining`. */
  send<T extends keyof ServerPayloads>(userId: string, type: T, payload: ServerPayloads[T]): void {
    for (const connection of this.#connections.of(userId)) connection.send(type, payload);
  }

  /** Answers the next requests of a type with an error in the place of doing them. */
  refuse(type: keyof ClientPayloads, code: ErrorCode, { times = 1, ...details }: Refusing = {}): void {
    this.#refusals.set(type, { refusal: new Refusal(code, details), times });
  }

  /** Lets requests of a type wait: they are neither done nor answered until it is released. @returns releases them */
  hold(type: keyof ClientPayloads): () => void {
    const waiting: (() => void)[] = [];
    this.#held.set(type, waiting);
    return () => {
      this.#held.delete(type);
      for (const go of waiting) go();
    };
  }

  /** Breaks the lines of everybody, or of one user; the clients come back. */
  drop({ userId, code = 1006, reason = "" }: { userId?: string; code?: number; reason?: string } = {}): void {
    const dropped = this.#connections.all.filter((it) => userId === undefined || it.userId === userId);
    for (const { end } of dropped) {
      if (code === 1006) end.fail();
      else end.close(code, reason);
    }
  }

  /** Cannot be reached any more: breaks all lines, and no new one is made. */
  stop(): void {
    this.#isReachable = false;
    this.drop();
  }

  /** Can be reached again. */
  start(): void {
    this.#isReachable = true;
  }

  /** Has the log begin anew, as after a backup was restored: whoever is here or comes back is told `recovered: false` [LOG4]. */
  loseLog(): void {
    this.#world.log.beginAnew();
    for (const connection of this.#connections.all) this.#world.subscriptions.tellLoss(connection);
  }

  #senderOf(messageId: string): string {
    const message = this.#world.log.message(messageId);
    if (message === null) throw new Error(`There is no message ${messageId}.`);
    return message.payload.sender_id;
  }

  #open(end: ServerEnd, url: URL): void {
    if (!this.#isReachable) return end.fail();
    const { log } = this.#world;
    const connection = new FakeConnection(end, () => ({ id: log.newId(), timestamp: log.moment() }));
    const asked = url.searchParams;
    const token = asked.get("token");
    const userId = asked.get("user_id") ?? (token === null ? null : this.#userOf(token));
    if (token !== null && userId === null) return end.fail();
    connection.deviceId = asked.get("device_id") ?? log.newId();
    end.open();
    this.#connections.add(connection);
    connection.send("connected", {
      ...{ connection_id: log.newId(), device_id: connection.deviceId, user_id: userId },
      ...{ authenticated: userId !== null, protocol_version: 1, server_time: log.moment() },
      ...{ ping_interval_ms: 54_000, max_message_size: 10 * 1024 ** 2 },
      ...(userId === null ? { auth_timeout_ms: 10_000 } : {}),
    });
    const since = asked.get("since");
    if (userId !== null)
      this.#identify(
        connection,
        userId,
        since === null || since === "acked" ? (since ?? undefined) : { cursor: since },
      );
  }

  #identify(connection: FakeConnection, userId: string, since: ClientPayloads["authenticate"]["since"]): void {
    for (const other of this.#connections.of(userId)) {
      if (other !== connection && other.deviceId === connection.deviceId) other.end.close(4010);
    }
    this.#world.presence.came(connection, userId);
    this.#world.subscriptions.subscribeOwn(connection, since);
    this.#world.calls.ringAgain(connection);
  }

  #close(end: ServerEnd, code: number): void {
    const connection = this.#connections.byEnd(end);
    if (connection === undefined) return;
    const { userId } = connection;
    this.#world.presence.left(connection, code);
    if (userId !== null && this.#connections.of(userId).length === 0) this.#world.chat.stopTyping(userId);
  }

  #receive(end: ServerEnd, text: string): void {
    const connection = this.#connections.byEnd(end);
    if (connection === undefined) return;
    const { id, type, payload = {} } = JSON.parse(text) as { id: string; type: string; payload?: JsonObject };
    this.requests.push({ type, payload, userId: connection.userId, deviceId: connection.deviceId } as FakeRequest);
    const go = () => this.#do(connection, { id, type, payload });
    const held = this.#held.get(type);
    if (held === undefined) go();
    else held.push(go);
    for (const watcher of [...this.#watchers]) watcher();
  }

  #do(connection: FakeConnection, { id, type, payload }: { id: string; type: string; payload: JsonObject }): void {
    try {
      const refused = this.#refusals.get(type);
      if (refused !== undefined && refused.times-- > 0) throw refused.refusal;
      if (type === "authenticate") return this.#authenticate(connection, id, payload as ClientPayloads["authenticate"]);
      const reply = answer(this.#world, connection, { type, payload });
      connection.send(reply.type, reply.payload, id);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { code, message, details } = error;
      const { field, retryAfterMs } = details;
      const said = { code, message, retryable: retryable.includes(code), field, retry_after_ms: retryAfterMs };
      connection.send("error", said, id);
    }
  }

  #authenticate(
    connection: FakeConnection,
    id: string,
    { token, device_id, since }: ClientPayloads["authenticate"],
  ): void {
    const userId = this.#userOf(token);
    if (userId === null) {
      connection.send("auth.failed", { code: "token_invalid", retryable: false }, id);
      return connection.end.close(4004);
    }
    const isKnown = connection.userId !== null;
    if (isKnown && connection.userId !== userId) return connection.end.close(4005);
    if (!isKnown) connection.deviceId = device_id ?? connection.deviceId;
    const { deviceId: device } = connection;
    const acked_cursor = this.#world.subscriptions.acked({ ...connection, userId } as FakeConnection);
    connection.send(
      "auth.success",
      { user_id: userId, device_id: device, roles: [], expires_at: null, acked_cursor },
      id,
    );
    if (!isKnown) this.#identify(connection, userId, since);
  }
}
