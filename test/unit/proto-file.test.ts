/** Proves that the .proto file comes of the payload schemas, and that what it has once said stays. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { freeObject } from "../../src/protocol/fields.ts";
import { decodeFrame, encodeFrame } from "../../src/protocol/protobuf/codec.ts";
import { bindFrames } from "../../src/protocol/protobuf/frames.ts";
import { generated } from "../../src/protocol/protobuf/generate.ts";
import { type ProtoFile, parseProto, protoText } from "../../src/protocol/protobuf/proto-file.ts";
import protoFile from "../../src/protocol/protobuf/ws-service.proto" with { type: "text" };
import { compileProto, fieldNumbers, hasCompiler, rewritten } from "../support/compiled-proto.ts";

const released = readFileSync(join(import.meta.dir, "../support/ws-service-0.1.proto"), "utf8");

/** Each field as it goes over the wire, by its message and number. */
function wireOf({ messages }: Pick<ProtoFile, "messages">, path = ""): Map<string, string> {
  const wire = new Map<string, string>();
  for (const message of messages.values()) {
    const name = `${path}${message.name}`;
    for (const { number, label, type } of message.fields.values()) {
      const isList = label === "repeated" ? "repeated " : "";
      wire.set(`${name} ${number}`, `${isList}${type}`);
    }
    for (const number of message.reserved) wire.set(`${name} ${number}`, "reserved");
    for (const [key, value] of wireOf(message, `${name}.`)) wire.set(key, value);
  }
  return wire;
}

test("[CON4] the .proto file is what the payload schemas make of it", () => {
  // `npm run generate` writes it.
  expect(generated(protoFile)).toBe(protoFile);
});

test("[CON4] every number of the first release means what it meant, or nothing any more", () => {
  const now = wireOf(parseProto(protoFile));
  const before = wireOf(parseProto(released));
  expect(before.size).toBeGreaterThan(200);
  const changed = [...before].filter(([key, type]) => now.get(key) !== type && now.get(key) !== "reserved");
  expect(changed).toEqual([]);
});

