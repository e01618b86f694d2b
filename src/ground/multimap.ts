/** Keeps any number of values under one key; most keys have a single one, which takes no set of its own. */

class Several<Value> extends Set<Value> {}

export class Multimap<Key, Value> {
  readonly #values = new Map<Key, Value | Several<Value>>();

  /** Keys that have a value. */
  get size(): number {
    return this.#values.size;
  }

  keys(): Iterable<Key> {
    return this.#values.keys();
  }

  add(key: Key, value: Value): void {
    const there = this.#values.get(key);
    if (there instanceof Several) there.add(value);
    else if (there === undefined) this.#values.set(key, value);
    else if (there !== value) this.#values.set(key, new Several([there, value]));
  }

  remove(key: Key, value: Value): void {
    const there = this.#values.get(key);
    if (there === value) this.#values.delete(key);
    if (!(there instanceof Several)) return;
    there.delete(value);
    const [last] = there;
    if (there.size === 1) this.#values.set(key, last!);
  }

  /** The values of a key as they are now: whoever goes through them may remove them. */
  of(key: Key): Value[] {
    const there = this.#values.get(key);
    if (there instanceof Several) return [...there];
    return there === undefined ? [] : [there];
  }
}
