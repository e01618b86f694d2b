/** Plays a conversation as the service has it, in plain arrays, and a line over which a device hears of it: late, ahead of its turn, and again [MSG2] [MSG3] [REC3]. */

import type { Fold } from "../../src/client/conversations/fold.ts";
import type { LoggedEvent } from "../../src/client/conversations/message.ts";
import type { OutboxEntry, SubscribedTopic } from "../../src/client/core.ts";
import type { ServerPayloads } from "../../src/client/wire.ts";

export const me = "me";
/** How many of a reaction are named. */
const namedMax = 2;

interface Said {
  id: string;
  seq: number;
  sender: string;
  content: string | null;
  reactions: Map<string, string[]>;
}

type Logged = LoggedEvent & { id: string; by: string; replaces: string | null };
type Page = Pick<ServerPayloads["history"], "events" | "has_more">;

export class ModelConversation {
  readonly said: Said[] = [];
  readonly places = new Map<string, { read: number; delivered: number }>();
  readonly #log: Logged[] = [];
  #seq = 0;

  get seq(): number {
    return this.#seq;
  }

  place(user: string) {
    const place = this.places.get(user) ?? { read: 0, delivered: 0 };
    this.places.set(user, place);
    return place;
  }

  get unread(): number {
    const isUnread = ({ seq, sender, content }: Said) => seq > this.place(me).read && sender !== me && content !== null;
    return this.said.filter(isUnread).length;
  }

