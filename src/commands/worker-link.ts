/** Declares what a supervisor and its workers tell each other, and the questions that either may put to the other. */
import type { Timers } from "../ground/timers.ts";

/** `drain`: let everybody go, then end; `end`: at once; `reload`: read certificates and keys again. */
export type Order = "drain" | "end" | "reload";

export type Question = { kind: "question"; id: number };
/** Whether the one that was asked is ready; a supervisor answers for all workers but the asking one. */
export type Answer = { kind: "answer"; id: number; ready: boolean };

export type FromWorker = { kind: "listening"; port: number } | Question | Answer;
export type FromSupervisor = { kind: "order"; order: Order } | Question | Answer;

/** Names a worker's number, from 1, in its environment. */
export const workerNumberVariable = "WS_WORKER";

/** Asks the other side whether it is ready; whoever does not answer in time is not. */
export class ReadyQuestions {
  readonly #pending = new Map<number, (ready: boolean) => void>();
  #last = 0;

  constructor(private readonly options: Timers & { send: (question: Question) => void; deadlineMs: number }) {}

  /** Never rejects. */
  ask(): Promise<boolean> {
    const { send, deadlineMs, after } = this.options;
    const id = ++this.#last;
    return new Promise((resolve) => {
      const cancel = after(deadlineMs, () => this.note({ kind: "answer", id, ready: false }));
      this.#pending.set(id, (ready) => {
        cancel();
        resolve(ready);
      });
      send({ kind: "question", id });
    });
  }

  /** An answer has come; one that is too late is passed over. */
  note({ id, ready }: Answer): void {
    this.#pending.get(id)?.(ready);
    this.#pending.delete(id);
  }

  /** The other side has gone: what is still asked is answered with no. */
  end(): void {
    for (const id of [...this.#pending.keys()]) this.note({ kind: "answer", id, ready: false });
  }
}
