/** Writes what was measured last into docs/performance.md: for each bench that the page names a chart, a table, and how it was made. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { bars, curves } from "./charts.ts";
import { growthOf } from "./growth.ts";
import { type Kept, type Row, resultsFolder, senselessIn, withoutEmpty } from "./measured.ts";

const ownDocs = resolve(import.meta.dir, "../../docs");
/** A place for results: `<!-- bench: rooms -->`, what is replaced, `<!-- /bench -->`. */
const place = /<!-- bench: ([\w-]+) -->\n[\s\S]*?<!-- \/bench -->/g;
/** Of a soak, drawn; its table has all. */
const drawn = ["memory MiB", "descriptors", "threads", "rows: events", "p50 ms", "p99 ms"];

interface Folders {
  /** Has `performance.md` and `images`. */
  docs: string;
  results: string;
}

/** Writes nothing until all is made. @throws {Error} in a line for each: results that are no results */
export function writePage({ docs, results }: Folders = { docs: ownDocs, results: resultsFolder }): void {
  const file = join(docs, "performance.md");
  const made = new Map<string, string>();
  const refused: string[] = [];
  const page = readFileSync(file, "utf8").replace(place, (before, name: string) => {
    const kept = join(results, `${name}.json`);
    if (!existsSync(kept)) {
      console.log(`${name}: there is no bench/results/${name}.json; its part of the page stays as it is`);
      return before;
    }
    try {
      const { chart, part } = madeOf(name, readFileSync(kept, "utf8"));
      if (chart !== null) made.set(join(docs, imageOf(name)), chart);
      return `<!-- bench: ${name} -->\n${part}\n<!-- /bench -->`;
    } catch (error) {
      refused.push(`bench/results/${name}.json: ${(error as Error).message}`);
      return before;
    }
  });
  if (refused.length > 0) throw new Error([...refused, "nothing is written"].join("\n"));
  for (const [path, text] of made.set(file, page)) writeFileSync(path, text);
  console.log("written to docs/performance.md");
}

function madeOf(name: string, results: string): { chart: string | null; part: string } {
  const kept = JSON.parse(results) as Kept;
  const rows = isSoak(name) ? growthOf(kept.rows) : withoutEmpty(kept.rows);
  const senseless = senselessIn(kept.rows) ?? senselessIn(rows);
  if (senseless !== null) throw new Error(senseless);
  const chart = chartOf(name, kept.rows);
  if (chart !== null && /NaN|Infinity/.test(chart)) throw new Error("what is drawn of it is no number");
  return { chart, part: partOf(name, kept, rows) };
}

const isSoak = (name: string) => name.startsWith("soak-");
const isProfile = (name: string) => name.startsWith("profile-");
const imageOf = (name: string) => `images/bench-${name}.svg`;

/** @returns null where the table says it all */
function chartOf(name: string, rows: Row[]): string | null {
  if (isProfile(name)) return null;
  return isSoak(name) ? curves(rows, drawn) : bars(rows);
}

function partOf(name: string, { command, at, commit, bun, machine, load }: Kept, rows: Row[]): string {
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
