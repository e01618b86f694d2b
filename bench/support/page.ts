/** Writes what was measured last into docs/performance.md: for each bench that the page names a chart, a table, and how it was made. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { bars, curves } from "./charts.ts";
import { growthOf } from "./growth.ts";
import { type Kept, type Row, resultsFolder } from "./measured.ts";

const docs = resolve(import.meta.dir, "../../docs");
/** A place for results: `<!-- bench: rooms -->`, what is replaced, `<!-- /bench -->`. */
const place = /<!-- bench: ([\w-]+) -->\n[\s\S]*?<!-- \/bench -->/g;
/** Of a soak, drawn; its table has all. */
const drawn = ["memory MiB", "descriptors", "threads", "rows: events", "p50 ms", "p99 ms"];

export function writePage(): void {
  const file = join(docs, "performance.md");
  const page = readFileSync(file, "utf8").replace(place, (before, name: string) => {
    const results = join(resultsFolder, `${name}.json`);
    if (!existsSync(results)) {
      console.log(`${name}: there is no bench/results/${name}.json; its part of the page stays as it is`);
      return before;
    }
    const kept = JSON.parse(readFileSync(results, "utf8")) as Kept;
    const chart = chartOf(name, kept.rows);
    if (chart !== null) writeFileSync(join(docs, imageOf(name)), chart);
    return `<!-- bench: ${name} -->\n${partOf(name, kept)}\n<!-- /bench -->`;
  });
  writeFileSync(file, page);
  console.log("written to docs/performance.md");
}

const isSoak = (name: string) => name.startsWith("soak-");
const isProfile = (name: string) => name.startsWith("profile-");
const imageOf = (name: string) => `images/bench-${name}.svg`;

/** @returns null where the table says it all */
function chartOf(name: string, rows: Row[]): string | null {
  if (isProfile(name)) return null;
  return isSoak(name) ? curves(rows, drawn) : bars(rows);
}

function partOf(name: string, { command, at, commit, bun, machine, load, rows: measured }: Kept): string {
  const rows = isSoak(name) ? growthOf(measured) : measured;
  const columns = Object.keys(rows[0]!);
  const line = (cells: (string | number)[]) => `| ${cells.join(" | ")} |`;
  return [
    ...(isProfile(name) ? [] : [`![${columns[1]}, by ${columns[0]}](${imageOf(name)})`, ""]),
    line(columns),
    line(columns.map(() => "---")),
    ...rows.map((row) => line(columns.map((column) => row[column]!))),
    "",
    `\`${command}\`, ${at.slice(0, 10)}, commit ${commit}, Bun ${bun}, ${machine}, load average ${load}.`,
  ].join("\n");
}
