/** Keeps a number of worker processes running on one port: starts them, starts crashed ones again, and lets all of them go. */
import type { Timers } from "../ground/timers.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type FromSupervisor, type FromWorker, type Order, ReadyQuestions } from "./worker-link.ts";

export interface WorkerProcess {
  pid: number;
  /** Lost where the process has gone. */
  send(message: FromSupervisor): void;
  kill(signal: "SIGTERM" | "SIGKILL"): void;
}

export interface WorkerStart {
  /** From 1. */
  workerNumber: number;
  /** Null: as configured. */
  port: number | null;
  onMessage(message: FromWorker): void;
  onExit(exit: WorkerExit): void;
}

/** `code` is null where a signal has ended it. */
export interface WorkerExit {
  code: number | null;
  signal: string | null;
}

export interface SupervisorOptions extends Timers {
  count: number;
  spawn(start: WorkerStart): WorkerProcess;
  /** Called once, when all of them listen for the first time. */
  onAllUp(port: number): void;
  /** How long workers may take to drain before they are killed, ms; they bound it themselves, so this is for one that hangs. */
  drainPatienceMs: number;
  logger: Logger;
  /** Milliseconds, on a clock that never goes back. */
  now: () => number;
  random: () => number;
}

/** Before a worker that has crashed is started again: doubled with each crash, back to none after `provenMs` without one. */
const restartDelayMs = { first: 100, most: 30_000 };
const provenMs = 60_000;
/** A worker that is told to end at once has so long for it, ms. */
const endPatienceMs = 5_000;
/** Below the deadline of a probe, so that a worker that hangs is told of as such. */
const questionDeadlineMs = 700;

type Slot = {
  failures: number;
} /** `reload`: told to while it starts, when it may have read what has changed already. */ & (
  | { state: "starting"; worker: WorkerProcess; reload: boolean }
  | { state: "up"; worker: WorkerProcess; since: number; questions: ReadyQuestions }
  | { state: "waiting"; cancel: () => void }
  | { state: "empty" }
);

export class Supervisor {
  readonly #slots = new Map<number, Slot>();
  readonly #ended = Promise.withResolvers<number>();
  #state: "running" | "draining" | "ending" = "running";
  /** Known once the first worker listens; the others follow it. */
  #port: number | null = null;
  #announced = false;
  #failed = false;

  constructor(private readonly options: SupervisorOptions) {}

  /**
   * Starts the first worker and, once it listens, the others.
   * @returns the exit code, once all have ended: 0 where they drained, 1 where the first did not come up, or one crashed
   * or had to be killed while draining
   */
  run(): Promise<number> {
    this.#start(1, 0);
    return this.#ended.promise;
  }

  /** The first call drains all workers, the second ends them at once [DRN]. */
  terminate(): void {
    const { logger, drainPatienceMs } = this.options;
    switch (this.#state) {
      case "running":
        this.#state = "draining";
        logger.info({ workers: this.options.count }, "draining all workers");
        return this.#letGo("drain", drainPatienceMs);
      case "draining":
        this.#state = "ending";
        return this.#letGo("end", endPatienceMs);
      case "ending":
        return;
    }
  }

  reload(): void {
    for (const slot of this.#slots.values()) if (slot.state === "starting") slot.reload = true;
    this.#order("reload");
  }

  #letGo(order: Order, patienceMs: number): void {
    for (const [workerNumber, slot] of this.#slots) {
      // One that has not listened yet has nobody to let go.
      if (slot.state === "starting") slot.worker.kill("SIGTERM");
      if (slot.state !== "waiting") continue;
      slot.cancel();
      this.#slots.set(workerNumber, { state: "empty", failures: 0 });
    }
    this.#order(order);
    this.options.after(patienceMs, () => this.#killAll());
    this.#concludeIfEmpty();
  }

  #order(order: Order): void {
    for (const slot of this.#slots.values()) if (slot.state === "up") slot.worker.send({ kind: "order", order });
  }

  #killAll(): void {
    for (const [workerNumber, slot] of this.#slots) {
      if (slot.state !== "up" && slot.state !== "starting") continue;
      this.options.logger.error({ worker: workerNumber, pid: slot.worker.pid }, "a worker does not end and is killed");
      slot.worker.kill("SIGKILL");
    }
  }

