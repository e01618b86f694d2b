/** Lets what concerns one user happen one after the other, and different users side by side. */

export interface Turns {
  /** Runs when everything given earlier for the key has ended, well or not. @returns what `run` gives back */
  inTurn<Result>(key: string, run: () => Promise<Result>): Promise<Result>;
  /** Resolves when nothing that was given until now is left. */
  idle(): Promise<void>;
  /** Keys that have something to do. */
  size(): number;
}

export function createTurns(): Turns {
  const tails = new Map<string, Promise<void>>();
  const nothing = () => {};

  return {
    inTurn(key, run) {
      const result = (tails.get(key) ?? Promise.resolve()).then(run);
      const tail = result.then(nothing, nothing);
      tails.set(key, tail);
      // A chain that has come to its end is dropped, or the map would grow with every user ever seen.
      void tail.then(() => {
        if (tails.get(key) === tail) tails.delete(key);
      });
      return result;
    },
    async idle() {
      await Promise.all(tails.values());
    },
    size: () => tails.size,
  };
}
