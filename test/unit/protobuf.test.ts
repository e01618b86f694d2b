/** Proves that the protobuf format says exactly what the JSON one says, and refuses everything else. */
import { beforeAll, describe, expect, test } from "bun:test";
import type { DescMessage } from "@bufbuild/protobuf";
import fc from "fast-check";
import * as v from "valibot";
import { clientMessageTypes, clientPayloads } from "../../src/protocol/client.ts";
import { jsonCodec } from "../../src/protocol/codec.ts";
import type { OutgoingMessage } from "../../src/protocol/envelope.ts";
import { ProtocolError } from "../../src/protocol/errors.ts";
import { limits } from "../../src/protocol/limits.ts";
import { protobufCodec, protobufPeer } from "../../src/protocol/protobuf/codec.ts";
import protoFile from "../../src/protocol/protobuf/ws-service.proto" with { type: "text" };
import { serverMessageTypes, serverPayloads } from "../../src/protocol/server.ts";
import { compileProto, fieldNumbers, hasCompiler, rewritten } from "../support/compiled-proto.ts";
import { clientExamples, serverExamples } from "../support/examples.ts";

const outgoing = (type: string, payload: unknown, more: Partial<OutgoingMessage> = {}): OutgoingMessage => ({
  id: "e1",
  type,
  payload: JSON.stringify(payload),
  at: 1_767_323_045_678,
  ...more,
});
const asJson = (message: OutgoingMessage) => JSON.parse(jsonCodec.encode(message) as string) as Record<string, unknown>;
const encoded = (message: OutgoingMessage) => protobufCodec.encode(message) as Uint8Array;
const refusal = (frame: string | Uint8Array) => {
  try {
    protobufCodec.decode(frame);
  } catch (error) {
    if (error instanceof ProtocolError) return error.code;
    throw error;
  }
  return null;
};
const nested = (depth: number): unknown => (depth === 0 ? 1 : { a: nested(depth - 1) });

/** The numbers of the field `custom`. */
const customNumber = { client: 4, server: 8 };
const travelsAsCustom = (bytes: Uint8Array, side: keyof typeof customNumber) =>
  fieldNumbers(bytes).includes(customNumber[side]);

/** Free objects, and what operators say: they gain nothing by messages of their own. */
const isCustom = (type: string) => type === "notification" || type.startsWith("admin.");

