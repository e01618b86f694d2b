/** Marks what was read and what has arrived: one mark for many messages, each kind and conversation at most twice a second, and never so many that they fill the outbox [REC1]. */
import type { Clock, Core, Unlisten } from "../core.ts";

const everyMs = 500;
/** Marks of arrival that wait in the outbox at a time; a replay of a thousand conversations brings as many. */
const deliveredAtOnceMax = 20;

interface Due {
  seq: number;
  isPrivate: boolean;
}

export class Marks {
  readonly #core: Core;
  readonly #clock: Clock;
  readonly #onError: (error: unknown) => void;
  readonly #read = new Map<string, { said: Due; due: Due | null; callOff: Unlisten }>();
  readonly #delivered = new Map<string, number>();
  #callOff: Unlisten | null = null;
  #isAdding = false;

  constructor({ core, clock, onError }: { core: Core; clock: Clock; onError: (error: unknown) => void }) {
    this.#core = core;
    this.#clock = clock;
    this.#onError = onError;
    core.outbox.onChange(() => this.#soon());
  }

  read(conversationId: string, due: Due): void {
    const last = this.#read.get(conversationId);
    if (last === undefined) return this.#mark(conversationId, due);
    // Of two that differ in whom they tell, each is said.
    if (last.due !== null && last.due.isPrivate !== due.isPrivate) this.#add(conversationId, last.due);
    last.due = due;
  }

  /** How far it is read once what is held back, or only just on its way to the outbox, has been said. */
  readSeqOf(conversationId: string): number {
    const last = this.#read.get(conversationId);
    return Math.max(last?.said.seq ?? 0, last?.due?.seq ?? 0);
  }

  delivered(conversationId: string, seq: number): void {
    this.#delivered.set(conversationId, Math.max(this.#delivered.get(conversationId) ?? 0, seq));
    this.#soon();
  }

  forget(): void {
    for (const { callOff } of this.#read.values()) callOff();
    this.#read.clear();
    this.#delivered.clear();
  }

  #mark(conversationId: string, due: Due): void {
    this.#add(conversationId, due);
    const callOff = this.#clock.after(everyMs, () => {
      const next = this.#read.get(conversationId)?.due;
      this.#read.delete(conversationId);
      if (next) this.#mark(conversationId, next);
    });
    this.#read.set(conversationId, { said: due, due: null, callOff });
  }

  #add(conversation_id: string, { seq, isPrivate }: Due): void {
    this.#delivered.delete(conversation_id);
    const payload = { conversation_id, up_to_seq: seq, private: isPrivate || undefined };
    this.#core.outbox.add("mark.read", payload).catch(this.#onError);
  }

  /** Waits a moment: what comes within it is one mark, and what is read within it needs none. */
  #soon(): void {
    if (this.#delivered.size === 0 || this.#callOff !== null || this.#isAdding) return;
    this.#callOff = this.#clock.after(everyMs, () => {
      this.#callOff = null;
      this.#isAdding = true;
      this.#addDelivered();
      this.#isAdding = false;
    });
  }

  #addDelivered(): void {
    let room = deliveredAtOnceMax - this.#core.outbox.entries.filter(({ type }) => type === "mark.delivered").length;
    for (const [conversation_id, up_to_seq] of this.#delivered) {
      if (room-- <= 0) return;
      this.#delivered.delete(conversation_id);
      this.#core.outbox.add("mark.delivered", { conversation_id, up_to_seq }).catch(this.#onError);
    }
  }
}
