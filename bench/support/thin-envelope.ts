/** Speaks the wire format that was not chosen: an envelope in protobuf with the payload as JSON text in it. */
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { Codec } from "../../src/protocol/codec.ts";
import { isPlainObject } from "../../src/protocol/envelope.ts";
import { beyondShape } from "../../src/protocol/json-text.ts";
import { limits } from "../../src/protocol/limits.ts";

const numbers = { id: 1, type: 2, reply_to: 3, topic: 4, seq: 5, position: 6, timestamp: 7, payload: 8 } as const;
const writer = new BinaryWriter();

function encode(fields: [keyof typeof numbers, string | number | undefined][]): Uint8Array {
  for (const [name, value] of fields) {
    if (value === undefined) continue;
    writer.tag(numbers[name], typeof value === "string" ? WireType.LengthDelimited : WireType.Varint);
    if (typeof value === "string") writer.string(value);
    else writer.uint64(value);
  }
  return writer.finish();
}

const names = new Map(Object.entries(numbers).map(([name, number]) => [number as number, name]));

export const thinCodec: Codec = {
  encode: ({ id, type, replyTo, topic, seq, position, at, payload }) =>
    encode([
      ["id", id],
      ["type", type],
      ["reply_to", replyTo],
      ["topic", topic],
      ["seq", seq],
      ["position", position],
      // A number is the least that it can take.
      ["timestamp", at],
      ["payload", payload],
    ]),

  decode(frame) {
    const reader = new BinaryReader(frame as Uint8Array);
    const envelope: Record<string, unknown> = {};
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag();
      const isText = wireType === WireType.LengthDelimited;
      envelope[names.get(number)!] = isText ? reader.string(true) : Number(reader.uint64());
    }
    const text = envelope.payload as string;
    if (beyondShape(text, { depth: limits.jsonDepth - 1, values: limits.jsonValues }) !== null) throw new RangeError();
    envelope.payload = JSON.parse(text);
    if (!isPlainObject(envelope.payload)) throw new TypeError();
    return envelope;
  },

  glimpse: () => ({}),
};

/** Writes a client's frame. */
export const encodeThin = ({ id, type, payload }: { id: string; type: string; payload: object }) =>
  encode([
    ["id", id],
    ["type", type],
    ["payload", JSON.stringify(payload)],
  ]);
