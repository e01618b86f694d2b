/** Speaks the wire format `ws-service.v1.protobuf`: the envelopes of the JSON form in binary frames [CON4]. */
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { momentText } from "../../ground/moments.ts";
import type { Codec, Glimpse } from "../codec.ts";
import { ProtocolError } from "../errors.ts";
import type { ShapeLimits } from "../json-text.ts";
import { limits } from "../limits.ts";
import { type BoundFrame, bindProtocol, type Payload, payloadsOf } from "./frames.ts";
import { parseProto } from "./proto-file.ts";
import { PlainReader } from "./read.ts";
import { writeField, writeMessage } from "./write.ts";
import protoFile from "./ws-service.proto" with { type: "text" };

type Envelope = Record<string, unknown>;

let bound: ReturnType<typeof bindProtocol> | null = null;
/** Bound when the first frame comes, which is a third of all that modules do at a start: most services never see one. */
const frames = () => (bound ??= bindProtocol(parseProto(protoFile), "refuse"));
const shapeLimits: ShapeLimits = { depth: limits.jsonDepth, values: limits.jsonValues };

export const protobufCodec: Codec = {
  encode({ id, type, payload, at, replyTo, topic, seq, position }) {
    const logged = topic === undefined || seq === undefined ? {} : { topic, seq, position };
    const envelope = { id, type, reply_to: replyTo, ...logged, timestamp: momentText(at) };
    return encodeFrame(frames().ServerFrame, envelope, JSON.parse(payload));
  },

  decode(bytes) {
    if (typeof bytes === "string") {
      throw new ProtocolError("invalid_message", "This connection speaks protobuf in binary frames.");
    }
    try {
      return decodeClientFrame(bytes, shapeLimits);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      throw new ProtocolError("invalid_message", "This is not a ClientFrame of ws-service.v1.protobuf.");
    }
  },

  glimpse: (bytes) => (typeof bytes === "string" ? {} : textsOfFrame(bytes)),
};

/**
 * Reads a client's frame; stops where it is of more than `most`.
 * @throws ProtocolError `invalid_message` where it is, Error where the bytes are no frame
 */
export const decodeClientFrame = (bytes: Uint8Array, most: ShapeLimits) =>
  decodeFrame(frames().ClientFrame, bytes, most);

/** Speaks the client's half of the format, for clients and tests; envelopes are those of the JSON form. */
export const protobufPeer = {
  /** Writes a client's frame. */
  encode: ({ payload, ...envelope }: Envelope) => encodeFrame(frames().ClientFrame, envelope, payload),

  /**
   * Reads a server's frame.
   * @throws Error where the bytes are not a ServerFrame
   */
  decode: (bytes: Uint8Array) => decodeFrame(frames().ServerFrame, bytes, { depth: Infinity, values: Infinity }),
};

let writer = new BinaryWriter();
/** Bytes of a frame after which the writer does not keep its memory for the next one. */
const keptBytesMax = 1024 * 1024;

/** Writes a frame. Its payload has its own message where that can say all of it, else it is `custom`. */
export function encodeFrame(frame: BoundFrame, envelope: Envelope, payload: unknown): Uint8Array {
  for (const { number, form } of payloadsOf(frame, envelope.type)) {
    let isWritten = false;
    let bytes: Uint8Array;
    try {
      isWritten =
        writeMessage(writer, frame.envelope, envelope) &&
        (payload === undefined || writeField(writer, number, form, payload));
    } finally {
      // In any case, for what was begun must not stand before the next frame.
      bytes = writer.finish();
      if (bytes.length > keptBytesMax) writer = new BinaryWriter();
    }
    if (isWritten) return bytes;
  }
  throw new TypeError("A frame has an envelope, and an object as its payload.");
}

/**
 * Reads a frame's envelope.
 * @throws ProtocolError `invalid_message` where it is of more than `most`, Error where the bytes are no such frame
 */
export function decodeFrame(frame: BoundFrame, bytes: Uint8Array, most: ShapeLimits): Envelope {
  const reader = new PlainReader(bytes, most);
  const envelope: Envelope = {};
  let payload: Payload | undefined;
  // Read last: the type, which says what it is, may come after it. Where it is in pieces, they are one.
  let starts: number[] = [];
  while (reader.isBefore(bytes.length)) {
    const tag = reader.tag();
    const [number, wireType] = tag;
    const field = frame.envelope.byNumber.get(number);
    const found = wireType === WireType.LengthDelimited ? frame.byNumber.get(number) : undefined;
    if (found !== undefined) {
      if (payload !== found) starts = [];
      payload = found;
      starts.push(reader.pos);
      reader.passOver(tag);
    } else if (field === undefined || !reader.field(field, { tag, depth: most.depth }, envelope)) reader.passOver(tag);
  }
  if (payload === undefined) return envelope;
  if (payload.type !== null && payload.type !== envelope.type) {
    throw new ProtocolError("invalid_message", "The payload is not the one of the type.");
  }
  for (const start of starts) {
    reader.pos = start;
    envelope.payload = reader.item(payload.form, most.depth - 1, envelope.payload);
  }
  return envelope;
}

/** Fields of a frame that are looked at; an ordinary one has four. */
const fieldsMax = 64;

/** Finds the id and the type of a client's frame, however long its payload is; of bytes that are no frame it may be anything. */
function textsOfFrame(bytes: Uint8Array): Glimpse {
  const found: Glimpse = {};
  const reader = new BinaryReader(bytes);
  const { byNumber } = frames().ClientFrame.envelope;
  try {
    for (let fields = 0; fields < fieldsMax && reader.pos < reader.len; fields++) {
      const [number, wireType] = reader.tag();
      if (wireType === WireType.StartGroup) break;
      const name = wireType === WireType.LengthDelimited ? byNumber.get(number)?.name : undefined;
      if (name === "id" || name === "type") found[name] = reader.string();
      else reader.skip(wireType, number);
    }
  } catch {
    // Not a frame: the decoder will say so.
  }
  return found;
}
