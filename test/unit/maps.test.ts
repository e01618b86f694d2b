/** Proves the maps of the ground: one that is bounded, and one with any number of values under a key. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { BoundedMap } from "../../src/ground/bounded-map.ts";
import { Multimap } from "../../src/ground/multimap.ts";

test("a bounded map keeps what was set last; setting a key again makes it the newest", () => {
  const map = new BoundedMap<string, number>(2).set("a", 1).set("b", 2).set("a", 3).set("c", 4);
  expect([...map]).toEqual([
    ["a", 3],
    ["c", 4],
  ]);
  map.delete("a");
  expect([...map.set("d", 5)].map(([key]) => key)).toEqual(["c", "d"]);
  expect(new BoundedMap<string, number>(0).set("a", 1).size).toBe(0);
});

test("a multimap does what a map of sets does", () => {
  const key = fc.constantFrom("a", "b");
  const value = fc.nat(3);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), key, value)), (steps) => {
      const [multimap, model] = [new Multimap<string, number>(), new Map<string, Set<number>>()];
      for (const [isAdded, at, it] of steps) {
        const values = model.get(at) ?? new Set();
        if (isAdded) {
          multimap.add(at, it);
          model.set(at, values.add(it));
        } else {
          multimap.remove(at, it);
          values.delete(it);
          if (values.size === 0) model.delete(at);
        }
        expect(multimap.of(at).toSorted()).toEqual([...values].toSorted());
        expect([...multimap.keys()].toSorted()).toEqual([...model.keys()].toSorted());
        expect(multimap.size).toBe(model.size);
      }
    }),
  );
});
