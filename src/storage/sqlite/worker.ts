/** Takes requests in order, runs them on the engine and answers them together: the worker's own thread. */
import { type Engine, type EngineOptions, failureOf, openEngine } from "./engine.ts";
import type { Answer, FromWorker, Request, ToWorker } from "./messages.ts";

declare const self: Worker;

let options: EngineOptions | null = null;
/** Keeps what the engine has said of the file once it found it damaged: from then on nothing is added to it. */
let damage: Answer | null = null;
/** Null until the first request, and again after an error that a newly opened file may not have. */
let engine: Engine | null = null;

/** So long (ms) after opening the file it does what nobody waits for. */
const settleAfterMs = 1_000;

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  switch (data.kind) {
    case "configure":
      options = data.options;
      return;
    case "requests":
      answer({ batch: data.batch, answers: data.requests.map(run) });
      return;
    case "close":
      answer({ batch: data.batch, answers: [close()] });
      return;
  }
};

function answer(message: FromWorker): void {
  self.postMessage(message);
}

function run(request: Request): Answer {
  let open: Engine;
  try {
    open = engine ?? begin(options!);
  } catch (error) {
    return {
      ok: false,
      unavailable: true,
      message: `The database cannot be opened: ${textOf(error)}.`,
      ...codeOf(error),
    };
  }
  try {
    if (request.operation === "open") return { ok: true, value: undefined };
    if (damage !== null && (request.operation === "append" || request.operation === "proveWrites")) return damage;
    const operation = open.operations[request.operation] as (...values: unknown[]) => unknown;
    return { ok: true, value: operation(...request.values) };
  } catch (error) {
    const failure = failureOf(error);
    // Not opened anew where it is in memory only: all would be lost.
    if (failure === "broken" && options!.path !== ":memory:") close();
    const message = `${request.operation}: ${textOf(error)}.`;
    const answer: Answer = { ok: false, unavailable: failure !== "fault", message, ...codeOf(error) };
    if (answer.code?.startsWith("SQLITE_CORRUPT")) damage ??= answer;
    return answer;
  }
}

function begin(given: EngineOptions): Engine {
  const opened = openEngine(given);
  engine = opened;
  setTimeout(() => {
    if (engine === opened) settle(opened);
  }, settleAfterMs);
  return opened;
}

function settle(opened: Engine): void {
  try {
    opened.settle();
  } catch {
    // The next operation meets what is wrong with the file, and says so.
  }
}

function close(): Answer {
  try {
    engine?.close();
  } catch {
    // A file that cannot be closed well is recovered from its WAL when it is opened next.
  }
  engine = null;
  return { ok: true, value: undefined };
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function codeOf(error: unknown): { code?: string } {
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? { code } : {};
}
