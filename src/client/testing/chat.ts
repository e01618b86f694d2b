/** Does what is done in conversations, whoever asks for it, and tells those who hear them. */
import type { Clock, Unlisten } from "../core.ts";
import type { Content, JsonObject, ServerPayloads } from "../wire.ts";
import { type Connections, type FakeConnection, Refusal } from "./connections.ts";
import { type FakeConversation, type FakeLog, type FakeMessage, isSame, type LoggedEvent } from "./log.ts";

/** Milliseconds after the last `typing.start` [TYP2]. */
const typingEndsAfterMs = 10_000;

const named = { field: "payload.message_id" };

/** A change of a conversation: by whom, and over which connection, which is not told of it. */
export interface By {
  userId: string;
  connection?: FakeConnection;
}

export interface Posted {
  event: LoggedEvent;
  isDuplicate: boolean;
}

export class FakeChat {
  readonly #conversations = new Map<string, FakeConversation>();
  /** Of messages and own events, by sender and key [LOG2]. */
  readonly #sent = new Map<string, { event: LoggedEvent; said: unknown }>();
  readonly #typing = new Map<string, { expiresAt: number; cancel: Unlisten }>();

  constructor(
    private readonly log: FakeLog,
    private readonly connections: Connections,
    private readonly clock: Clock,
    /** Lets whoever uses a conversation join it. */
    private readonly isOpen: boolean,
  ) {}