  send(by: string, content: string) {
    const id = `m${this.#seq + 1}`;
    this.said.push({ id, seq: this.#seq + 1, sender: by, content, reactions: new Map() });
    return this.#append("message.new", by, { message_id: id, client_message_id: `c${id}` });
  }

  edit(said: Said, by: string, content: string) {
    if (said.content === null || said.content === content) return null;
    said.content = content;
    return this.#append("message.edited", by, { message_id: said.id, content, edited_at: "then" });
  }

  delete(said: Said, by: string) {
    if (said.content === null) return null;
    Object.assign(said, { content: null, reactions: new Map() });
    return this.#append("message.deleted", by, { message_id: said.id, deleted_at: "then" });
  }

  react(said: Said, by: string, { reaction, added }: { reaction: string; added: boolean }) {
    const users = said.reactions.get(reaction) ?? [];
    if (said.content === null || users.includes(by) === added) return null;
    const now = added ? [...users, by] : users.filter((user) => user !== by);
    if (now.length > 0) said.reactions.set(reaction, now);
    else said.reactions.delete(reaction);
    return this.#append("message.reaction", by, { message_id: said.id, user_id: by, reaction, added, at: "then" });
  }

  mark(type: "message.delivered" | "message.read", by: string, upToSeq: number) {
    const place = this.place(by);
    const isRead = type === "message.read";
    if (upToSeq <= (isRead ? place.read : place.delivered)) return null;
    if (isRead) place.read = upToSeq;
    place.delivered = Math.max(place.delivered, upToSeq);
    return this.#append(type, by, { user_id: by, message_ids: [], up_to_seq: upToSeq, at: "then" });
  }

  /** How an event reads today. */
  shown(event: LoggedEvent): LoggedEvent {
    if (event.type !== "message.new") return event;
    const { id, sender, content, reactions } = this.said.find(({ seq }) => seq === event.seq)!;
    const told = [...reactions].map(([reaction, users]) => {
      return { reaction, count: users.length, user_ids: users.slice(0, namedMax) };
    });
    const gone = content === null ? { deleted_at: "then" } : {};
    const payload = { message_id: id, client_message_id: `c${id}`, conversation_id: "c", sender_id: sender, content };
    return { type: event.type, seq: event.seq, payload: { ...payload, created_at: "then", ...gone, reactions: told } };
  }

  /** Gives what is still kept after a number, as it reads today: of edits, reactions and receipts the newest alone. */
  after(seq: number): LoggedEvent[] {
    return this.#log.filter((event) => event.seq > seq).map((event) => this.shown(event));
  }

  page(before: number, limit: number): Page {
    const all = this.#log.filter(({ type, seq }) => type === "message.new" && seq < before);
    const events = all.slice(-limit).map((event) => this.shown(event)) as unknown as Page["events"];
    return { events, has_more: all.length > limit };
  }

  message(id: string): LoggedEvent {
    return this.shown(this.#log.find((event) => event.type === "message.new" && event.payload.message_id === id)!);
  }

  snapshot(): NonNullable<SubscribedTopic["snapshot"]> {
    const { read, delivered } = this.place(me);
    const others = [...this.places].filter(([user]) => user !== me);
    const receipts = others.map(([user_id, it]) => ({ user_id, read_seq: it.read, delivered_seq: it.delivered }));
    const last_message = (this.page(Number.POSITIVE_INFINITY, 1).events[0] ?? null) as never;
    const counted = { as_of_seq: this.#seq, unread: this.unread };
    return { ...counted, read_seq: read, delivered_seq: delivered, receipts, last_message };
  }

  #append(type: string, by: string, payload: Record<string, unknown>): Logged {
    const replaces = replacedBy(type, payload);
    for (let at = this.#log.length - 1; at >= 0; at--) {
      const old = this.#log[at]!;
      const isEditOfDeleted =
        type === "message.deleted" &&
        old.payload.message_id === payload.message_id &&
        ["message.edited", "message.reaction"].includes(old.type);
      if (isEditOfDeleted || (replaces !== null && old.replaces === replaces)) this.#log.splice(at, 1);
    }
    const seq = ++this.#seq;
    const event = { type, seq, payload: { conversation_id: "c", ...payload }, id: `e${seq}`, by, replaces };
    this.#log.push(event);
    // Told at once, it reads as it is in this moment.
    return { ...event, ...this.shown(event) };
  }
}

function replacedBy(type: string, { message_id, user_id, reaction }: Record<string, unknown>): string | null {
  if (type === "message.edited") return `edit ${message_id}`;
  if (type === "message.reaction") return `reaction ${message_id} ${user_id} ${reaction}`;
  if (type === "message.read" || type === "message.delivered") return `${type} ${user_id}`;
  return null;
}

/** A device's line: events come in their order and answers come in theirs, the one late to the other. */
export class ModelLine {
  #events: LoggedEvent[] = [];
  #answers: (() => void)[] = [];

  constructor(
    private readonly model: ModelConversation,
    private readonly fold: Fold,
  ) {}

  /** An event that somebody has caused; one of this device's own comes as an answer. */
  tell(event: Logged | null, own: Partial<OutboxEntry> | null): void {
    if (own === null) {
      if (event !== null) this.#events.push(event);
      return;
    }
    const { seq, payload } = event ?? { seq: undefined, payload: {} };
    const ack = {
      seq,
      message_id: (payload as { message_id?: string }).message_id,
      created_at: "then",
      at: "then",
      duplicate: event === null,
    };
    this.#answers.push(() => this.fold.takeOwn(own as OutboxEntry, ack));
  }

  answer(run: () => void): void {
    this.#answers.push(run);
  }

  ask(): void {
    const snapshot = this.model.snapshot();
    this.#answers.push(() => this.fold.stand(snapshot));
  }

  mark(type: "mark.read" | "mark.delivered", upToSeq: number): void {
    const { unread, seq: as_of_seq } = this.model;
    const ack = { up_to_seq: upToSeq, unread, as_of_seq };
    this.#answers.push(() => this.fold.takeOwn({ type, payload: {} } as OutboxEntry, ack));
  }

  /** @returns whether there was anything to come */
  come(which: "event" | "answer"): boolean {
    const event = which === "event" ? this.#events.shift() : undefined;
    if (event !== undefined) this.fold.take(event);
    const answer = which === "answer" ? this.#answers.shift() : undefined;
    answer?.();
    return event !== undefined || answer !== undefined;
  }

  /** The line breaks: answers are lost, and everything after what was heard comes again, and a little of before. */
  breakAndComeBack(again: number): void {
    for (const answer of this.#answers.splice(0)) answer();
    this.#events = this.model.after(Math.max(0, this.fold.heardSeq - again));
    this.ask();
  }

  /** Tells nothing of before the device was there. */
  clear(): void {
    this.#events = [];
    this.#answers = [];
  }

  /** Everything comes. */
  settle(): void {
    while (this.come("event") || this.come("answer"));
  }
}
