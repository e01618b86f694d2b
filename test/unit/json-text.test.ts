/** Proves what is said of JSON text that nobody has parsed [ENV6] [LIM]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { beyondShape, textsAtEdges } from "../../src/protocol/json-text.ts";

const depthOf = (value: unknown): number =>
  typeof value !== "object" || value === null ? 0 : 1 + Math.max(0, ...Object.values(value).map(depthOf));
const valuesIn = (value: unknown): number =>
  typeof value !== "object" || value === null ? 1 : Object.values(value).reduce((sum, it) => sum + valuesIn(it), 1);
const spaced = fc.constantFrom(undefined, 1, "\t");

test("[ENV6] no text within the limits is refused, and none beyond them is let through", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), spaced, (value, space) => {
      const text = JSON.stringify(value, null, space);
      const limits = { depth: 3, values: 20 };
      const beyond = beyondShape(text, limits);
      const isBeyond = depthOf(value) > limits.depth || valuesIn(value) > limits.values;
      expect([text, beyond !== null]).toEqual([text, isBeyond]);
    }),
  );
});

test("[ENV6] what stands in strings is no structure, however it is escaped", () => {
  const limits = { depth: 1, values: 3 };
  for (const text of ["[[[,,,,,", '"[', '\\"[[,,,,', "\\\\", '\\\\\\"{{,,,,,']) {
    for (let length = 0; length < 200; length++) {
      expect(beyondShape(JSON.stringify([`${"x".repeat(length)}${text}${"\\".repeat(length)}`]), limits)).toBeNull();
    }
    expect(beyondShape(JSON.stringify([text, [text]]), limits)).toBe("depth");
  }
  expect(beyondShape('["never ends', limits)).toBeNull();
});

test("[LIM] texts at both ends of an object are what a parser finds, and nested ones are none of them", () => {
  const texts = fc.dictionary(fc.string({ maxLength: 6 }), fc.oneof(fc.string({ maxLength: 20 }), fc.integer()));
  fc.assert(
    fc.property(texts, texts, fc.jsonValue(), spaced, (before, after, payload, space) => {
      const value = { ...before, payload: { id: "inner", type: "inner", payload }, ...after };
      const text = JSON.stringify(value, null, space);
      const found = textsAtEdges(text);
      for (const [name, it] of found) expect((value as Record<string, unknown>)[name]).toBe(it);
      if (text.length > 1_000) return;
      for (const [name, it] of Object.entries(value)) if (typeof it === "string") expect(found.get(name)).toBe(it);
    }),
  );
});

test("[LIM] of texts that are no JSON nothing is thrown", () => {
  const pieces = fc.array(fc.constantFrom("{", "}", '"', "\\", ":", ",", "id", " ", "7"), { maxLength: 40 });
  fc.assert(fc.property(pieces, (some) => void textsAtEdges(some.join(""))));
  for (const text of ["", "{", "}", '"}', ':"}', '":"}', '{"id":"\\x"}']) expect(textsAtEdges(text).size).toBe(0);
});
