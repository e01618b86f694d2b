/** Declares what the main thread and the storage worker say to each other. */
import type { EngineOptions, Operations } from "./engine.ts";

export interface Request {
  /** `open` only makes sure that the file is open. */
  operation: keyof Operations | "open";
  values: unknown[];
}

export type Answer =
  | { ok: true; value: unknown }
  /** `unavailable`: the engine's trouble and worth another try; else a fault of the request or of ours. */
  | { ok: false; unavailable: boolean; message: string; code?: string };

export type ToWorker =
  | { kind: "configure"; options: EngineOptions }
  | { kind: "requests"; batch: number; requests: Request[] }
  | { kind: "close"; batch: number };

/** One answer for each request of the batch, in the same order. */
export interface FromWorker {
  batch: number;
  answers: Answer[];
}
