/** Moves the marks of many users by one statement: those of one turn, and those that come while others are under way [REC1]. */
import { Unavailable } from "../ground/unavailable.ts";
import type { Marked, ReceiptMark, ReceiptStore } from "../storage/ports.ts";

/** Marks of one statement, and ids of messages that they name: what else is asked comes in between. */
const marksMax = 50;
const idsMax = 1_000;
/** Statements under way, where some take longer than `patienceMs`: others' marks wait no longer than need be. */
const atOnceMax = 4;

export interface MarkQueueOptions {
  store: Pick<ReceiptStore, "advance">;
  /** So long (ms) is a statement waited for before the next one. */
  patienceMs?: number;
}

interface Waiting {
  mark: ReceiptMark;
  answer: PromiseWithResolvers<Marked>;
}

export class MarkQueue {
  #waiting: Waiting[] = [];
  #isScheduled = false;
  /** A statement is under way, and not for long. */
  #isBusy = false;
  #underWay = 0;

  constructor(private readonly options: MarkQueueOptions) {}

  /** Durable when it resolves. @throws Unavailable where the storage is away */
  advance(mark: ReceiptMark): Promise<Marked> {
    const answer = Promise.withResolvers<Marked>();
    this.#waiting.push({ mark, answer });
    this.#schedule();
    return answer.promise;
  }

  #schedule(): void {
    if (this.#waiting.length === 0 || this.#isScheduled || this.#isBusy || this.#underWay >= atOnceMax) return;
    this.#isScheduled = true;
    // At the end of the turn, so that all marks of the turn go together.
    setImmediate(() => {
      this.#isScheduled = false;
      void this.#move(this.#take());
    });
  }

  async #move(batch: Waiting[]): Promise<void> {
    const goOn = () => {
      this.#isBusy = false;
      this.#schedule();
    };
    this.#underWay++;
    this.#isBusy = true;
    const late = setTimeout(goOn, this.options.patienceMs ?? 100);
    try {
      const marked = await this.options.store.advance(batch.map(({ mark }) => mark));
      for (const [index, { answer }] of batch.entries()) answer.resolve(marked[index]!);
    } catch (error) {
      // Where the storage is away nobody waits for one refusal after the other.
      const others = error instanceof Unavailable ? this.#waiting.splice(0) : [];
      for (const { answer } of [...batch, ...others]) answer.reject(error);
    } finally {
      clearTimeout(late);
      this.#underWay--;
      goOn();
    }
  }

  /** Takes one of a user and conversation at most: the next one moves on from where it has come to. */
  #take(): Waiting[] {
    const taken = new Map<string, Waiting>();
    const rest: Waiting[] = [];
    let ids = 0;
    for (const waiting of this.#waiting) {
      const { conversationId, userId, messageIds = [] } = waiting.mark;
      const key = `${conversationId} ${userId}`;
      const isFull = taken.size >= marksMax || (taken.size > 0 && ids + messageIds.length > idsMax);
      if (isFull || taken.has(key)) {
        rest.push(waiting);
        continue;
      }
      ids += messageIds.length;
      taken.set(key, waiting);
    }
    this.#waiting = rest;
    return [...taken.values()];
  }
}
