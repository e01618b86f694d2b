/** What is done a part in each turn of the loop, and what is done one after the other. */

/** Topics of one turn. */
const partSize = 500;

/** So that what others ask comes in between. What is looked at within a part must be looked at there: anything may have happened between two of them. */
export async function inTurns<Item>(list: Item[], use: (part: Item[]) => void): Promise<void> {
  for (let start = 0; start < list.length; start += partSize) {
    if (start > 0) await new Promise((resolve) => setImmediate(resolve));
    use(list.slice(start, start + partSize));
  }
}

/** Lets the works of one key run one after the other. */
export class Turns<Key extends object> {
  /** The last of what each key has under way. */
  readonly #tails = new Map<Key, Promise<void>>();

  inTurn<Result>(key: Key, run: () => Promise<Result>): Promise<Result> {
    const result = (this.#tails.get(key) ?? Promise.resolve()).then(run);
    const tail = result.then(
      () => {},
      () => {},
    );
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return result;
  }
}
