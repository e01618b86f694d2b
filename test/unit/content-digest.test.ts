/** Holds the digest of contents to being the same for the same JSON, and another for everything else [LOG2]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { contentDigest } from "../../src/broadcast/idempotency-key.ts";

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The same value with the names of all objects the other way round. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([name, item]) => [name, reversed(item)]),
  );
}

test("[LOG2] the order of names makes no difference, and the value is left as it is", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = JSON.stringify(value);
      expect(contentDigest(reversed(value))).toBe(contentDigest(value));
      expect(JSON.stringify(value)).toBe(text);
    }),
  );
});

test("[LOG2] what is another value has another digest", () => {
  const texts = [
    ...["null", "true", "0", '"0"', '""', "[]", "{}", "[0]", "[[0]]", "[0,1]", "[1,0]", '["0,1"]'],
    ...['{"a":1}', '{"a":"1"}', '{"b":1}', '{"a":{"b":1}}', '{"a":1,"b":2}', '{"a":2,"b":1}'],
    ...['{"__proto__":1}', '{"__proto__":2}', '{"__proto__":{"a":1}}', '{"constructor":1}', '{"toJSON":1}'],
    ...['{"1":1,"10":2}', '{"1":2,"10":1}', '{"a:1":{},"b":1}'],
  ];
  const digests = new Set(texts.map((text) => contentDigest(JSON.parse(text))));
  expect(digests.size).toBe(texts.length);
  for (const digest of digests) expect(digest).toMatch(/^[\w-]{22}$/);
});
