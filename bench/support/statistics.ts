/** Finds what stands for many measured values. */

export const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!;

/** The value that so large a share of them does not exceed; 0 where there are none. */
export function quantile(values: number[] | Float64Array, share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}
