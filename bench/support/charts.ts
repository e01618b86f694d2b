/** Draws results as SVG: bars of who needs how much, and curves of what grows; grey and blue are read on white and on black. */
import type { Row } from "./measured.ts";

const blue = "#2f7de1";
const grey = "#8c959f";
const bar = { left: 170, width: 420, height: 20, gap: 8 };
const panel = { width: 300, height: 90, gap: 40, columns: 2 };

/** Bars of the second column, named by the first. */
export function bars(rows: Row[]): string {
  const [label, figure] = Object.keys(rows[0]!) as [string, string];
  const most = Math.max(...rows.map((row) => Number(row[figure]))) || 1;
  const drawn = rows.map((row, index) => {
    const [top, name, value] = [30 + index * (bar.height + bar.gap), String(row[label]), Number(row[figure])];
    const width = Math.max(1, (value / most) * bar.width);
    return [
      text({ x: bar.left - 8, y: top + 15, anchor: "end" }, name),
      `<rect x="${bar.left}" y="${top}" width="${width.toFixed(1)}" height="${bar.height}" rx="3" fill="${name.startsWith("service") ? blue : grey}"/>`,
      text({ x: bar.left + width + 6, y: top + 15 }, String(row[figure])),
    ].join("");
  });
  const height = 34 + rows.length * (bar.height + bar.gap);
  return svg({ width: bar.left + bar.width + 80, height }, [text({ x: bar.left, y: 18 }, figure), ...drawn]);
}

/** A curve of each figure over the first column, each from zero to its most. */
export function curves(rows: Row[], figures: string[]): string {
  const [time] = Object.keys(rows[0]!) as [string];
  const end = Number(rows.at(-1)![time]);
  const drawn = figures.map((figure, index) => {
    const left = (index % panel.columns) * (panel.width + panel.gap);
    const top = 24 + Math.floor(index / panel.columns) * (panel.height + panel.gap);
    const values = rows.map((row) => Number(row[figure]));
    const most = Math.max(...values, 1);
    const points = values.map((value, at) => {
      const x = left + (Number(rows[at]![time]) / end) * panel.width;
      return `${x.toFixed(1)},${(top + panel.height * (1 - value / most)).toFixed(1)}`;
    });
    return [
      text({ x: left, y: top - 8 }, `${figure}, 0 to ${most}, over ${Math.round(end)} ${time}`),
      `<path d="M${left},${top}v${panel.height}h${panel.width}" fill="none" stroke="${grey}"/>`,
      `<polyline points="${points.join(" ")}" fill="none" stroke="${blue}" stroke-width="1.5"/>`,
    ].join("");
  });
  const lines = Math.ceil(figures.length / panel.columns);
  const width = panel.columns * (panel.width + panel.gap);
  return svg({ width, height: lines * (panel.height + panel.gap) + 10 }, drawn);
}

const text = ({ x, y, anchor = "start" }: { x: number; y: number; anchor?: "start" | "end" }, what: string) =>
  `<text x="${Math.round(x)}" y="${y}" text-anchor="${anchor}">${what}</text>`;

const svg = ({ width, height }: { width: number; height: number }, drawn: string[]) =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13" fill="#818b98">
${drawn.join("\n")}
</svg>
`;
