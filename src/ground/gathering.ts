/** Gathers what is asked in one turn of the loop, and while answers are on their way, so that many questions are asked as one. */

export interface GatheringOptions<Question, Answer> {
  /** Asks for all of them. @returns an answer for each, in their order */
  ask: (questions: Question[]) => Promise<(Answer | Promise<Answer>)[]>;
  /** Questions that are asked at once. */
  atOnceMax: number;
  /** Times that it is asked before what comes waits. */
  underWayMax: number;
}

interface Waiting<Question, Answer> {
  question: Question;
  resolve: (answer: Answer | Promise<Answer>) => void;
  reject: (error: unknown) => void;
}

export class Gathering<Question, Answer> {
  /** By what may be asked together, the oldest first. */
  readonly #waiting = new Map<number, Waiting<Question, Answer>[]>();
  #underWay = 0;
  #isDue = false;

  constructor(private readonly options: GatheringOptions<Question, Answer>) {}

  /** @param kind only those of one kind are asked together */
  ask(question: Question, kind = 0): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(kind) ?? [];
      waiting.push({ question, resolve, reject });
      this.#waiting.set(kind, waiting);
      this.#askSoon();
    });
  }

  #askSoon(): void {
    if (this.#isDue || this.#waiting.size === 0 || this.#underWay >= this.options.underWayMax) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      for (const [kind, waiting] of this.#waiting) {
        if (this.#underWay >= this.options.underWayMax) break;
        this.#waiting.delete(kind);
        const later = waiting.splice(this.options.atOnceMax);
        if (later.length > 0) this.#waiting.set(kind, later);
        void this.#askFor(waiting);
      }
    });
  }

  async #askFor(gathered: Waiting<Question, Answer>[]): Promise<void> {
    this.#underWay++;
    try {
      const answers = await this.options.ask(gathered.map(({ question }) => question));
      for (const [index, { resolve }] of gathered.entries()) resolve(answers[index]!);
    } catch (error) {
      for (const { reject } of gathered) reject(error);
    } finally {
      this.#underWay--;
      this.#askSoon();
    }
  }
}
