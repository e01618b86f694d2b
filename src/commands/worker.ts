/** Runs this process as one of several: what its supervisor orders it to do, and what it asks about the others. */
import { realTimers } from "../ground/timers.ts";
import type { Siblings } from "../health/checkers.ts";
import type { CommandIo } from "./command.ts";
import { type FromSupervisor, type FromWorker, ReadyQuestions, workerNumberVariable } from "./worker-link.ts";

export interface Duties {
  port: number;
  /** Whether this process alone is ready. */
  isReady(): Promise<boolean>;
  /** As if it had been told to end so many times in all: a signal to the whole group may have reached it already. */
  terminateUpTo(times: 1 | 2): void;
  reload(): void;
}

export interface WorkerSlot extends Siblings {
  /** From 1. */
  workerNumber: number;
  /** Says that it listens, and from now on does what it is told. Where the supervisor vanishes, it drains. */
  takeUp(duties: Duties): void;
}

/** A little less than a probe's deadline, a little more than the supervisor takes to find that another hangs. */
const questionDeadlineMs = 850;

/** @returns null where nobody has started this process as a worker */
export function findWorkerSlot({ env, parent }: Pick<CommandIo, "env" | "parent">): WorkerSlot | null {
  const workerNumber = Number(env[workerNumberVariable]);
  if (parent === null || !(workerNumber >= 1)) return null;
  const send = (message: FromWorker) => parent.send(message);
  const questions = new ReadyQuestions({
    send,
    deadlineMs: questionDeadlineMs,
    ...realTimers,
  });

  function hear(message: FromSupervisor, { isReady, terminateUpTo, reload }: Duties): void {
    switch (message.kind) {
      case "question":
        void isReady().then((ready) => send({ kind: "answer", id: message.id, ready }));
        return;
      case "answer":
        return questions.note(message);
      case "order":
        return message.order === "reload" ? reload() : terminateUpTo(message.order === "drain" ? 1 : 2);
    }
  }

  return {
    workerNumber,
    areReady: () => questions.ask(),
    takeUp(duties) {
      parent.onMessage((message) => hear(message as FromSupervisor, duties));
      parent.onClosed(() => {
        questions.end();
        duties.terminateUpTo(1);
      });
      send({ kind: "listening", port: duties.port });
    },
  };
}
