/** Holds the text of released migration steps still: who has run one has what it says, and nothing else. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { steps } from "../../src/storage/postgres/schema.ts";
import { migrate, migrations } from "../../src/storage/sqlite/schema.ts";

/** Of the steps of each release, in order, without what is blank around them. */
const released = {
  "0.1.0": {
    postgres: [
      "a3e658bdabcfd9f87aaeaeb3fdc4b96bbcc8672dd3c1baf9ea6af3c95b7f857b",
      "048852ff45dc68c09df62135de87407adfda5544eb91a011e068de6280d08b9c",
      "f28d70b2237010d54a1e9629aabca248160a3c331cd98e82bbeda013b4be7c1e",
      "7fd234a7b965730ba3352c7d37ee215f6da3ceb440746974fb0e574380c6722d",
    ],
    sqlite: [
      "722d40fc5581902c6d45ba8a318021e154243869fde376f2db826d798073775e",
      "6d95f3c8dd44463df0243bb0fc8f0ca8d238f9b1d8d8a0c4bb57efcc3fdad9e7",
    ],
  },
};

const digestOf = (text: string) => new Bun.CryptoHasher("sha256").update(text.trim()).digest("hex");

test("a migration step that was released is never edited", () => {
  const kept = Object.values(released);
  const postgres = kept.flatMap((release) => release.postgres);
  const sqlite = kept.flatMap((release) => release.sqlite);
  expect(steps.slice(0, postgres.length).map((step) => digestOf(step("other_1")))).toEqual(postgres);
  expect(migrations.slice(0, sqlite.length).map(digestOf)).toEqual(sqlite);
});

test("of what is not released yet each function stands once", () => {
  const fresh = steps
    .slice(Object.values(released).flatMap((release) => release.postgres).length)
    .map((step) => step("ws"));
  const made = [...fresh.join("\n").matchAll(/CREATE (?:OR REPLACE )?FUNCTION (ws\.\w+)\(/g)].map(([, name]) => name!);
  expect(made.length).toBeGreaterThan(30);
  expect(made.filter((name, at) => made.indexOf(name) < at)).toEqual([]);
});

test("a new SQLite file is what the steps make of an empty one, rows and all", () => {
  const fresh = new Database(":memory:");
  expect(migrate(fresh)).toEqual({ from: 0, to: migrations.length });
  const stepped = new Database(":memory:");
  for (const step of migrations) stepped.exec(step);
  expect(contentsOf(fresh)).toEqual(contentsOf(stepped));
  const installations = [fresh, fresh, stepped].map((database) => database.query("SELECT * FROM installation").get());
  expect(installations[0]).toEqual(installations[1]!);
  expect(installations[0]).not.toEqual(installations[2]!);
});

/** @returns all objects with their SQL, and the rows of each table; of what is made up for each file the length, and no moments */
function contentsOf(database: Database) {
  const objects = database
    .query<{ type: string; name: string }, []>(
      "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name",
    )
    .all();
  const madeUp = (name: string, value: unknown) =>
    /_?id$/.test(name) && typeof value === "string" ? value.length : value;
  const rows = objects
    .filter(({ type }) => type === "table")
    .map(({ name }) => [
      name,
      database
        .query<Record<string, unknown>, []>(`SELECT * FROM ${name}`)
        .all()
        .map(({ created_at, ...row }) =>
          Object.fromEntries(Object.entries(row).map(([column, value]) => [column, madeUp(column, value)])),
        ),
    ]);
  return { objects, rows };
}
