/** Chance that can be repeated: everything random in a run comes from its seed. */

export interface Random {
  /** From 0 up to 1. */
  next(): number;
  /** A whole number, both ends included. */
  between(low: number, high: number): number;
  chance(probability: number): boolean;
  pick<Item>(items: readonly Item[]): Item;
  /** One of the names, as often as its part of the whole. */
  weighed<Name extends string>(parts: Readonly<Record<Name, number>>): Name;
  /** Chance of its own for one part, so that parts do not disturb each other's. */
  fork(name: string): Random;
}

export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    // mulberry32: small, and good enough to choose by.
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const between = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  return {
    next,
    between,
    chance: (probability) => next() < probability,
    pick: (items) => items[between(0, items.length - 1)]!,
    weighed<Name extends string>(parts: Readonly<Record<Name, number>>): Name {
      const named = Object.entries(parts) as [Name, number][];
      let left = next() * named.reduce((sum, [, part]) => sum + part, 0);
      return named.find(([, part]) => (left -= part) < 0)![0];
    },
    fork: (name) => createRandom(Number(Bun.hash(`${seed} ${name}`) & 0xffff_ffffn)),
  };
}
