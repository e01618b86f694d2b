/** Proves what is seen of a binary frame that nobody has decoded [ENV6] [LIM]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { protobufCodec, protobufPeer } from "../../src/protocol/protobuf/codec.ts";
import { hasMoreValues } from "../../src/protocol/protobuf/wire.ts";

const valuesIn = (value: unknown): number =>
  typeof value !== "object" || value === null ? 1 : Object.values(value).reduce((sum, it) => sum + valuesIn(it), 1);

const most = 50;
const limited = (type: string, payload: unknown) =>
  hasMoreValues(protobufPeer.encode({ id: "i", type, payload }), most);

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
