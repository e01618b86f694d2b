/** Remembers what was said: logged events by topic, messages as they are now, and the places of the members [LOG1] [MSG2] [REC1]. */
import type { ServerEvent } from "../core.ts";
import type { JsonObject, ServerPayloads } from "../wire.ts";

export interface LoggedEvent<Payload = JsonObject> extends ServerEvent<Payload> {
  topic: string;
  seq: number;
  position: number;
}

export type FakeMessage = LoggedEvent<ServerPayloads["message.new"]>;

/** How far a member has come in a conversation. */
export interface Place {
  readSeq: number;
  deliveredSeq: number;
  /** How far its own other devices were told of what it has read privately. */
  privateSeq: number;
  /** As others see it, once something was marked for them to see: joining moves nobody's ticks, nor does reading privately [REC3]. */
  shown: { readSeq: number; deliveredSeq: number } | null;
}

export interface FakeConversation {
  id: string;
  members: Map<string, Place>;
  mayNotWrite: Set<string>;
}

/** Events of which only the newest is kept [LOG7] [MSG2]. */
const replacedBy: Record<string, (old: JsonObject, next: JsonObject) => boolean> = {
  "message.read": (old, next) => old.user_id === next.user_id,
  "message.delivered": (old, next) => old.user_id === next.user_id,
  "message.edited": (old, next) => old.message_id === next.message_id,
  "message.reaction": (old, next) =>
    old.message_id === next.message_id && old.user_id === next.user_id && old.reaction === next.reaction,
};

export class FakeLog {
  readonly #topics = new Map<string, { events: LoggedEvent[]; head: number }>();
  #position = 0;
  #epoch = 1;
  #ids = 0;

  constructor(private readonly now: () => number) {}

  get cursor(): string {
    return `fake${this.#epoch}.${this.#position.toString(36)}`;
  }

  /** @returns null for a cursor of another log, or of nowhere */
  positionOf(cursor: string): number | null {
    const [epoch, place = ""] = cursor.split(".");
    const position = Number.parseInt(place, 36);
    return epoch === `fake${this.#epoch}` && position <= this.#position ? position : null;
  }

  /** From now on it is another log: cursors of before lead nowhere [LOG4]. */
  beginAnew(): void {
    this.#epoch++;
  }

  newId(): string {
    return `fake-${++this.#ids}`;
  }

  moment(): string {
    return new Date(this.now()).toISOString();
  }

  head(topic: string): number {
    return this.#topics.get(topic)?.head ?? 0;
  }

  eventsOf(topic: string): readonly LoggedEvent[] {
    return this.#topics.get(topic)?.events ?? [];
  }

  append(topic: string, type: string, payload: JsonObject, id = this.newId()): LoggedEvent {
    const kept = this.#topics.get(topic) ?? { events: [], head: 0 };
    this.#topics.set(topic, kept);
    const event = {
      ...{ id, type, topic, seq: ++kept.head, position: ++this.#position },
      ...{ timestamp: this.moment(), payload },
    };
    const isReplaced = replacedBy[type];
    kept.events = kept.events.filter(
      (old) =>
        !(old.type === type && isReplaced?.(old.payload, payload)) &&
        !(type === "message.deleted" && isEditOf(old, payload)),
    );
    kept.events.push(event);
    return event;
  }

  /** Of a conversation's messages those that are still there, deleted ones too, oldest first. */
  messagesOf(conversationId: string): FakeMessage[] {
    return this.eventsOf(`conversation:${conversationId}`).filter(({ type }) => type === "message.new") as never;
  }

  /** @returns null where there is no such message */
  message(messageId: string): FakeMessage | null {
    for (const { events } of this.#topics.values()) {
      const found = events.find(({ type, payload }) => type === "message.new" && payload.message_id === messageId);
      if (found !== undefined) return found as never;
    }
    return null;
  }

  /** Puts another payload in the place of a message's, wherever it is read from now on [MSG2]. */
  change(message: FakeMessage, change: Partial<ServerPayloads["message.new"]>): void {
    const { events } = this.#topics.get(message.topic)!;
    const payload = { ...message.payload, ...change };
    for (const name of ["edited_at", "reactions"] as const) if (payload[name] === undefined) delete payload[name];
    events[events.indexOf(message as never)] = { ...message, payload } as never;
  }

  unreadOf(conversationId: string, userId: string, readSeq: number): number {
    return this.messagesOf(conversationId).filter(
      ({ seq, payload }) => seq > readSeq && payload.sender_id !== userId && payload.deleted_at === undefined,
    ).length;
  }
}

const isEditOf = (old: LoggedEvent, deleted: JsonObject) =>
  old.type === "message.edited" && old.payload.message_id === deleted.message_id;

/** As the server compares what is sent again under one key: whatever order an object's names have. */
export function isSame(one: unknown, other: unknown): boolean {
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return one === other;
  const [names, others] = [Object.keys(one), Object.keys(other)];
  return (
    Array.isArray(one) === Array.isArray(other) &&
    names.length === others.length &&
    names.every((name) => isSame((one as JsonObject)[name], (other as JsonObject)[name]))
  );
}
