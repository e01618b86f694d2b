/** Writes what many ask for by few statements: all that comes in one turn, and what comes while others are under way. */
import { Unavailable } from "./unavailable.ts";

/** Items of one statement, and their weight: what else is asked comes in between. */
const itemsMax = 50;
const weightMax = 1_000;
/** Statements under way, where some take longer than `patienceMs`: others wait no longer than need be. */
const atOnceMax = 4;

export interface SharedWritesOptions<Item, Answer> {
  /** @returns an answer for each, in the same order */
  write(items: Item[]): Promise<Answer[]>;
  /** A statement has one item of a key at most: the next one goes on from where it has come to. */
  keyOf(item: Item): string;
  weightOf?(item: Item): number;
  /** So long (ms) is a statement waited for before the next one. */
  patienceMs?: number;
  /** So long (ms) after one has begun the next one waits for company, unless somebody is in a hurry; 0: not at all. */
  paceMs?: number;
}

interface Waiting<Item, Answer> {
  item: Item;
  answer: PromiseWithResolvers<Answer>;
}

export class SharedWrites<Item, Answer> {
  #waiting: Waiting<Item, Answer>[] = [];
  #isScheduled = false;
  /** A statement is under way, and not for long. */
  #isBusy = false;
  #underWay = 0;
  /** By `performance.now()`. */
  #nextAt = 0;
  /** Ends the wait for company. */
  #pause: Timer | null = null;

  constructor(private readonly options: SharedWritesOptions<Item, Answer>) {}

  /** Durable when it resolves. @throws Unavailable where the storage is away */
  write(item: Item): Promise<Answer> {
    const answer = Promise.withResolvers<Answer>();
    this.#waiting.push({ item, answer });
    this.#schedule();
    return answer.promise;
  }

  /** Has what waits written as soon as can be: somebody waits behind it. */
  hurry(): void {
    this.#nextAt = 0;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#waiting.length === 0 || this.#isScheduled || this.#isBusy || this.#underWay >= atOnceMax) return;
    const waitMs = this.#waiting.length < itemsMax ? this.#nextAt - performance.now() : 0;
    if (waitMs > 0) {
      this.#pause ??= setTimeout(() => this.hurry(), waitMs);
      return;
    }
    if (this.#pause !== null) clearTimeout(this.#pause);
    this.#pause = null;
    this.#isScheduled = true;
    // At the end of the turn, so that all of the turn go together.
    setImmediate(() => {
      this.#isScheduled = false;
      void this.#writeNext();
    });
  }

  async #writeNext(): Promise<void> {
    const batch = this.#take();
    // Refused meanwhile, with the statement before.
    if (batch.length === 0) return;
    const goOn = () => {
      this.#isBusy = false;
      this.#schedule();
    };
    this.#underWay++;
    this.#isBusy = true;
    // Goes on at once with what was left over, for its key or for want of room: that has waited.
    this.#nextAt = this.#waiting.length > 0 ? 0 : performance.now() + (this.options.paceMs ?? 0);
    const late = setTimeout(goOn, this.options.patienceMs ?? 100);
    try {
      const answers = await this.options.write(batch.map(({ item }) => item));
      for (const [index, { answer }] of batch.entries()) answer.resolve(answers[index]!);
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

  #take(): Waiting<Item, Answer>[] {
    const { keyOf, weightOf = () => 0 } = this.options;
    const taken = new Map<string, Waiting<Item, Answer>>();
    const rest: Waiting<Item, Answer>[] = [];
    let weight = 0;
    for (const waiting of this.#waiting) {
      const key = keyOf(waiting.item);
      const own = weightOf(waiting.item);
      const isFull = taken.size >= itemsMax || (taken.size > 0 && weight + own > weightMax);
      if (isFull || taken.has(key)) {
        rest.push(waiting);
        continue;
      }
      weight += own;
      taken.set(key, waiting);
    }
    this.#waiting = rest;
    return [...taken.values()];
  }
}
