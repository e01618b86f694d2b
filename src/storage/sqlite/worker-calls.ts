/** Carries calls to the storage worker: those of one turn of the loop in few messages, and their answers in as many. */
import { pages } from "../../ground/pages.ts";
import { Stopped, Unavailable } from "../../ground/unavailable.ts";
import type { EngineOptions, Operations } from "./engine.ts";
import type { Answer, FromWorker, Request, ToWorker } from "./messages.ts";

export interface WorkerCallsOptions {
  engine: EngineOptions;
  spawn(): Worker;
  /** Calls that may wait; one more is refused at once. */
  callsMax: number;
  /** After so long without an answer a call is given up, ms; the worker may still do it. */
  callTimeoutMs: number;
  /** Told before answers are given out: what they say was written is there. */
  onAnswers?: () => void;
  /** Told where the engine refuses, or is gone: from now on the file may be another one than it was. */
  onTrouble?: () => void;
  /** Told of each answer that says that the file is damaged. */
  onDamage?: (error: Error) => void;
}

/** Calls of one message: with more, the worker and this thread would wait for each other in turns, and for long. */
const messageMax = 16;

interface Call {
  request: Request;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

interface Batch {
  calls: Call[];
  timer: ReturnType<typeof setTimeout> | null;
}

type State =
  | { kind: "stopped" }
  | { kind: "running"; worker: Worker }
  /** Died; the next call starts another worker, unless what it held is gone. */
  | { kind: "lost"; reason: string };

export class WorkerCalls {
  readonly #options: WorkerCallsOptions;
  readonly #inFlight = new Map<number, Batch>();
  #state: State = { kind: "stopped" };
  #waiting: Call[] = [];
  #inFlightCalls = 0;
  #isOpening = false;
  #batches = 0;

  constructor(options: WorkerCallsOptions) {
    this.#options = options;
  }

  /**
   * Starts the worker and opens the file, however long that takes: calls that are made meanwhile wait as long, and those of the same step go
   * along. Rejects with `Unavailable`.
   */
  async start(): Promise<void> {
    if (this.#state.kind !== "running") this.#spawn();
    this.#isOpening = true;
    try {
      await new Promise<unknown>((resolve, reject) => {
        this.#waiting.push({ request: { operation: "open", values: [] }, resolve, reject });
        queueMicrotask(() => this.#flush());
      });
    } finally {
      this.#isOpening = false;
    }
  }

  /**
   * Runs an operation in the worker, after all that were called before it.
   * Rejects with `Unavailable` while the engine is away, and with an `Error` where the operation itself is at fault.
   */
  call<Name extends keyof Operations>(
    operation: Name,
    ...values: Parameters<Operations[Name]>
  ): Promise<ReturnType<Operations[Name]>> {
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal();
      if (refusal !== null) return reject(refusal);
      // Appended events were gathered over a turn already; calls before them go along.
      const isGathered = operation === "append";
      if (this.#waiting.length === 0 && !isGathered) setImmediate(() => this.#flush());
      this.#waiting.push({ request: { operation, values }, resolve: resolve as (value: unknown) => void, reject });
      if (isGathered) this.#flush();
    });
  }

  /** Finishes what was called, closes the file and ends the worker. */
  async stop(): Promise<void> {
    if (this.#state.kind === "running") {
      const { worker } = this.#state;
      this.#flush();
      const closed = new Promise<unknown>((resolve) => {
        const batch = this.#track([{ request: { operation: "open", values: [] }, resolve, reject: resolve }], {
          timed: true,
        });
        worker.postMessage({ kind: "close", batch } satisfies ToWorker);
      });
      this.#state = { kind: "stopped" };
      await closed;
      worker.terminate();
    }
    this.#state = { kind: "stopped" };
    this.#rejectAll(stopped());
  }

  #refusal(): Unavailable | null {
    if (this.#state.kind === "stopped") return stopped();
    if (this.#waiting.length + this.#inFlightCalls >= this.#options.callsMax)
      return new Unavailable("storage", "Too many calls wait for storage.");
    if (this.#state.kind === "lost") {
      // A new worker would begin with an empty log and give out old positions again.
      if (this.#options.engine.path === ":memory:") return new Unavailable("storage", this.#state.reason);
      this.#spawn();
    }
    return null;
  }

  #spawn(): void {
    const worker = this.#options.spawn();
    this.#state = { kind: "running", worker };
    const lose = (reason: string) => {
      if (this.#state.kind !== "running" || this.#state.worker !== worker) return;
      this.#state = { kind: "lost", reason };
      worker.terminate();
      this.#options.onTrouble?.();
      this.#rejectAll(new Unavailable("storage", reason));
    };
    worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => this.#settle(data));
    worker.addEventListener("error", ({ message }) => lose(`The storage worker has failed: ${message}.`));
    worker.addEventListener("close", () => lose("The storage worker has ended."));
    worker.postMessage({ kind: "configure", options: this.#options.engine } satisfies ToWorker);
  }

  #flush(): void {
    const calls = this.#waiting;
    this.#waiting = [];
    for (const page of pages(calls, messageMax)) this.#send(page);
  }

  #send(calls: Call[]): void {
    if (this.#state.kind !== "running") return;
    const batch = this.#track(calls, { timed: !this.#isOpening });
    const requests = calls.map(({ request }) => request);
    this.#state.worker.postMessage({ kind: "requests", batch, requests } satisfies ToWorker);
  }

  #track(calls: Call[], { timed }: { timed: boolean }): number {
    const batch = ++this.#batches;
    // They count until the worker is done with them: it has them before it, and must not be given more without end.
    const giveUp = () => rejectAll(calls, new Unavailable("storage", "The storage has not answered in time."));
    this.#inFlight.set(batch, { calls, timer: timed ? setTimeout(giveUp, this.#options.callTimeoutMs) : null });
    this.#inFlightCalls += calls.length;
    return batch;
  }

  #settle({ batch, answers }: FromWorker): void {
    this.#options.onAnswers?.();
    const calls = this.#take(batch);
    for (const [index, call] of calls.entries()) this.#settleCall(call, answers[index]!);
  }

  #settleCall(call: Call, answer: Answer): void {
    if (answer.ok) return call.resolve(answer.value);
    const { unavailable, message, code } = answer;
    if (unavailable) this.#options.onTrouble?.();
    const error = unavailable
      ? new Unavailable("storage", message, { code })
      : Object.assign(new Error(message), { code });
    if (code?.startsWith("SQLITE_CORRUPT")) this.#options.onDamage?.(error);
    call.reject(error);
  }

  #take(batch: number): Call[] {
    const found = this.#inFlight.get(batch);
    if (!found) return [];
    this.#inFlight.delete(batch);
    this.#inFlightCalls -= found.calls.length;
    if (found.timer) clearTimeout(found.timer);
    return found.calls;
  }

  #rejectAll(reason: Unavailable): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const batch of [...this.#inFlight.keys()]) rejectAll(this.#take(batch), reason);
    rejectAll(waiting, reason);
  }
}

function rejectAll(calls: Call[], reason: Unavailable): void {
  for (const call of calls) call.reject(reason);
}

const stopped = () => new Stopped("storage", "The storage is stopped.");
