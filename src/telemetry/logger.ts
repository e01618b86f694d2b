/** Writes structured logs: bounded, never blocking, and without tokens or contents. */
import pino from "pino";
import { ExpectedError } from "../ground/expected-error.ts";
import { Unavailable } from "../ground/unavailable.ts";
import { visible } from "./visible.ts";

export type Logger = pino.Logger;

export interface LoggerOptions {
  level: string;
  format: "json" | "pretty";
  /** Bytes that may wait for a stalled pipe before lines are dropped. */
  bufferBytesMax?: number;
}

export interface LogSink {
  logger: Logger;
  /** Lines that were dropped because nobody read the pipe. */
  droppedLines(): number;
  /** Writes out what waits, for as long as a reader takes it; called once on the way out. Never rejects. */
  flush(): Promise<void>;
}

/** How long a line waits for others that are written with it: few writes under load, and a reader sees it at once. */
const companyMs = 20;

/** How often all that waits is written, whatever came of the writes before. */
const flushEveryMs = 1_000;

/** How long the last lines may take to be read before the process ends without them. */
const lastFlushMsMax = 1_000;

/** Paths whose values never appear in a line, whoever logs them. */
const redacted = ["token", "content", "payload", "sdp", "authorization", "*.token", "*.content", "*.payload", "*.sdp"];

/** Picks what of an error is in a line, under `err`: drivers hang commands and their arguments on theirs, which are nobody's business. */
export function loggedError(error: unknown): Record<string, string> {
  if (!(error instanceof Error)) return { message: String(error) };
  const { name: type, message, stack, cause } = error;
  const { code } = error as { code?: unknown };
  if (error instanceof Unavailable) return { type, part: error.part, message };
  if (error instanceof ExpectedError) return { type, message };
  return {
    type,
    ...(typeof code === "string" ? { code } : {}),
    message,
    ...(stack === undefined ? {} : { stack }),
    ...(cause === undefined ? {} : { cause: String(cause) }),
  };
}

export function createLogSink({ level, format, bufferBytesMax = 1 << 20 }: LoggerOptions): LogSink {
  // Transports need a worker file of their own, which a compiled binary has not; the destination writes by itself.
  const destination = pino.destination({ dest: 1, sync: false, minLength: 4096, maxLength: bufferBytesMax });
  let dropped = 0;
  destination.on("drop", () => dropped++);
  destination.on("error", () => dropped++);
  // Text that others chose (ids, reasons, addresses) must not steer the terminal that a line is read in, nor make another line.
  const inForm = format === "json" ? (line: string) => line : prettyLineOf;
  let soon: Timer | null = null;
  function write(line: string): void {
    destination.write(`${visible(inForm(line.trimEnd()))}\n`);
    soon ??= setTimeout(() => {
      soon = null;
      destination.flush();
    }, companyMs).unref();
  }
  const logger = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: redacted, censor: "[redacted]" },
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: loggedError },
    },
    { write },
  );
  // A flush does nothing while a write is under way, and what came meanwhile would wait for the next line.
  const always = setInterval(() => destination.flush(), flushEveryMs).unref();
  return {
    logger,
    droppedLines: () => dropped,
    flush() {
      clearInterval(always);
      // Not `flushSync`: on a pipe that nobody reads it would never come back, and the process would never end.
      const { promise, resolve } = Promise.withResolvers<void>();
      const giveUp = setTimeout(() => {
        // Else what is left would be tried again, synchronously, as the process exits.
        destination.destroy();
        clearTimeout(soon ?? undefined);
        resolve();
      }, lastFlushMsMax);
      destination.flush(() => {
        clearTimeout(giveUp);
        resolve();
      });
      return promise;
    },
  };
}

function prettyLineOf(line: string): string {
  const { time, level, msg, ...rest } = JSON.parse(line) as Record<string, unknown>;
  const fields = Object.entries(rest).map(([key, value]) => `${key}=${fieldText(value)}`);
  return `${String(time).slice(11, 23)} ${String(level).toUpperCase().padEnd(5)} ${msg} ${fields.join(" ")}`.trimEnd();
}

/** Quoted where it could be taken for more than one field. */
const fieldText = (value: unknown) =>
  typeof value === "string" && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
