/** Defines the frame around every payload, in both directions [ENV1] [ENV2]. */
import * as v from "valibot";
import { limits, type WireFormat } from "./limits.ts";

/** Client → server, before its payload is looked at. */
export const requestEnvelope = v.object({
  id: v.pipe(
    v.string("must be a string"),
    v.minLength(1, "must not be empty"),
    v.maxLength(limits.requestIdLength, `must have at most ${limits.requestIdLength} characters`),
  ),
  type: v.pipe(
    v.string("must be a string"),
    v.maxLength(limits.typeLength, `must have at most ${limits.typeLength} characters`),
  ),
  payload: v.optional(v.custom<Record<string, unknown>>(isPlainObject, "must be an object"), {}),
  timestamp: v.optional(v.union([v.string(), v.number()], "must be a string or a number")),
  /** The client's span, as W3C Trace Context writes it. Whatever it is, no request is refused for it. */
  traceparent: v.fallback(v.optional(v.string()), undefined),
});
export type RequestEnvelope = v.InferOutput<typeof requestEnvelope>;

/** A message as it was written, so that whoever sends it again need not write it again. */
export type Frames = Partial<Record<WireFormat, string | Uint8Array>>;

/** Server → client. `payload` is JSON text, so that it is encoded once and sent to any number of sockets. */
export interface OutgoingMessage {
  id: string;
  type: string;
  /** JSON text of an object. */
  payload: string;
  /** Milliseconds since 1970. */
  at: number;
  replyTo?: string;
  /** The three are there on logged events only. */
  topic?: string;
  seq?: number;
  position?: number;
  /** Filled in as it is sent. */
  frames?: Frames;
}

export function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