describe("every message, there and back", () => {
  for (const type of clientMessageTypes) {
    test(`[CON4] client ${type} is the same in protobuf as in JSON`, () => {
      for (const payload of clientExamples[type]) {
        v.parse(clientPayloads[type] as v.GenericSchema, payload);
        const envelope = { id: "r1", type, timestamp: 5, payload };
        const bytes = protobufPeer.encode(envelope);
        expect(travelsAsCustom(bytes, "client")).toBe(isCustom(type));
        expect(protobufCodec.decode(bytes)).toStrictEqual(jsonCodec.decode(JSON.stringify(envelope)));
      }
    });
  }

  for (const type of serverMessageTypes) {
    test(`[CON4] server ${type} is the same in protobuf as in JSON`, () => {
      for (const payload of serverExamples[type]) {
        v.parse(serverPayloads[type] as v.GenericSchema, payload);
        const message = outgoing(type, payload, { replyTo: "r1", topic: "user:u1", seq: 3, position: 2 ** 53 - 1 });
        const bytes = encoded(message);
        expect(travelsAsCustom(bytes, "server")).toBe(isCustom(type));
        expect(protobufPeer.decode(bytes)).toStrictEqual(asJson(message));
      }
    });
  }

  test("[ENV2] what is not on a message is absent on the wire too", () => {
    expect(protobufPeer.decode(encoded(outgoing("pong", { server_time: "x" })))).toStrictEqual({
      id: "e1",
      type: "pong",
      timestamp: "2026-01-02T03:04:05.678Z",
      payload: { server_time: "x" },
    });
  });

  test("[ENV1] envelope fields that a client leaves out stay out", () => {
    expect(protobufCodec.decode(new Uint8Array())).toEqual({});
    expect(protobufCodec.decode(protobufPeer.encode({ id: "r1", type: "ping" }))).toEqual({ id: "r1", type: "ping" });
    const dated = { id: "r1", type: "ping", timestamp: "2026-01-02T03:04:05Z" };
    expect(protobufCodec.decode(protobufPeer.encode(dated))).toEqual(dated);
  });

  test("[PUB1] the application's own types and payloads travel unchanged", () => {
    const own = { __proto__x: 1, list: [null, { a: [] }], n: -0.25 };
    const custom: [string, unknown][] = [
      ["poll.closed", own],
      ["message.new", { text: "a backend's own payload" }],
      ["message.new", { ...serverExamples["message.new"][0], colour: "red" }],
      ["message.read", { ...serverExamples["message.read"][0], up_to_seq: -1 }],
      ["auth.success", { user_id: "u1" }],
      ["presence.update", { user_id: "u1", status: 7 }],
    ];
    for (const [type, payload] of custom) {
      const message = outgoing(type, payload);
      expect(travelsAsCustom(encoded(message), "server")).toBe(true);
      expect(protobufPeer.decode(encoded(message))).toStrictEqual(asJson(message));
    }
    const request = { id: "r1", type: "admin.stats", payload: own };
    expect(protobufCodec.decode(protobufPeer.encode(request))).toStrictEqual(request);
  });

  test("[CON4] any JSON object survives as a custom payload and as content, hostile keys included", () => {
    const object = fc.dictionary(
      fc.string({ unit: "grapheme" }),
      fc.jsonValue({ stringUnit: "grapheme", maxDepth: 5 }),
    );
    fc.assert(
      fc.property(object, (free) => {
        const payload = JSON.parse(
          JSON.stringify(free).replace("{", '{"__proto__":{"a":1}'.concat(Object.keys(free).length ? "," : "")),
        );
        const event = outgoing("own.type", payload);
        expect(JSON.stringify(protobufPeer.decode(encoded(event)))).toBe(
          JSON.stringify({ id: "e1", type: "own.type", timestamp: asJson(event).timestamp, payload }),
        );
        const request = { id: "r", type: "message.send", payload: { content: payload } };
        expect(JSON.stringify(protobufCodec.decode(protobufPeer.encode(request)))).toBe(JSON.stringify(request));
      }),
      { numRuns: 200 },
    );
  });
});

