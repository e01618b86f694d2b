/** The wire format `ws-service.v1.protobuf`: the same envelopes as in JSON, in binary frames [CON4]. */
import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  fromJson,
  getOption,
  hasOption,
  type JsonObject,
  type JsonValue,
  type Message,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { type Value, ValueSchema } from "@bufbuild/protobuf/wkt";
import type { Codec } from "../codec.ts";
import type { OutgoingMessage } from "../envelope.ts";
import { ProtocolError } from "../errors.ts";
import { limits } from "../limits.ts";
import { fromPlain, toPlain } from "./plain.ts";
import { hasMoreValues, textsOfFrame } from "./wire.ts";
import {
  type ClientFrame,
  ClientFrameSchema,
  payload_of,
  type ServerFrame,
  ServerFrameSchema,
} from "./ws-service_pb.ts";

type Envelope = Record<string, unknown>;
type TypedField = DescField & { message: DescMessage };

// A level of free JSON takes two messages (Struct or ListValue, and Value); the exact depth is measured on the plain form.
const readOptions = { readUnknownFields: false, recursionLimit: 2 * limits.jsonDepth + 4 };

export const protobufCodec: Codec = {
  encode({ id, type, payload, at, replyTo, topic, seq, position }: OutgoingMessage) {
    const logged = topic !== undefined && seq !== undefined;
    const frame = create(ServerFrameSchema, {
      id,
      type,
      replyTo,
      topic: logged ? topic : undefined,
      seq: logged ? BigInt(seq) : undefined,
      position: logged && position !== undefined ? BigInt(position) : undefined,
      timestamp: new Date(at).toISOString(),
    });
    frame.payload = payloadFrom(ServerFrameSchema, type, JSON.parse(payload)) as ServerFrame["payload"];
    return toBinary(ServerFrameSchema, frame);
  },

  decode(frame) {
    if (typeof frame === "string") {
      throw new ProtocolError("invalid_message", "This connection speaks protobuf in binary frames.");
    }
    if (hasMoreValues(frame, limits.jsonValues)) {
      throw new ProtocolError("invalid_message", `A message may have at most ${limits.jsonValues} values.`);
    }
    let envelope: Envelope;
    try {
      envelope = envelopeOf(ClientFrameSchema, fromBinary(ClientFrameSchema, frame, readOptions));
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      throw new ProtocolError("invalid_message", "This is not a ClientFrame of ws-service.v1.protobuf.");
    }
    checkJson(envelope, limits.jsonDepth);
    return envelope;
  },

  glimpse: (frame) => (typeof frame === "string" ? {} : textsOfFrame(frame)),
};

/** The client's half of the format, for clients and tests; envelopes are those of the JSON form. */
export const protobufPeer = {
  /** A client's frame. The payload has its own message where that can say all of it, else it is `custom`. */
  encode({ id, type, payload, timestamp }: Envelope): Uint8Array {
    const frame = create(ClientFrameSchema, { id: id as string, type: type as string });
    if (timestamp !== undefined) frame.timestamp = fromJson(ValueSchema, timestamp as JsonValue);
    if (payload !== undefined) {
      frame.payload = payloadFrom(ClientFrameSchema, String(type), payload) as ClientFrame["payload"];
    }
    return toBinary(ClientFrameSchema, frame);
  },

  /**
   * The envelope of a server's frame.
   * @throws Error where the bytes are not a ServerFrame
   */
  decode(frame: Uint8Array): Envelope {
    return envelopeOf(ServerFrameSchema, fromBinary(ServerFrameSchema, frame));
  },
};

/** The payload fields of a frame, by the message type that they are for. */
function payloadFieldsOf(frame: DescMessage): Map<string, TypedField[]> {
  const typed = frame.fields.filter((field): field is TypedField => hasOption(field, payload_of));
  return Map.groupBy(typed, (field) => getOption(field, payload_of));
}

const payloadFields = new Map<DescMessage, Map<string, TypedField[]>>([
  [ClientFrameSchema, payloadFieldsOf(ClientFrameSchema)],
  [ServerFrameSchema, payloadFieldsOf(ServerFrameSchema)],
]);

function payloadFrom(frame: DescMessage, type: string, plain: unknown): { case: string; value: Message | JsonObject } {
  for (const field of payloadFields.get(frame)?.get(type) ?? []) {
    const value = fromPlain(field.message, plain);
    if (value !== undefined) return { case: field.localName, value };
  }
  return { case: "custom", value: plain as JsonObject };
}

function envelopeOf(desc: DescMessage, frame: ClientFrame | ServerFrame): Envelope {
  const envelope: Envelope = {};
  const source = frame as unknown as Envelope;
  for (const field of desc.fields) {
    const value = field.oneof?.name === "payload" ? undefined : source[field.localName];
    if (value === undefined) continue;
    envelope[field.name] =
      typeof value === "bigint" ? Number(value) : field.message ? toJson(ValueSchema, value as Value) : value;
  }
  if (frame.payload.case === "custom") envelope.payload = frame.payload.value;
  else if (frame.payload.case !== undefined) {
    const typed = payloadFields.get(desc)?.get(frame.type ?? "");
    const field = typed?.find((it) => it.localName === frame.payload.case);
    if (field === undefined) throw new ProtocolError("invalid_message", "The payload is not the one of the type.");
    envelope.payload = toPlain(field.message, frame.payload.value as Message);
  }
  return envelope;
}

/** Refuses what JSON text could not have said: nesting beyond the limit, and numbers that are none. */
function checkJson(value: unknown, depthLeft: number): void {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new ProtocolError("invalid_message", "A number must be finite.");
  }
  if (typeof value !== "object" || value === null) return;
  if (depthLeft === 0) {
    throw new ProtocolError("invalid_message", `A message may be nested at most ${limits.jsonDepth} deep.`);
  }
  for (const item of Object.values(value)) checkJson(item, depthLeft - 1);
}
