/** Writes what was measured last into docs/performance.md: for each bench that the page names a chart, a table, and how it was made. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Kept, resultsFolder } from "./measured.ts";

const docs = resolve(import.meta.dir, "../../docs");
/** A place for results: `<!-- bench: rooms -->`, what is replaced, `<!-- /bench -->`. */
const place = /<!-- bench: ([\w-]+) -->\n[\s\S]*?<!-- \/bench -->/g;
const bar = { left: 170, width: 420, height: 20, gap: 8 };

export function writePage(): void {
  const file = join(docs, "performance.md");
  const page = readFileSync(file, "utf8").replace(place, (before, name: string) => {
    const results = join(resultsFolder, `${name}.json`);
    if (!existsSync(results)) {
      console.log(`${name}: there is no bench/results/${name}.json; its part of the page stays as it is`);
      return before;
    }
    const kept = JSON.parse(readFileSync(results, "utf8")) as Kept;
    writeFileSync(join(docs, `images/bench-${name}.svg`), chartOf(kept));
    return `<!-- bench: ${name} -->\n${partOf(name, kept)}\n<!-- /bench -->`;
  });
  writeFileSync(file, page);
  console.log("written to docs/performance.md");
}

function partOf(name: string, { command, at, commit, bun, machine, load, rows }: Kept): string {
  const columns = Object.keys(rows[0]!);
  const line = (cells: (string | number)[]) => `| ${cells.join(" | ")} |`;
  return [
    `![${columns[1]}, by ${columns[0]}](images/bench-${name}.svg)`,
    "",
    line(columns),
    line(columns.map(() => "---")),
    ...rows.map((row) => line(columns.map((column) => row[column]!))),
    "",
    `\`${command}\`, ${at.slice(0, 10)}, commit ${commit}, Bun ${bun}, ${machine}, load average ${load}.`,
  ].join("\n");
}

/** Bars of the second column, named by the first; grey and blue are read on white and on black. */
function chartOf({ rows }: Kept): string {
  const [label, figure] = Object.keys(rows[0]!) as [string, string];
  const most = Math.max(...rows.map((row) => Number(row[figure])));
  const height = rows.length * (bar.height + bar.gap) + 34;
  const bars = rows.map((row, index) => {
    const [top, name, value] = [30 + index * (bar.height + bar.gap), String(row[label]), Number(row[figure])];
    const width = Math.max(1, (value / most) * bar.width);
    const fill = name.startsWith("service") ? "#2f7de1" : "#8c959f";
    return [
      `<text x="${bar.left - 8}" y="${top + 15}" text-anchor="end">${name}</text>`,
      `<rect x="${bar.left}" y="${top}" width="${width.toFixed(1)}" height="${bar.height}" rx="3" fill="${fill}"/>`,
      `<text x="${(bar.left + width + 6).toFixed(1)}" y="${top + 15}">${row[figure]}</text>`,
    ].join("");
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${bar.left + bar.width + 80} ${height}" font-family="sans-serif" font-size="13" fill="#818b98">
<text x="${bar.left}" y="18" font-weight="bold">${figure}</text>
${bars.join("\n")}
</svg>
`;
}