describe("what is refused", () => {
  test("[ENV4] a text frame is invalid_message", () =>
    expect(refusal('{"id":"r1","type":"ping"}')).toBe("invalid_message"));

  test("[ENV6] nesting up to 32 passes as in JSON, deeper is invalid_message", () => {
    const request = (depth: number) => ({ id: "r1", type: "message.send", payload: nested(depth - 1) });
    const passes = request(limits.jsonDepth);
    expect(jsonCodec.decode(JSON.stringify(passes))).toEqual(passes);
    expect(protobufCodec.decode(protobufPeer.encode(passes))).toEqual(passes);
    for (const depth of [limits.jsonDepth + 1, limits.jsonDepth + 2, 500]) {
      expect(() => jsonCodec.decode(JSON.stringify(request(depth)))).toThrow(ProtocolError);
      expect(refusal(protobufPeer.encode(request(depth)))).toBe("invalid_message");
    }
  });

  test("[ENV4] a payload of another type, a number above 2^53 - 1 and one that is none are invalid_message", () => {
    // type = "ping" with field 14, an ack; then pages whose before_seq is 2^53, 2^64 - 1 and 7.
    expect(refusal(bytesOf("12 04 70 69 6e 67 72 00"))).toBe("invalid_message");
    expect(refusal(bytesOf("12 07 68 69 73 74 6f 72 79 7a 09 10 80 80 80 80 80 80 80 10"))).toBe("invalid_message");
    expect(refusal(bytesOf("12 07 68 69 73 74 6f 72 79 7a 0b 10 ff ff ff ff ff ff ff ff ff 01"))).toBe(
      "invalid_message",
    );
    expect(protobufCodec.decode(bytesOf("12 07 68 69 73 74 6f 72 79 7a 02 10 07"))).toEqual({
      type: "history",
      payload: { before_seq: 7 },
    });
    // custom = {"a": NaN}; then a timestamp that holds nothing.
    expect(refusal(bytesOf("22 10 0a 0e 0a 01 61 12 09 11 00 00 00 00 00 00 f8 7f"))).toBe("invalid_message");
    expect(refusal(bytesOf("1a 00"))).toBe("invalid_message");
  });

  test("[LOG4] cursors of 0.1, which were numbers, are read as none", () => {
    // An ack with 7 in the number's old field, and a since with 7 in its own beside what was seen of "a".
    expect(protobufCodec.decode(bytesOf("12 03 61 63 6b 72 02 08 07"))).toEqual({ type: "ack", payload: {} });
    const since = "0a 01 61 1a 09 10 07 1a 05 0a 01 61 10 05";
    const subscribe = bytesOf(`12 09 73 75 62 73 63 72 69 62 65 62 0e ${since}`);
    expect(protobufCodec.decode(subscribe).payload).toEqual({ topics: ["a"], since: { seen: { a: 5 } } });
  });

  test("[ENV6] unknown fields are ignored", () => {
    expect(protobufCodec.decode(bytesOf("12 04 70 69 6e 67 52 02 08 01 f8 07 01"))).toEqual({
      type: "ping",
      payload: {},
    });
  });

  test("[ENV4] random and damaged bytes never throw anything but a ProtocolError", () => {
    const frames = clientMessageTypes.flatMap((type) =>
      clientExamples[type].map((payload) => protobufPeer.encode({ id: "r1", type, payload })),
    );
    const damaged = fc
      .tuple(
        fc.constantFrom(...frames),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.nat(),
      )
      .map(([frame, changes, cut]) => {
        const copy = frame.slice(0, 1 + (cut % frame.length));
        for (const [index, byte] of changes) copy[index % copy.length] = byte;
        return copy;
      });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), damaged), (bytes) => {
        const code = refusal(bytes);
        expect([null, "invalid_message"]).toContain(code);
        // Passing means that it is something that JSON could have said as well.
        if (code === null) {
          const envelope = protobufCodec.decode(bytes);
          expect(JSON.stringify(JSON.parse(JSON.stringify(envelope)))).toBe(JSON.stringify(envelope));
        }
      }),
      { numRuns: 3_000 },
    );
  });
});

describe.skipIf(!hasCompiler)("beside protobuf's own library", () => {
  let [clientFrame, serverFrame]: DescMessage[] = [];
  beforeAll(async () => {
    [clientFrame, serverFrame] = ["ClientFrame", "ServerFrame"].map(await compileProto(protoFile));
  });

  test("[CON4] what it writes for a client is what the client has said", () => {
    for (const type of clientMessageTypes) {
      for (const payload of clientExamples[type]) {
        const envelope = { id: "r1", type, timestamp: "2026-01-02T03:04:05Z", payload };
        const bytes = rewritten(clientFrame!, protobufPeer.encode(envelope));
        expect(protobufCodec.decode(bytes)).toStrictEqual(jsonCodec.decode(JSON.stringify(envelope)));
      }
    }
  });

  test("[CON4] what it reads from the server is what the server has said", () => {
    for (const type of serverMessageTypes) {
      for (const payload of serverExamples[type]) {
        const message = outgoing(type, payload, { replyTo: "r1", topic: "user:u1", seq: 3, position: 2 ** 53 - 1 });
        expect(protobufPeer.decode(rewritten(serverFrame!, encoded(message)))).toStrictEqual(asJson(message));
      }
    }
  });

  test("[CON4] a frame in pieces, with its payload before its type, is read as it reads it", () => {
    const first = protobufPeer.encode({ payload: { topics: ["a"], filters: { user_id: "u1" } }, type: "subscribe" });
    const second = protobufPeer.encode({
      payload: { topics: ["b"], filters: { user_ids: ["u2"] } },
      type: "subscribe",
    });
    const last = protobufPeer.encode({ id: "r1" });
    const bytes = Buffer.concat([first, second, last]);
    const expected = {
      id: "r1",
      type: "subscribe",
      payload: { topics: ["a", "b"], filters: { user_id: "u1", user_ids: ["u2"] } },
    };
    expect(protobufCodec.decode(bytes)).toEqual(expected);
    expect(protobufCodec.decode(rewritten(clientFrame!, bytes))).toEqual(expected);
  });
});

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.split(" "), (pair) => Number.parseInt(pair, 16));
}
