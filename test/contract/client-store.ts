/** The suite of every `Store` of the client; it runs in a page as well, so it brings its own words for what must be so. */
import type { Store } from "../../src/client/core.ts";

export interface StoreCase {
  title: string;
  /** `reopen` gives another one on the same place, as after a reload; where nothing outlives it, it is left out. */
  run(open: () => Store): Promise<void>;
  outlives?: boolean;
}

export const storeCases: StoreCase[] = [
  {
    title: "what is written is read by the beginning of its key, in the order of keys",
    async run(open) {
      const store = open();
      await store.write([
        ["outbox/000010", { id: "b" }],
        ["session", { cursor: "c" }],
        ["outbox/000002", { id: "a" }],
        ["outbox", 1],
        ["outbox0", 2],
      ]);
      same(await store.read("outbox/"), [
        ["outbox/000002", { id: "a" }],
        ["outbox/000010", { id: "b" }],
      ]);
      same(await store.read("session"), [["session", { cursor: "c" }]]);
      same(await store.read("nothing"), []);
      same(
        (await store.read("")).map(([key]) => key),
        ["outbox", "outbox/000002", "outbox/000010", "outbox0", "session"],
      );
    },
  },
  {
    title: "undefined removes, a later change of the same write counts, null is a value",
    async run(open) {
      const store = open();
      await store.write([
        ["a", 1],
        ["b", 2],
      ]);
      await store.write([
        ["a", undefined],
        ["b", 3],
        ["b", null],
        ["c", 4],
        ["c", undefined],
        ["never", undefined],
      ]);
      same(await store.read(""), [["b", null]]);
    },
  },
  {
    title: "what is read belongs to the reader, and what was given to the giver",
    async run(open) {
      const store = open();
      const value = { list: [1] };
      const writing = store.write([["a", value]]);
      value.list.push(2);
      await writing;
      const [[, read]] = (await store.read("a")) as [[string, typeof value]];
      read.list.push(3);
      same(await store.read("a"), [["a", { list: [1] }]]);
    },
  },
  {
    title: "a write is whole or not at all",
    async run(open) {
      const store = open();
      await store.write([["a", 1]]);
      const circle: Record<string, unknown> = {};
      circle.itself = () => circle;
      circle.circle = circle;
      const refused = await Promise.resolve()
        .then(() =>
          store.write([
            ["a", 2],
            ["b", circle],
          ]),
        )
        .then(
          () => false,
          () => true,
        );
      same(refused, true);
      same(await store.read(""), [["a", 1]]);
    },
  },
  {
    title: "writes that nobody waits for are taken in their order",
    async run(open) {
      const store = open();
      for (let n = 0; n < 50; n++)
        void store.write([
          ["n", n],
          [`k${n % 5}`, n],
        ]);
      await store.write([["end", true]]);
      same(await store.read("n"), [["n", 49]]);
      same(
        await store.read("k"),
        [45, 46, 47, 48, 49].map((n) => [`k${n % 5}`, n]),
      );
    },
  },
  {
    title: "clear leaves nothing, and it goes on after it",
    async run(open) {
      const store = open();
      await store.write([["a", 1]]);
      await store.clear();
      same(await store.read(""), []);
      await store.write([["b", "Grüße, 🌍 \n"]]);
      same(await store.read(""), [["b", "Grüße, 🌍 \n"]]);
    },
  },
  {
    title: "what was written is there after a reload, and what was cleared is not",
    outlives: true,
    async run(open) {
      const before = open();
      await before.write([
        ["a", { text: "Grüße, 🌍 \n" }],
        ["b", [1, null, true]],
      ]);
      const after = open();
      same(await after.read(""), [
        ["a", { text: "Grüße, 🌍 \n" }],
        ["b", [1, null, true]],
      ]);
      await after.clear();
      same(await open().read(""), []);
    },
  },
];

function same(seen: unknown, expected: unknown): void {
  const [one, other] = [JSON.stringify(seen), JSON.stringify(expected)];
  if (one !== other) throw new Error(`${one} is not ${other}`);
}
