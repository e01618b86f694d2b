/** Proves that long lists are cut into pages, in order and without a rest. */
import { expect, test } from "bun:test";
import { pagePerTurn, pages } from "../../src/ground/pages.ts";

test("a list is cut into pages in its order, the last of which may be shorter", () => {
  expect(pages([], 2)).toEqual([]);
  expect(pages([1, 2], 2)).toEqual([[1, 2]]);
  expect(pages([1, 2, 3, 4, 5], 2)).toEqual([[1, 2], [3, 4], [5]]);
});

test("what others ask comes in between two turns of a long list", async () => {
  const list = Array.from({ length: 1_200 }, (_, at) => at);
  const seen: (number | string)[] = [];
  const going = pagePerTurn(list, (page) => void seen.push(page.length));
  setImmediate(() => seen.push("another"));
  await going;
  expect(seen).toEqual([500, 500, "another", 200]);
});
