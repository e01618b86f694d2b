/** Proves how moments are written. */
import { expect, test } from "bun:test";
import { momentText } from "../../src/ground/moments.ts";

test("a moment is written in UTC, with its milliseconds, whichever was written before", () => {
  expect(momentText(0)).toBe("1970-01-01T00:00:00.000Z");
  expect(momentText(1_796_081_599_820)).toBe("2026-11-30T23:33:19.820Z");
  expect(momentText(1_796_081_599_820)).toBe("2026-11-30T23:33:19.820Z");
  expect(momentText(0)).toBe("1970-01-01T00:00:00.000Z");
  expect(() => momentText(Number.NaN)).toThrow();
  expect(momentText(0)).toBe("1970-01-01T00:00:00.000Z");
});
