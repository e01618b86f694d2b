/** Finds the name that somebody most likely meant. */

/** How many letters must be added, removed, replaced or swapped with their neighbour. */
function distance(one: string, other: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: other.length + 1 }, (_, column) => column);
  for (let row = 1; row <= one.length; row++) {
    const current = [row];
    for (let column = 1; column <= other.length; column++) {
      const same = one[row - 1] === other[column - 1];
      let least = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + (same ? 0 : 1));
      const swapped = row > 1 && column > 1 && one[row - 1] === other[column - 2] && one[row - 2] === other[column - 1];
      if (swapped) least = Math.min(least, beforeLast[column - 2]! + 1);
      current.push(least);
    }
    beforeLast = last;
    last = current;
  }
  return last[other.length]!;
}

/** Longer input is compared by its beginning only, so that a pasted text costs nothing. */
const lengthMax = 100;

/**
 * The candidate with the fewest differences, the first of equals. Case does not count.
 * @returns null where more than a third of the letters would have to be others: that is no slip but another name
 */
export function nearest(name: string, candidates: readonly string[]): string | null {
  const wanted = name.slice(0, lengthMax).toLowerCase();
  let best: { candidate: string | null; distance: number } = {
    candidate: null,
    distance: Math.max(1, Math.floor(wanted.length / 3)) + 1,
  };
  for (const candidate of candidates) {
    const found = distance(wanted, candidate.toLowerCase());
    if (found < best.distance) best = { candidate, distance: found };
  }
  return best.candidate;
}

/** Says what follows `there is no …`: the nearest name, or nothing. */
export function nearestHint(near: string | null): string {
  return near === null ? "" : `; the nearest is ${near}`;
}