  #start(workerNumber: number, failures: number): void {
    const { logger, spawn } = this.options;
    try {
      const worker = spawn({
        workerNumber,
        port: this.#port,
        onMessage: (message) => this.#hear(workerNumber, message),
        onExit: (exit) => this.#exited(workerNumber, { pid: worker.pid, ...exit }),
      });
      this.#slots.set(workerNumber, { state: "starting", worker, reload: false, failures });
    } catch (error) {
      // A fault that keeps the first from starting would keep the others too.
      if (this.#port === null) throw error;
      // The system has no process or memory to spare right now: no reason to end those that run.
      const delay_ms = this.#startLater(workerNumber, failures + 1);
      logger.error({ worker: workerNumber, err: error, delay_ms }, "a worker cannot be started and is tried again");
    }
  }

  #hear(workerNumber: number, message: FromWorker): void {
    const slot = this.#slots.get(workerNumber)!;
    switch (message.kind) {
      case "listening":
        if (slot.state === "starting") this.#listening(workerNumber, { slot, port: message.port });
        return;
      case "question":
        if (slot.state === "up") void this.#answer(workerNumber, { worker: slot.worker, id: message.id });
        return;
      case "answer":
        if (slot.state === "up") slot.questions.note(message);
        return;
    }
  }

  #listening(workerNumber: number, { slot, port }: { slot: Slot & { state: "starting" }; port: number }): void {
    const { count, logger, now, after, onAllUp } = this.options;
    const { worker, failures } = slot;
    // Being told to end has crossed this on its way.
    if (this.#state !== "running") return;
    const questions = new ReadyQuestions({ send: (it) => worker.send(it), deadlineMs: questionDeadlineMs, after });
    this.#slots.set(workerNumber, { state: "up", worker, since: now(), questions, failures });
    logger.info({ worker: workerNumber, pid: worker.pid }, "a worker is up");
    if (slot.reload) worker.send({ kind: "order", order: "reload" });
    if (this.#port === null) {
      this.#port = port;
      for (let next = 2; next <= count; next++) this.#start(next, 0);
    }
    if (this.#announced || [...this.#slots.values()].some(({ state }) => state !== "up")) return;
    this.#announced = true;
    logger.info({ workers: count, port }, "all workers are up");
    onAllUp(port);
  }

  /** Says whether everybody but the one that asks is ready [END2]. */
  async #answer(asking: number, { worker, id }: { worker: WorkerProcess; id: number }): Promise<void> {
    const others = Array.from({ length: this.options.count }, (_, at) => at + 1).filter(
      (workerNumber) => workerNumber !== asking,
    );
    const answers = await Promise.all(
      others.map(async (workerNumber) => {
        const slot = this.#slots.get(workerNumber);
        return slot?.state === "up" && slot.questions.ask();
      }),
    );
    worker.send({ kind: "answer", id, ready: answers.every((ready) => ready === true) });
  }

  #exited(workerNumber: number, { pid, code, signal }: WorkerExit & { pid: number }): void {
    const { logger, now } = this.options;
    const slot = this.#slots.get(workerNumber)!;
    const wasUp = slot.state === "up";
    if (wasUp) slot.questions.end();
    if (this.#state !== "running") {
      if (wasUp && code !== 0) {
        this.#failed = true;
        logger.error({ worker: workerNumber, pid, code, signal }, "a worker did not end as it should");
      }
      this.#slots.set(workerNumber, { state: "empty", failures: 0 });
      return this.#concludeIfEmpty();
    }
    // It has said why by itself; what keeps the first from starting would keep the others too.
    if (this.#port === null) return this.#ended.resolve(1);
    // Code 0: somebody has drained this one, to have a new one in its place.
    const isProven = wasUp && now() - slot.since >= provenMs;
    const failures = wasUp && code === 0 ? 0 : isProven ? 1 : slot.failures + 1;
    const delay_ms = this.#startLater(workerNumber, failures);
    logger.warn({ worker: workerNumber, pid, code, signal, delay_ms }, "a worker has ended and is started again");
  }

  /** @returns after how long, ms */
  #startLater(workerNumber: number, failures: number): number {
    const { random, after } = this.options;
    const most = Math.min(restartDelayMs.most, restartDelayMs.first * 2 ** (failures - 1));
    const delayMs = failures === 0 ? 0 : Math.round(most * (0.5 + random() / 2));
    this.#slots.set(workerNumber, {
      state: "waiting",
      failures,
      cancel: after(delayMs, () => this.#start(workerNumber, failures)),
    });
    return delayMs;
  }

  #concludeIfEmpty(): void {
    if ([...this.#slots.values()].every(({ state }) => state === "empty")) this.#ended.resolve(this.#failed ? 1 : 0);
  }
}