  conversationsOf(userId: string): string[] {
    return [...this.#conversations.values()].filter(({ members }) => members.has(userId)).map(({ id }) => id);
  }

  /** @throws Refusal where there is no such conversation, or the user is not in it */
  conversation(id: string, userId?: string): FakeConversation {
    if (this.isOpen && userId !== undefined) this.add(id, [userId]);
    const found = this.#conversations.get(id);
    if (found === undefined || (userId !== undefined && !found.members.has(userId)))
      throw new Refusal("forbidden", { field: "payload.conversation_id" });
    return found;
  }

  mayHear(id: string, userId: string): boolean {
    if (this.isOpen) this.add(id, [userId]);
    return this.#conversations.get(id)?.members.has(userId) ?? false;
  }

  /** @returns the conversation, which is made where there is none */
  add(id: string, userIds: readonly string[]): FakeConversation {
    const conversation = this.#conversations.get(id) ?? { id, members: new Map(), mayNotWrite: new Set() };
    this.#conversations.set(id, conversation);
    const head = this.log.head(`conversation:${id}`);
    for (const userId of userIds) {
      if (conversation.members.has(userId)) continue;
      conversation.members.set(userId, { readSeq: head, deliveredSeq: head, privateSeq: head, shown: null });
      this.#tell(id, "member.added", { conversation_id: id, user_id: userId, at: this.log.moment() });
    }
    return conversation;
  }

  remove(id: string, userId: string): void {
    this.conversation(id).members.delete(userId);
    this.type(id, { userId }, false);
    for (const connection of this.connections.of(userId)) {
      const topics = [`conversation:${id}`, `typing:${id}`].filter((topic) => connection.topics.delete(topic));
      if (topics.length > 0) connection.send("unsubscribed", { topics, reason: "access_revoked" });
    }
    this.#tell(id, "member.removed", { conversation_id: id, user_id: userId, at: this.log.moment() });
  }

  setMayWrite(id: string, userId: string, mayWrite: boolean): void {
    const { mayNotWrite } = this.conversation(id, userId);
    if (mayWrite) mayNotWrite.delete(userId);
    else mayNotWrite.add(userId);
    if (!mayWrite) this.type(id, { userId }, false);
    const change = { conversation_id: id, user_id: userId, may_write: mayWrite, at: this.log.moment() };
    this.#tell(id, "member.updated", change);
  }

  post(id: string, by: By, { content, key }: { content: Content; key?: string }): Posted {
    const payload = {
      message_id: this.log.newId(),
      ...(key === undefined ? {} : { client_message_id: key }),
      ...{ conversation_id: id, sender_id: by.userId, content, created_at: this.log.moment() },
    };
    const posted = this.#append(id, by, {
      type: "message.new",
      payload,
      key,
      said: content,
      eventId: payload.message_id,
    });
    if (!posted.isDuplicate) this.type(id, by, false);
    return posted;
  }

  /** An event of the application's own [MSG4]. */
  postEvent(id: string, by: By, { type, data, key }: { type: string; data: JsonObject; key?: string }): Posted {
    const named = key === undefined ? {} : { client_event_id: key };
    const payload = { conversation_id: id, user_id: by.userId, ...named, data };
    return this.#append(id, by, { type, payload, key, said: { type, data } });
  }

  /** The same of a type that is not logged. */
  passOn(id: string, by: By, { type, data, key }: { type: string; data: JsonObject; key?: string }): void {
    this.#mayWrite(id, by.userId);
    const named = key === undefined ? {} : { client_event_id: key };
    const payload = { conversation_id: id, user_id: by.userId, ...named, data };
    const event = { id: this.log.newId(), type, timestamp: this.log.moment(), payload };
    this.connections.tell(`conversation:${id}`, event, by.connection);
  }

  /** @returns null where it says so already */
  edit(messageId: string, by: By, content: Content): LoggedEvent | null {
    const message = this.#message(messageId, by.userId);
    if (message.payload.sender_id !== by.userId) throw new Refusal("forbidden", named);
    this.#mayWrite(message.payload.conversation_id, by.userId);
    if (message.payload.deleted_at !== undefined) throw new Refusal("conflict", named);
    if (isSame(message.payload.content, content)) return null;
    const edited_at = this.log.moment();
    this.log.change(message, { content, edited_at });
    return this.#change(message, by, "message.edited", { content, edited_at, edited_by: by.userId });
  }

  delete(messageId: string, by: By): LoggedEvent | null {
    const message = this.#message(messageId, by.userId);
    if (message.payload.sender_id !== by.userId) throw new Refusal("forbidden", named);
    if (message.payload.deleted_at !== undefined) return null;
    const deleted_at = this.log.moment();
    this.log.change(message, { content: null, deleted_at, edited_at: undefined, reactions: undefined });
    return this.#change(message, by, "message.deleted", { deleted_at, deleted_by: by.userId });
  }

  react(messageId: string, by: By, { reaction, added }: { reaction: string; added: boolean }): LoggedEvent | null {
    const message = this.#message(messageId, by.userId);
    this.#mayWrite(message.payload.conversation_id, by.userId);
    if (message.payload.deleted_at !== undefined) throw new Refusal("conflict", named);
    const before = message.payload.reactions ?? [];
    const had = before.find((it) => it.reaction === reaction)?.user_ids ?? [];
    if (had.includes(by.userId) === added) return null;
    const has = added ? [...had, by.userId] : had.filter((userId) => userId !== by.userId);
    const now = { reaction, count: has.length, user_ids: has };
    const reactions = (
      before.some((it) => it.reaction === reaction)
        ? before.map((it) => (it.reaction === reaction ? now : it))
        : [...before, now]
    ).filter(({ count }) => count > 0);
    this.log.change(message, { reactions: reactions.length === 0 ? undefined : reactions });
    const said = { user_id: by.userId, reaction, added, at: this.log.moment() };
    return this.#change(message, by, "message.reaction", said);
  }

  /** Moves a watermark, never back, and tells of it where it covers messages of others [REC1]. */
  mark(
    id: string,
    by: By,
    { kind, upToSeq, isPrivate = false }: { kind: "read" | "delivered"; upToSeq: number; isPrivate?: boolean },
  ) {
    const place = this.conversation(id, by.userId).members.get(by.userId)!;
    const topic = `conversation:${id}`;
    const before = kind === "read" ? place.readSeq : place.deliveredSeq;
    const upTo = Math.max(before, Math.min(upToSeq, this.log.head(topic)));
    if (kind === "read") place.readSeq = upTo;
    const shown = place.shown ?? { readSeq: 0, deliveredSeq: 0 };
    if (!isPrivate)
      place.shown = {
        readSeq: kind === "read" ? Math.max(shown.readSeq, upTo) : shown.readSeq,
        deliveredSeq: Math.max(shown.deliveredSeq, upTo),
      };
    // A private reading names all that no private one has named before.
    const told = isPrivate ? place.privateSeq : before;
    if (isPrivate) place.privateSeq = upTo;
    place.deliveredSeq = Math.max(place.deliveredSeq, upTo);
    // As of before it is told.
    const asOf = {
      ...{ up_to_seq: upTo, as_of_seq: this.log.head(topic) },
      unread: this.log.unreadOf(id, by.userId, place.readSeq),
    };
    const covered = this.log
      .messagesOf(id)
      .filter(({ seq, payload }) => seq > told && seq <= upTo && payload.sender_id !== by.userId);
    if (covered.length > 0) {
      const said = {
        ...{ conversation_id: id, user_id: by.userId, up_to_seq: upTo, at: this.log.moment() },
        message_ids: covered.slice(-50).map(({ payload }) => payload.message_id),
      };
      const to = isPrivate ? `user:${by.userId}` : topic;
      this.#appendTo(to, by, { type: `message.${kind}`, payload: isPrivate ? { ...said, private: true } : said });
    }
    return asOf;
  }

  /** Begins, goes on or ends; the end comes by itself [TYP2]. */
  type(id: string, by: By, isTyping: boolean): void {
    const key = `${id} ${by.userId}`;
    const before = this.#typing.get(key);
    before?.cancel();
    if (isTyping) {
      this.#mayWrite(id, by.userId);
      const cancel = this.clock.after(typingEndsAfterMs, () => this.type(id, by, false));
      this.#typing.set(key, { expiresAt: this.clock.now() + typingEndsAfterMs, cancel });
    } else if (!this.#typing.delete(key)) return;
    const said = { user_id: by.userId, conversation_id: id };
    const told = { topic: `typing:${id}`, except: by.connection };
    if (isTyping)
      this.connections.tellOf({ ...told, type: "typing.start" }, { ...said, expires_at: this.#expiry(key) });
    else this.connections.tellOf({ ...told, type: "typing.stop" }, said);
  }

  typingIn(id: string, except: string | null): ServerPayloads["typing.start"][] {
    return [...this.#typing.keys()]
      .map((key) => ({ key, userId: key.slice(id.length + 1) }))
      .filter(({ key, userId }) => key === `${id} ${userId}` && userId !== except)
      .map(({ key, userId }) => ({ user_id: userId, conversation_id: id, expires_at: this.#expiry(key) }));
  }

  stopTyping(userId: string): void {
    for (const id of this.conversationsOf(userId)) this.type(id, { userId }, false);
  }

  #expiry(key: string): string {
    return new Date(this.#typing.get(key)!.expiresAt).toISOString();
  }

  #mayWrite(id: string, userId: string): void {
    if (this.conversation(id, userId).mayNotWrite.has(userId))
      throw new Refusal("forbidden", { field: "payload.conversation_id" });
  }

  #message(messageId: string, userId: string): FakeMessage {
    const message = this.log.message(messageId);
    if (message === null) throw new Refusal("forbidden", named);
    this.conversation(message.payload.conversation_id, userId);
    return message;
  }

  #append(
    id: string,
    by: By,
    {
      key,
      said,
      eventId,
      ...event
    }: { type: string; payload: JsonObject; key?: string; said: unknown; eventId?: string },
  ): Posted {
    const known =
      key === undefined
        ? undefined
        : this.#sent.get(JSON.stringify([event.type === "message.new", id, by.userId, key]));
    if (known !== undefined) {
      const field = `payload.client_${event.type === "message.new" ? "message" : "event"}_id`;
      if (!isSame(known.said, said)) throw new Refusal("conflict", { field });
      return { event: known.event, isDuplicate: true };
    }
    this.#mayWrite(id, by.userId);
    const appended = this.#appendTo(`conversation:${id}`, by, { ...event, eventId });
    if (key !== undefined)
      this.#sent.set(JSON.stringify([event.type === "message.new", id, by.userId, key]), { event: appended, said });
    return { event: appended, isDuplicate: false };
  }

  #change(message: FakeMessage, by: By, type: string, change: JsonObject): LoggedEvent {
    const { conversation_id, message_id } = message.payload;
    return this.#appendTo(message.topic, by, { type, payload: { conversation_id, message_id, ...change } });
  }

  #appendTo(
    topic: string,
    by: By,
    { type, payload, eventId }: { type: string; payload: JsonObject; eventId?: string },
  ) {
    const event = this.log.append(topic, type, payload, eventId);
    this.connections.tell(topic, event, by.connection);
    return event;
  }

  #tell<T extends "member.added" | "member.removed" | "member.updated">(
    id: string,
    type: T,
    payload: ServerPayloads[T],
  ) {
    this.connections.tellOf({ topic: `conversation:${id}`, type }, payload);
  }
}
