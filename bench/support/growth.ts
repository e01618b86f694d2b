/** Says how a long run's figures have grown: its second quarter beside its last, for the first one has caches filled. */
import type { Row } from "./measured.ts";
import { median } from "./statistics.ts";

export function growthOf(samples: Row[]): Row[] {
  const typical = (figure: string, from: number, to: number) => {
    const some = samples.slice(Math.floor(samples.length * from), Math.floor(samples.length * to));
    return median(some.map((row) => Number(row[figure])));
  };
  const [, ...figures] = Object.keys(samples[0] ?? {});
  return figures.map((figure) => {
    const [before, after] = [typical(figure, 0.25, 0.5), typical(figure, 0.75, 1)];
    const times = before > 0 ? (after / before).toFixed(2) : "";
    return { figure, "second quarter": before, "last quarter": after, times };
  });
}
