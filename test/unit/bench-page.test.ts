/** Tests what the page of figures is made of, and that it is not made of what are no figures. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Row, senselessIn, withoutEmpty } from "../../bench/support/measured.ts";
import { writePage } from "../../bench/support/page.ts";

let docs: string;
const page = () => readFileSync(join(docs, "performance.md"), "utf8");
const image = (name: string) => join(docs, `images/bench-${name}.svg`);
const before = ["rooms", "storm", "soak-sqlite"].map((name) => `<!-- bench: ${name} -->\nas it was\n<!-- /bench -->\n`);

beforeEach(() => {
  docs = mkdtempSync(join(tmpdir(), "ws-bench-page-"));
  mkdirSync(join(docs, "images"));
  writeFileSync(join(docs, "performance.md"), before.join(""));
});
afterEach(() => rmSync(docs, { recursive: true, force: true }));

const origin = { at: "2026-01-01T00:00:00Z", command: "bench", commit: "c", bun: "1", machine: "m", load: 1 };
const keep = (name: string, rows: Row[]) =>
  writeFileSync(join(docs, `${name}.json`), JSON.stringify({ ...origin, rows }));
const write = () => writePage({ docs, results: docs });
const sense = [
  { contender: "bare", "CPU µs/message": "1.5", "times bare": "1.00", "times centrifugo": "" },
  { contender: "service", "CPU µs/message": "3.0", "times bare": "2.00", "times centrifugo": "" },
];

test("a part is written, with its chart and without the columns of who did not run; what has no results stays", () => {
  keep("rooms", sense);
  write();
  expect(page()).toContain("| contender | CPU µs/message | times bare |\n");
  expect(page()).toContain("| service | 3.0 | 2.00 |\n");
  expect(page()).toContain("<!-- bench: storm -->\nas it was\n");
  expect(readFileSync(image("rooms"), "utf8")).toContain("<svg");
});

const senseless: Record<string, Row[]> = {
  "it has no rows": [],
  '"CPU µs/message" is NaN': [{ contender: "bare", "CPU µs/message": "NaN" }],
  '"CPU µs/message" is null': [{ contender: "bare", "CPU µs/message": Number.POSITIVE_INFINITY }],
  '"least–most" is 1.0–Infinity': [{ contender: "bare", "CPU µs/message": "1", "least–most": "1.0–Infinity" }],
  "what is drawn of it is no number": [{ contender: "bare", "CPU µs/message": "fast" }],
};
for (const [fault, rows] of Object.entries(senseless))
  test(`nothing is written where a result is none: ${fault}`, () => {
    keep("rooms", sense);
    keep("storm", rows);
    expect(write).toThrow(`bench/results/storm.json: ${fault}`);
    expect(page()).toBe(before.join(""));
    expect(existsSync(image("rooms"))).toBe(false);
  });

test("a soak that was too short to grow is refused, and so is what is not JSON", () => {
  keep("soak-sqlite", [{ minutes: "0.17", "memory MiB": 100 }]);
  writeFileSync(join(docs, "storm.json"), "{");
  expect(write).toThrow(/storm\.json: .*\n.*soak-sqlite\.json: "second quarter" is/);
  expect(page()).toBe(before.join(""));
});

test("a row is senseless by one cell, and an empty cell is none", () => {
  expect(senselessIn(sense)).toBeNull();
  expect(senselessIn([{ contender: "bare", "CPU %": "NaN %" }])).toBe('"CPU %" is NaN % in a row');
  expect(
    withoutEmpty([
      { a: 1, b: "" },
      { a: "", b: "" },
    ]),
  ).toEqual([{ a: 1 }, { a: "" }]);
});
