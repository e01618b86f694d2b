/** Draws one graph of the last hour, in the colours of the page. */
import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

export interface Line {
  name: string;
  /** Names a colour of the style sheet: `--line-1`. */
  colour: string;
  values: readonly (number | null)[];
}

export interface Graph {
  title: string;
  unit?: string;
  /** Seconds since 1970, one for each value of each line. */
  at: readonly number[];
  lines: Line[];
}

const heightPx = 150;
/** Pixels from one time to the next, so that none lies over its neighbour. */
const timesApartPx = 75;

const darkScheme = () => matchMedia("(prefers-color-scheme: dark)");

export function Chart({ title, unit = "", at, lines }: Graph) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [isDark, setDark] = useState(darkScheme().matches);
  const latest = useRef<{ unit: string; lines: Line[]; data: uPlot.AlignedData }>(null!);
  latest.current = { unit, lines, data: [at, ...lines.map(({ values }) => values)] as uPlot.AlignedData };
  const names = lines.map(({ name }) => name).join(", ");

  useEffect(() => {
    const scheme = darkScheme();
    const note = () => setDark(scheme.matches);
    scheme.addEventListener("change", note);
    return () => scheme.removeEventListener("change", note);
  }, []);

  // Made anew where the colours are others, which a canvas does not follow by itself; the names say which lines there are.
  useEffect(() => {
    const element = place.current!;
    const made = new uPlot(optionsOf(latest.current, element), latest.current.data, element);
    plot.current = made;
    showLast(made);
    const resized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: heightPx }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [isDark, names, unit]);

  useEffect(() => {
    const drawn = plot.current;
    if (drawn === null) return;
    drawn.setData(latest.current.data);
    if (drawn.cursor.idx == null) showLast(drawn);
  });

  const said = lines.map(({ name, values }) => `${name} ${shown(values.at(-1) ?? null, unit)}`).join(", ");
  return (
    <figure className="chart">
      <figcaption>{title}</figcaption>
      <div ref={place} role="img" aria-label={`${title}, now: ${said}`} />
    </figure>
  );
}

function optionsOf({ unit, lines }: Pick<Graph, "unit" | "lines">, element: HTMLElement): uPlot.Options {
  const colours = getComputedStyle(element);
  const of = (name: string) => colours.getPropertyValue(name).trim();
  const rule = { stroke: of("--rule"), width: 1 };
  const axis = { stroke: of("--faint"), grid: rule, ticks: rule };
  return {
    width: element.clientWidth,
    height: heightPx,
    scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
    axes: [
      {
        ...axis,
        size: 30,
        space: timesApartPx,
        // With their seconds where they are less than a minute apart.
        values: (_, ticks, __, ___, apart) => ticks.map((it) => clock(it, apart < 60)),
      },
      { ...axis, size: 56, values: (_, ticks) => ticks.map((it) => shown(it)) },
    ],
    series: [
      { label: "at", value: (_, seconds) => (seconds === null ? "" : clock(seconds, true)) },
      ...lines.map(({ name, colour }) => ({
        label: name,
        stroke: of(colour),
        width: 1.5,
        points: { show: false },
        value: (_: uPlot, value: number | null) => shown(value, unit),
      })),
    ],
    cursor: { points: { size: 6 } },
    // Without a pointer over it the newest values stand there.
    hooks: { setCursor: [(it) => it.cursor.idx == null && showLast(it)] },
  };
}

const showLast = (plot: uPlot) => plot.setLegend({ idx: plot.data[0].length - 1 }, false);

const shown = (value: number | null, unit = "") =>
  value === null ? "–" : `${(Math.round(value * 100) / 100).toLocaleString()} ${unit}`.trim();

function clock(seconds: number, isExact: boolean): string {
  const second = isExact ? ({ second: "2-digit" } as const) : {};
  const form = { hour: "2-digit", minute: "2-digit", hour12: false, ...second } as const;
  return new Date(seconds * 1_000).toLocaleTimeString([], form);
}
