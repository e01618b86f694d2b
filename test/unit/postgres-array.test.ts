/** Proves that array literals say what they were given, however it is quoted. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { arrayOf } from "../../src/storage/postgres/connection.ts";

/** As PostgreSQL reads an array literal of one dimension. */
function read(literal: string): (string | null)[] {
  const element = /"((?:[^"\\]|\\[\s\S])*)"|([^,{}"]+)/g;
  return [...literal.matchAll(element)].map(([, quoted, plain]) =>
    quoted === undefined ? (plain === "NULL" ? null : plain!) : quoted.replace(/\\([\s\S])/g, "$1"),
  );
}

test("an array literal holds any text and null, also what JSON would write in a way of its own", () => {
  const odd = fc.constantFrom('"', "\\", "\n", "\u0001", "\u007f", "\u2028", "\ud800", "😀", "{", "}", ",", "NULL", "");
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.array(odd).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(text, fc.constant(null)), { minLength: 1 }), (values) => {
      expect(read(arrayOf(values))).toEqual(values);
    }),
  );
});
