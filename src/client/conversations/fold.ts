/** Folds what is told of a conversation, each piece of another moment, into how it stands: its messages, who has come how far, what is unread [MSG2] [MSG3] [REC3]. */
import type { OutboxEntry, SubscribedTopic } from "../core.ts";
import type { ServerPayloads } from "../wire.ts";
import { type Change, type Held, HeldMessages } from "./held-messages.ts";
import { deletionOf, eventOf, type LoggedEvent, type SentMessage } from "./message.ts";

/** How far another member has come: everything up to these numbers. */
export interface Receipt {
  readonly userId: string;
  readonly readSeq: number;
  readonly deliveredSeq: number;
}

/** A fold as it is written down: JSON. */
export interface KeptFold {
  messages: SentMessage[];
  fromSeq: number;
  receipts: Receipt[];
  asOf: number;
  base: number;
  readSeq: number;
  deliveredSeq: number;
  heardSeq: number;
}

/** One conversation as it stands on this device. Everything is taken in the order in which it comes. */
export class Fold {
  readonly #messages: HeldMessages;
  readonly #who: { readonly userId: string | null };
  /** Unread as of a number. */
  #asOf = 0;
  #base = 0;
  /** Messages up to here may have been dropped: what was counted before it cannot be counted on from. */
  #droppedTo = 0;
  /** How far had been heard by then: what has changed up to here is in all that is loaded from now on. */
  #settledTo = 0;
  /** How often it became unsure what is unread, as where another device has read; and as of which of these times it is known. */
  #unsure = 0;
  #asked = 0;
  #readSeq = 0;
  #deliveredSeq = 0;
  #receipts: Map<string, Receipt> | null = null;
  #receiptsShown: readonly Receipt[] | null = null;
  #heardSeq = 0;
  #fromSeq: number | null = null;
  #begun = 0;

  /** @param who whose device this is */
  constructor(who: { readonly userId: string | null }) {
    this.#who = who;
    this.#messages = new HeldMessages(who);
  }

  /** How far everything has been heard. */
  get heardSeq(): number {
    return this.#heardSeq;
  }

  /** From here on every message is held; 0: from the first one on. Null: nothing is known to be without a gap. */
  get fromSeq(): number | null {
    return this.#fromSeq;
  }

  get readSeq(): number {
    return this.#readSeq;
  }

