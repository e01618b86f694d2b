/** Keeps a map's newest entries, as many as it may have: what was set longest ago goes first. */

export class BoundedMap<Key, Value> extends Map<Key, Value> {
  constructor(private readonly sizeMax: number) {
    super();
  }

  /** Sets the entry as the newest one, also where the key is known. */
  override set(key: Key, value: Value): this {
    this.delete(key);
    super.set(key, value);
    if (this.size > this.sizeMax) this.delete(this.keys().next().value!);
    return this;
  }
}
