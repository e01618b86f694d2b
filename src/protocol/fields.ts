/** Defines the field types that payload schemas are made of. */
import * as v from "valibot";
import { isPlainObject } from "./envelope.ts";
import { limits } from "./limits.ts";

const notEmpty = v.minLength<string, 1, string>(1, "must not be empty");

/** Bounds a text, and says so. */
export const charactersMax = (most: number) =>
  v.maxLength<string, number, string>(most, `must have at most ${most} characters`);

/** Text that is something, of so many characters at most. */
export const someText = (most: number) => v.pipe(v.string(), notEmpty, charactersMax(most));

/** How many entries of a page are asked for. */
export const pageLimit = ({ most, usual }: { most: number; usual: number }) =>
  v.optional(
    v.pipe(
      v.number("must be a whole number"),
      v.safeInteger("must be a whole number"),
      v.minValue(1, "must be at least 1"),
      v.maxValue(most, `must be at most ${most}`),
    ),
    usual,
  );

const printable = /^[\x21-\x7e]+$/;

/** Whether a text can be an identifier of the application's at all: the same rule as `identifier`, for names that hold one. */
export const isIdentifier = (text: string) =>
  text.length >= 1 && text.length <= limits.identifierLength && printable.test(text);

/**
 * Whether an identifier names what nobody has meant: a pattern, or what a program prints for nothing. Nothing comes into
 * being under such a name, for everybody with the same slip would meet there.
 */
export const isSlip = (id: string) => /^([*#+>%?]+|undefined|null|NaN|\[object.*|\$\{.*\})$/.test(id);

/** An identifier of the application's: 1–128 printable ASCII characters without space. */
export const identifier = v.pipe(
  v.string(),
  notEmpty,
  charactersMax(limits.identifierLength),
  v.regex(printable, "must be printable ASCII without spaces"),
);

/** The type of an application's own event, or of one of ours. */
export const eventType = v.pipe(v.string(), v.regex(/^[a-z][a-z0-9_.]{0,63}$/, "must match ^[a-z][a-z0-9_.]{0,63}$"));

export const uuid = v.pipe(v.string(), v.uuid("must be a UUID"));
export const sequence = v.pipe(
  v.number(),
  v.safeInteger("must be a whole number"),
  v.minValue(0, "must not be negative"),
);
/** A place in the log: an opaque text, which only the server that wrote it reads [LOG4]. */
export const cursor = v.pipe(
  v.string(),
  notEmpty,
  charactersMax(limits.cursorLength),
  v.regex(printable, "must be printable ASCII without spaces"),
);
export const flag = v.boolean();
/** A moment, RFC 3339 in UTC with milliseconds: `2026-01-02T03:04:05.678Z`. */
export const moment = v.pipe(v.string(), v.isoTimestamp("must be an RFC 3339 timestamp"));

export const identifiers = (most: number) =>
  v.pipe(v.array(identifier), v.minLength(1, "must name at least one"), v.maxLength(most, `must name at most ${most}`));

export const topicName = someText(limits.topicLength);
/** Names of topics, whole or short, as many as one request may have. */
export const topicNames = v.pipe(
  v.array(topicName),
  v.minLength(1, "must name at least one topic"),
  v.maxLength(limits.namesPerRequest, `must name at most ${limits.namesPerRequest} topics`),
);

/** Any JSON object that the application likes; only its nesting is limited, when the message is decoded. */
export const freeObject = v.custom<Record<string, unknown>>(isPlainObject, "must be an object");
/** Text, or whatever else an application has people say. */
export const content = v.union([v.string(), freeObject], "must be a string or an object");
/** Names a reaction, such as an emoji: text that is stored as it is. */
export const reaction = v.pipe(
  v.string(),
  notEmpty,
  v.maxBytes(limits.reactionBytes, `must have at most ${limits.reactionBytes} bytes`),
  v.excludes("\0", "must not hold the character U+0000"),
  v.check((text) => text.isWellFormed(), "must be well-formed Unicode"),
);
export const statusName = v.picklist(["online", "away", "busy", "invisible"]);
export const shownStatusName = v.picklist(["online", "away", "busy", "offline", "invisible"]);
export const mediaKind = v.picklist(["audio", "video"]);
export const sdp = v.pipe(
  v.string(),
  notEmpty,
  v.maxBytes(limits.sdpBytes, `must have at most ${limits.sdpBytes / 1024} KiB`),
);
const iceCandidate = v.union(
  [v.pipe(v.string(), charactersMax(limits.iceCandidateLength)), freeObject],
  "must be a string or an object",
);
export const iceCandidates = v.nullable(
  v.pipe(
    v.array(iceCandidate),
    v.minLength(1, "must hold at least one candidate"),
    v.maxLength(limits.iceCandidates, `must hold at most ${limits.iceCandidates} candidates`),
  ),
);
export const hangupReason = v.picklist([
  "hangup",
  "cancelled",
  "declined",
  "busy",
  "ice_failed",
  "media_failed",
  "error",
]);
export const endReason = v.picklist([
  "hangup",
  "cancelled",
  "declined",
  "declined_elsewhere",
  "answered_elsewhere",
  "busy",
  "timeout",
  "replaced",
  "connection_lost",
  "ice_failed",
  "media_failed",
  "error",
]);
export type EndReason = v.InferOutput<typeof endReason>;
export type HangupReason = v.InferOutput<typeof hangupReason>;