  get deliveredSeq(): number {
    return Math.max(this.#deliveredSeq, this.#readSeq);
  }

  /** The number of the newest message of others that is held. */
  get othersSeq(): number {
    return this.#messages.othersSeq;
  }

  /** How often it was forgotten: an answer that was asked for before is of another time. */
  get begun(): number {
    return this.#begun;
  }

  /** Of the others. */
  get receipts(): readonly Receipt[] {
    this.#receiptsShown ??= this.#receipts === null ? [] : [...this.#receipts.values()];
    return this.#receiptsShown;
  }

  /** The newest message that is held. */
  get last(): SentMessage | null {
    return this.#messages.last;
  }

  /** How many are held. */
  get size(): number {
    return this.#messages.size;
  }

  /** Whether there is a last message that is not here: snapshots leave out what is large. */
  get lacksLast(): boolean {
    return this.size === 0 && this.#fromSeq !== null && this.#fromSeq > 0;
  }

  /** Messages of which only the service knows how they are now: to be read anew where somebody looks. */
  get doubtful(): string[] {
    return this.#messages.doubtful;
  }

  /** Messages of others that are not read. Null where nobody here can know it, and a mark that moves nothing tells. */
  get unread(): number | null {
    if (this.#asked !== this.#unsure || this.#messages.isDeletedUnseen(this.#asOf)) return null;
    return this.#unread();
  }

  /** The best guess at `unread`, were everything up to a number read. */
  guessUnread(readSeq = this.#readSeq): number {
    if (readSeq <= this.#readSeq) return Math.max(0, this.#unread());
    if (readSeq >= this.#asOf) return this.#countAbove(readSeq);
    return Math.max(0, this.#unread() - (this.#countAbove(this.#readSeq) - this.#countAbove(readSeq)));
  }

  get(messageId: string): SentMessage | null {
    return this.#messages.get(messageId);
  }

  /** One that this user has sent, by its `key`. */
  sent(key: string): SentMessage | null {
    for (const { message } of this.#messages.above(0)) if (message.isOwn && message.key === key) return message;
    return null;
  }

  /** Without a gap to the newest, oldest first. */
  messages(): SentMessage[] {
    return this.#fromSeq === null ? [] : this.#messages.from(this.#fromSeq);
  }

  /** Takes an event that was heard: live or replayed, of others or of own other devices. */
  take(event: LoggedEvent): void {
    this.#heardSeq = Math.max(this.#heardSeq, event.seq);
    this.takeAside(event);
  }

  /** Takes what was told of it in passing, by another topic. */
  takeAside(event: LoggedEvent): void {
    // Told late, it may have changed since: what was dropped is loaded as it is now.
    const isDropped = event.seq <= this.#droppedTo && event.seq < (this.#fromSeq ?? 0);
    if (event.type !== "message.new" || !isDropped) this.#take(event);
  }

  /** Takes the answer to what this device has done, as the event that the others get [SUB6]. */
  takeOwn(entry: OutboxEntry, ack: ServerPayloads["ack"]): void {
    const { type } = entry;
    if (type === "mark.read" || type === "mark.delivered") return this.#takeMark(type, ack);
    const event = this.#who.userId === null ? null : eventOf(entry, ack, this.#who.userId);
    // Counted as of a later moment, it may have been counted as unread.
    if (type === "message.delete" && ack.seq !== undefined && ack.seq <= this.#asOf) this.#unsure++;
    if (event !== null) this.#take(event);
    if (ack.duplicate && type === "message.delete") this.#messages.change(deletionOf(entry), this.#asOf);
    // It was so before, perhaps by this device, whose answer was lost with a line: only the message says how it is now [LOG2].
    if (ack.duplicate && ack.message_id !== undefined) this.#messages.doubt(ack.message_id);
    if (event !== null || (type !== "reaction.add" && type !== "reaction.remove")) return;
    // It was so before: whether one is among the many who are not named nobody else says.
    const { message_id, reaction } = (entry as OutboxEntry<"reaction.add">).payload;
    this.#messages.own(message_id, reaction, type === "reaction.add");
  }

  /** Names the question after `unread` that is put now, for `takeAnswer`. */
  get question(): number {
    return this.#unsure;
  }

  /** Takes the answer to a mark that moves nothing, which was put because `unread` was null. */
  takeAnswer(ack: ServerPayloads["ack"], question: number): void {
    this.#asked = Math.max(this.#asked, question);
    this.#takeMark("mark.delivered", ack);
  }

  /** Takes a page of history. @param before the number that it was asked to end before; null: only messages, not a part of the whole */
  takePage({ events, has_more }: Pick<ServerPayloads["history"], "events" | "has_more">, before: number | null): void {
    for (const event of events) this.#take(event);
    if (before === null || before !== this.#fromSeq) return;
    if (!has_more) this.#fromSeq = 0;
    else if (events.length > 0) this.#fromSeq = events[0]!.seq;
  }

  /** Takes what was counted in one moment, which `as_of_seq` names; what has a higher number comes on top of it. */
  stand(snapshot: NonNullable<SubscribedTopic["snapshot"]>): void {
    const { as_of_seq, unread, read_seq = 0, delivered_seq = 0, last_message, receipts = [] } = snapshot;
    this.#deliveredSeq = Math.max(this.#deliveredSeq, delivered_seq);
    this.#takeCount({ readSeq: read_seq, asOfSeq: as_of_seq, unread });
    for (const { user_id, ...place } of receipts) this.#receive(user_id, place);
    // One that was dropped since then has changed since then, maybe: it is loaded as it is now.
    const isPast = as_of_seq !== undefined && as_of_seq < this.#droppedTo;
    if (last_message && !isPast) this.#take(last_message);
    if (this.#fromSeq !== null || as_of_seq === undefined) return;
    // Between the newest message and that moment there is no other.
    this.#fromSeq = last_message === null ? 0 : (last_message?.seq ?? as_of_seq + 1);
    this.#heardSeq = Math.max(this.#heardSeq, as_of_seq);
  }

  /** Says from where on it is heard, where no snapshot has said so. */
  begin(seq: number): void {
    if (this.#fromSeq !== null) return;
    this.#fromSeq = seq + 1;
    this.#heardSeq = Math.max(this.#heardSeq, seq);
  }

  /** Begins from nothing: something is missing, or the numbers begin anew [LOG4]. */
  forget(): void {
    this.#begun++;
    this.#messages.clear();
    this.#receipts = this.#receiptsShown = null;
    this.#asOf =
      this.#base =
      this.#droppedTo =
      this.#settledTo =
      this.#readSeq =
      this.#deliveredSeq =
      this.#heardSeq =
        0;
    this.#fromSeq = null;
    this.#asked = this.#unsure;
  }

  /** Says that an answer is under way (1), or has come or never will (-1), that may bring messages of before. */
  expect(change: 1 | -1): void {
    this.#messages.awaited += change;
  }

  /** Says that a message is being read anew. @returns false where it is not held, or is being read already */
  expectAnew(messageId: string): boolean {
    return this.#messages.expectAnew(messageId);
  }

  /** Takes a message that was read anew in the place of the one that is held. @param event null: it could not be read */
  takeAnew(messageId: string, event: LoggedEvent | null): void {
    this.#messages.takeAnew(messageId, event);
  }

  /** Drops all but the newest, where what is unread can be told without them. */
  trim(max: number): void {
    const tooMany = this.size - max;
    if (tooMany <= 0 || this.#messages.awaited > 0 || this.#fromSeq === null) return;
    const unread = this.unread;
    const asOf = Math.max(this.#asOf, this.#heardSeq);
    // Things that came before their turn, by a page or an answer, are counted once their turn has come.
    const isAhead = ({ message, gone }: Held) => gone > asOf || (message.seq > asOf && !message.isOwn);
    // Changed by oneself ahead of others' words on it: that these are older is known of what is held alone.
    const isAheadOfOthers = ({ edit, took }: Held) => Math.max(edit, ...(took?.values() ?? [])) > this.#heardSeq;
    const held = [...this.#messages.above(0)];
    if (unread === null || held.some(isAhead) || held.slice(max).some(isAheadOfOthers)) return;
    [this.#asOf, this.#base, this.#droppedTo, this.#settledTo] = [asOf, unread, asOf, this.#heardSeq];
    this.#messages.drop(tooMany);
    this.#fromSeq = Math.max(this.#fromSeq, this.#messages.from(0)[0]?.seq ?? this.#heardSeq + 1);
  }

  /** Gives the part that is kept on the device: the newest messages, and how it stands without the others. Null: there is nothing whole. */
  keep(max: number): KeptFold | null {
    if (this.#fromSeq === null) return null;
    const whole = this.messages();
    const messages = whole.slice(Math.max(0, whole.length - max));
    const fromSeq = messages.length < whole.length ? (messages[0]?.seq ?? this.#heardSeq + 1) : this.#fromSeq;
    const counts = { asOf: Math.max(this.#asOf, this.#heardSeq), base: this.guessUnread() };
    const places = { readSeq: this.#readSeq, deliveredSeq: this.#deliveredSeq, heardSeq: this.#heardSeq };
    return { messages, fromSeq, receipts: [...this.receipts], ...counts, ...places };
  }

  /** Takes up what was kept. */
  restore({ messages, fromSeq, receipts, asOf, base, readSeq, deliveredSeq, heardSeq }: KeptFold): void {
    this.forget();
    for (const message of messages) this.#messages.insert(message);
    for (const { userId, ...it } of receipts)
      this.#receive(userId, { read_seq: it.readSeq, delivered_seq: it.deliveredSeq });
    [this.#asOf, this.#base, this.#readSeq, this.#deliveredSeq] = [asOf, base, readSeq, deliveredSeq];
    [this.#heardSeq, this.#fromSeq, this.#droppedTo, this.#settledTo] = [heardSeq, fromSeq, asOf, heardSeq];
  }

  #take(event: LoggedEvent): void {
    switch (event.type) {
      case "message.new":
        return this.#messages.add(event);
      case "message.edited":
      case "message.deleted":
      case "message.reaction":
        return this.#takeChange(event as unknown as Change);
      case "message.delivered":
      case "message.read":
        return this.#takeReceipt(event.type === "message.read", event.payload as unknown as Receiving);
    }
  }

  #takeChange(change: Change): void {
    if (change.seq > this.#settledTo || this.get(change.payload.message_id)) this.#messages.change(change, this.#asOf);
  }

  #takeReceipt(isRead: boolean, { user_id, up_to_seq }: Receiving): void {
    if (user_id !== this.#who.userId)
      return this.#receive(user_id, { read_seq: isRead ? up_to_seq : 0, delivered_seq: up_to_seq });
    if (isRead) this.#readUncounted(up_to_seq);
    else this.#deliveredSeq = Math.max(this.#deliveredSeq, up_to_seq);
  }

  #readUncounted(upToSeq: number): void {
    if (upToSeq <= this.#readSeq) return;
    // Where all that was counted is read this is it; else it is guessed until the service has said how many are left.
    this.#base = this.guessUnread(upToSeq) - this.#countAbove(Math.max(upToSeq, this.#asOf));
    this.#readSeq = upToSeq;
    this.#unsure++;
  }

  #takeMark(type: "mark.read" | "mark.delivered", { up_to_seq = 0, unread, as_of_seq }: ServerPayloads["ack"]): void {
    this.#deliveredSeq = Math.max(this.#deliveredSeq, up_to_seq);
    this.#takeCount({ readSeq: type === "mark.read" ? up_to_seq : 0, asOfSeq: as_of_seq, unread });
  }

  #receive(userId: string, { read_seq, delivered_seq }: { read_seq: number; delivered_seq: number }): void {
    this.#receipts ??= new Map();
    const held = this.#receipts.get(userId);
    const readSeq = Math.max(held?.readSeq ?? 0, read_seq);
    const deliveredSeq = Math.max(held?.deliveredSeq ?? 0, delivered_seq, readSeq);
    this.#receipts.set(userId, { userId, readSeq, deliveredSeq });
    this.#receiptsShown = null;
  }

  #takeCount(given: { readSeq: number; asOfSeq: number | undefined; unread: number | undefined }): void {
    const { readSeq, asOfSeq, unread } = given;
    if (asOfSeq !== undefined && asOfSeq < this.#droppedTo) return this.#readUncounted(readSeq);
    this.#readSeq = Math.max(this.#readSeq, readSeq);
    if (asOfSeq === undefined || unread === undefined) return;
    [this.#asOf, this.#base] = [asOfSeq, unread];
  }

  #unread(): number {
    let count = this.#base;
    for (const { message, gone } of this.#messages.above(this.#readSeq)) {
      if (message.isOwn) continue;
      if (message.seq > this.#asOf) count += message.deletedAt === null ? 1 : 0;
      else if (gone > this.#asOf) count--;
    }
    return count;
  }

  #countAbove(readSeq: number): number {
    let count = 0;
    for (const { message } of this.#messages.above(readSeq)) if (!message.isOwn && message.deletedAt === null) count++;
    return count;
  }
}

type Receiving = { user_id: string; up_to_seq: number };