describe("a schema that changes", () => {
  const text = v.string();
  const whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
  const envelope = v.object({ type: text });
  const place = v.object({ at: v.optional(whole) });
  const head = 'syntax = "proto3";\n\npackage ws_service.v1;\n\n';
  /** The file with these payloads, after what it said. */
  const next = (payloads: Record<string, v.GenericSchema>, before = head) => {
    const file = parseProto(before);
    bindFrames({ Frame: { envelope, payloads } }, { file, missing: "add" });
    return protoText(file);
  };
  const numbersIn = (proto: string) => Object.fromEntries(wireOf(parseProto(proto)));

  test("[CON4] what is new takes the next number, what goes leaves its own behind", () => {
    const first = next({ "a.first": v.object({ one: text, two: text }), second: v.object({ list: v.array(place) }) });
    expect(numbersIn(first)).toEqual({
      "Frame 1": "string",
      "Frame 2": "google.protobuf.Struct",
      "Frame 3": "AFirst",
      "Frame 4": "Second",
      "Frame.AFirst 1": "string",
      "Frame.AFirst 2": "string",
      "Frame.SecondList 1": "uint64",
      "Frame.Second 1": "repeated SecondList",
    });
    // The second type is gone, and of the first one field; another stands before it.
    const second = next({ "a.first": v.object({ three: text, one: text }), third: v.object({}) }, first);
    expect(numbersIn(second)).toMatchObject({
      "Frame 3": "AFirst",
      "Frame 4": "reserved",
      "Frame 5": "Third",
      "Frame.AFirst 1": "string",
      "Frame.AFirst 2": "reserved",
      "Frame.AFirst 3": "string",
    });
    const again = next({ "a.first": v.object({ three: text, one: text, two: text }), second: v.object({}) }, second);
    expect(numbersIn(again)).toMatchObject({ "Frame 4": "reserved", "Frame 6": "Second", "Frame.AFirst 4": "string" });
  });

  test("[CON4] names and comments that somebody has written stay, and one schema has one message", () => {
    const before = next({ a: v.object({ place }) })
      .replaceAll("APlace", "Spot")
      .replace("  message Spot", "  // Where it is.\n  message Spot");
    const after = next({ a: v.object({ place, list: v.optional(v.array(place)) }), b: place }, before);
    expect(after).toContain("  // Where it is.\n  message Spot {\n    optional uint64 at = 1;\n  }\n");
    expect(numbersIn(after)).toMatchObject({
      "Frame 4": "Spot",
      "Frame.A 2": "SpotList",
      "Frame.SpotList 1": "repeated Spot",
    });
    expect(after).not.toContain("APlace");
    // A message of the same name by accident is another one.
    expect(numbersIn(next({ a: v.object({ place }), spot: v.object({ colour: text }) }, before))).toMatchObject({
      "Frame 4": "Spot2",
      "Frame.Spot2 1": "string",
    });
  });

  test("[CON4] what was released cannot take another form, nor be used before it is in the file", () => {
    const first = next({ a: v.object({ one: text, list: v.array(text) }) });
    const changes: v.ObjectEntries[] = [
      { one: whole },
      { one: v.nullable(text) },
      { one: v.array(text) },
      { list: text },
      { list: v.optional(v.array(text)) },
    ];
    for (const entries of changes) {
      expect(() => next({ a: v.object(entries) }, first)).toThrow("what is released keeps its form");
    }
    const payloads = { a: v.object({ one: text, list: v.array(text), more: text }) };
    const refuse = () => bindFrames({ Frame: { envelope, payloads } }, { file: parseProto(first), missing: "refuse" });
    expect(refuse).toThrow("has no A.more: run npm run generate");
  });

  test("[CON4] a schema that has no form is a fault where it is written", () => {
    expect(() => next({ a: v.object({ at: v.date() }) })).toThrow("A schema of type date has no form in protobuf.");
  });

  test("[CON4] every form that a schema may have is brought over, by protobuf's own library too", async () => {
    const payloads = {
      all: v.object({
        text,
        whole: v.pipe(whole, v.maxValue(2 ** 53)),
        double: v.number(),
        flag: v.boolean(),
        word: v.picklist(["a", "b"]),
        one: v.literal(1),
        object: freeObject,
        any: v.union([text, v.number()]),
        nullable: v.nullable(v.boolean()),
        third: v.optional(v.nullable(text)),
        last: v.optional(v.nullable(v.object({ at: whole }))),
        texts: v.array(text),
        wholes: v.array(whole),
        doubles: v.optional(v.array(v.number())),
        flags: v.optional(v.array(v.boolean())),
        objects: v.optional(v.array(freeObject)),
        places: v.array(place),
        lists: v.array(v.array(text)),
        maybe: v.nullable(v.array(text)),
        counts: v.record(text, whole),
        names: v.optional(v.record(text, text)),
        spots: v.optional(v.record(text, place)),
        mode: v.union([v.literal("auto"), v.object({ level: whole })]),
        inner: v.optional(v.object({ place, spot: v.nullable(place) })),
      }),
    };
    const least = {
      ...{ text: "", whole: 0, double: -0.5, flag: false, word: "b", one: 1, object: {}, any: 2, nullable: null },
      ...{ texts: [], wholes: [], places: [], lists: [], maybe: null, counts: {}, mode: "auto" },
    };
    const most = {
      ...{ text: "Zoë", whole: 2 ** 53 - 1, double: 1e300, flag: true, word: "a", one: 1, object: { a: [1, null] } },
      ...{
        any: "x",
        nullable: true,
        third: null,
        last: null,
        texts: ["", "b"],
        wholes: [0, 300, 2 ** 40],
        doubles: [1.5, -2],
      },
      ...{ flags: [true, false], objects: [{}, { a: { b: 1 } }], places: [{}, { at: 3 }], lists: [["a"], []] },
      ...{ maybe: [], counts: { a: 1, "": 0 }, names: { b: "" }, spots: { c: {}, d: { at: 1 } }, mode: { level: 2 } },
      inner: { place: {}, spot: { at: 9 } },
    };
    const other = { ...most, last: { at: 0 } };
    const proto = next(
      payloads,
      'syntax = "proto3";\n\npackage ws_service.v1;\n\nimport "google/protobuf/struct.proto";\n\n',
    );
    const file = parseProto(proto);
    const { Frame } = bindFrames({ Frame: { envelope, payloads } }, { file, missing: "refuse" });
    const unlimited = { depth: Infinity, values: Infinity };
    const compiled = hasCompiler
      ? (await compileProto(proto.replace(/ \[\(.*\) = .*\]|option \(is_list\) = true;/g, "")))("Frame")
      : null;
    for (const payload of [least, most, other]) {
      v.parse(payloads.all, payload);
      const bytes = encodeFrame(Frame, { type: "all" }, payload);
      expect(decodeFrame(Frame, bytes, unlimited)).toStrictEqual({ type: "all", payload });
      expect(fieldNumbers(bytes)).not.toContain(Frame.custom.number);
      if (compiled === null) continue;
      expect(decodeFrame(Frame, rewritten(compiled, bytes), unlimited)).toStrictEqual({ type: "all", payload });
    }
  });
});
