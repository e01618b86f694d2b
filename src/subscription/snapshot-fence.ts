/** Notices events on topics whose present state is being read, so that no snapshot is older than what was sent before it [PRE5]. */

/** While many come and go at once, each read may find that somebody else has done so. */
const readsMax = 5;

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

export class SnapshotFence {
  /** Only topics that are being read now, and the events that came on each meanwhile. */
  readonly #reading = new Map<string, { readers: number; events: number }>();

  /** An event that is not logged is about to reach this node's subscribers. */
  note(topic: string): void {
    const reading = this.#reading.get(topic);
    if (reading !== undefined) reading.events++;
  }

  /**
   * Reads the topics' state, and again that of those on which an event came meanwhile, a few times. What is sent in the
   * turn in which this resolves is not older than any event sent before it; what never came to rest is left out.
   */
  async read<State>(
    topics: string[],
    read: (topics: string[]) => Promise<Map<string, State>>,
  ): Promise<Map<string, State>> {
    for (const topic of topics) this.#begin(topic);
    try {
      const states = new Map<string, State>();
      // Which events each topic's state has in it. All are looked at again: one that was fresh may have become stale
      // while others were read once more.
      const eventsAtRead = new Map<string, number>();
      let stale = topics;
      for (let reads = 0; stale.length > 0 && reads < readsMax; reads++) {
        for (const topic of stale) eventsAtRead.set(topic, this.#reading.get(topic)!.events);
        for (const [topic, state] of await read(stale)) states.set(topic, state);
        // All that the same turn of the loop leads to is out by the next one, and that one is the caller's alone: no event
        // comes between this look and what the caller sends without waiting again.
        await nextTurn();
        stale = topics.filter((topic) => this.#reading.get(topic)!.events > eventsAtRead.get(topic)!);
      }
      // Their newest event has been sent already and says what this snapshot cannot.
      for (const topic of stale) states.delete(topic);
      return states;
    } finally {
      for (const topic of topics) this.#end(topic);
    }
  }

  /** Topics being read. */
  get size(): number {
    return this.#reading.size;
  }

  #begin(topic: string): void {
    const reading = this.#reading.get(topic) ?? { readers: 0, events: 0 };
    reading.readers++;
    this.#reading.set(topic, reading);
  }

  #end(topic: string): void {
    const reading = this.#reading.get(topic)!;
    if (--reading.readers === 0) this.#reading.delete(topic);
  }
}
