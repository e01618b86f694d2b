/** Proves what is seen of a binary frame that nobody has decoded [ENV6] [LIM]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { limits } from "../../src/protocol/limits.ts";
import { decodeClientFrame, protobufCodec, protobufPeer } from "../../src/protocol/protobuf/codec.ts";

const valuesIn = (value: unknown): number =>
  typeof value !== "object" || value === null ? 1 : Object.values(value).reduce((sum, it) => sum + valuesIn(it), 1);

const most = 50;
const limited = (type: string, payload: unknown) =>
  hasMoreValues(protobufPeer.encode({ id: "i", type, payload }), most);

function hasMoreValues(frame: Uint8Array, values: number): boolean {
  try {
    decodeClientFrame(frame, { depth: limits.jsonDepth, values });
    return false;
  } catch (error) {
    return String(error).includes(`at most ${values} values`);
  }
}

test("[ENV6] a frame with more values is told from one with fewer, in typed payloads and in free ones", () => {
  const content = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 4 }), { maxKeys: 20 });
  fc.assert(
    fc.property(content, fc.constantFrom("message.send", "an.unknown.type"), (value, type) => {
      const isLimited = limited(type, { conversation_id: "c", client_message_id: "m", content: value });
      const values = valuesIn(value);
      // Beside the content there are a few fields of the frame and its payload.
      if (values > most) expect(isLimited).toBe(true);
      if (values + 10 <= most) expect(isLimited).toBe(false);
    }),
  );
});

test.each([
  ["lists", () => ({ l: Array.from({ length: most }, () => []) })],
  ["objects", () => ({ l: Array.from({ length: most }, () => ({})) })],
  ["names", () => Object.fromEntries(Array.from({ length: most }, (_, n) => [`k${n}`, null]))],
  ["numbers", () => ({ l: Array.from({ length: most }, (_, n) => n) })],
])("[ENV6] many %s are counted", (_, content) => {
  expect(limited("message.send", { conversation_id: "c", client_message_id: "m", content: content() })).toBe(true);
});

const bytesOf = (...parts: (number | number[])[]) => Uint8Array.from(parts.flat());
/** A field with what is in it; all are short. */
const field = (number: number, inner: number[]) => [number * 8 + 2, inner.length, ...inner];
const many = (bytes: number[]) => Array.from({ length: most + 1 }, () => bytes).flat();

test.each([
  ["fields that are not known", bytesOf(many(field(15, [])))],
  ["fields in a group", bytesOf(15 * 8 + 3, many([8, 1]), 15 * 8 + 4)],
  ["groups in groups", bytesOf(many([15 * 8 + 3]), many([15 * 8 + 4]))],
  ["ids", bytesOf(many(field(1, [])))],
  ["pieces of a payload", bytesOf(many(field(4, [])))],
  ["names of one entry", bytesOf(field(4, field(1, many(field(1, [])))))],
  ["kinds of one value", bytesOf(field(3, many([8, 0])))],
])("[ENV6] many %s are counted, for they take as long as values", (_, bytes) => {
  expect(hasMoreValues(bytes, most)).toBe(true);
});

test("[LIM] the id and the type are seen without the payload, and of nonsense nothing is thrown", () => {
  const payload = { conversation_id: "c", client_message_id: "m", content: "x" };
  const frame = protobufPeer.encode({ id: "an id", type: "message.send", payload });
  expect(protobufCodec.glimpse(frame)).toEqual({ id: "an id", type: "message.send" });
  expect(protobufCodec.glimpse(frame.slice(0, -3))).toEqual({ id: "an id", type: "message.send" });
  expect(protobufCodec.glimpse("text")).toEqual({});
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      protobufCodec.glimpse(bytes);
      hasMoreValues(bytes, 3);
    }),
  );
});
