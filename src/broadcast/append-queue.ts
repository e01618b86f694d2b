/** Gathers what is to be appended into batches, so that nobody waits behind a topic that others are appending to [LOG1] [ENV7]. */
import type { AppendedEvent, AppendResult, EventLog, NewEvent } from "../storage/ports.ts";

/** Events that are appended together or not at all. */
export interface Group {
  events: NewEvent[];
  /** Events of one source keep their order. */
  source: unknown;
}

export interface AppendQueueOptions<Given extends Group> {
  log: Pick<EventLog, "append">;
  /** Told before groups go to the log. */
  onTaken: (groups: Given[]) => void;
  /** Told of groups that were appended, with one result for each of their events in order. */
  onAppended: (groups: Given[], result: AppendResult, durationMs: number) => void;
  onFailed: (groups: Given[], error: unknown, durationMs: number) => void;
}

/** Events of one batch: enough to make a transaction cheap, few enough to keep its latency low. */
const eventsMax = 500;
/** Characters of payload of one batch: an engine takes a statement of many large events badly, or not at all. */
const charactersMax = 8 * 1024 * 1024;
/** Characters of a group that is sent again with each batch until it is its turn to wait. */
const triedAgainMax = 16 * 1024;

/**
 * Two batches at most are in flight. The quick one leaves alone what others are appending to, so that the rest need not wait;
 * the patient one waits for what was left the longest. A source is in one of them, or what it adds waits: that keeps its order
 * over batches [ENV7].
 */
export class AppendQueue<Given extends Group> {
  #fresh: Given[] = [];
  /** Left alone by a quick batch, the oldest first. */
  #left: Given[] = [];
  #patientSources: ReadonlySet<unknown> = new Set();
  #isQuick = false;
  #isPatient = false;
  #isScheduled = false;
  #events = 0;
  #idle: (() => void)[] = [];

  constructor(private readonly options: AppendQueueOptions<Given>) {}

  /** Events that are not in a batch. */
  get waiting(): number {
    return this.#events;
  }

  /** It has its place among those of its source when this returns. */
  add(group: Given): void {
    this.#fresh.push(group);
    this.#events += group.events.length;
    if (this.#isQuick || this.#isScheduled) return;
    this.#isScheduled = true;
    // At the end of the turn, so that all callers of the turn share the batch.
    setImmediate(() => {
      this.#isScheduled = false;
      void this.#appendQuickly();
    });
  }

  /** Resolves when nothing waits any more. */
  drained(): Promise<void> {
    if (this.#isAtRest) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  get #isAtRest(): boolean {
    return !this.#isQuick && !this.#isPatient && this.#events === 0;
  }

  async #appendQuickly(): Promise<void> {
    // With nothing new to bring along, what was left waits for its turn.
    if (this.#isQuick || !this.#fresh.some(({ source }) => !this.#patientSources.has(source))) return;
    const again = take(this.#left, { mayBeTaken: (group) => charactersOf(group) <= triedAgainMax });
    const staying = new Set([...this.#patientSources, ...again.rest.map(({ source }) => source)]);
    const fresh = take(this.#fresh, { mayBeTaken: ({ source }) => !staying.has(source), after: again });
    if (fresh.taken.length === 0) return;
    this.#left = again.rest;
    this.#fresh = fresh.rest;
    this.#isQuick = true;
    const batch = [...again.taken, ...fresh.taken];
    const settle = await this.#append(batch, unitsOf(batch));
    this.#isQuick = false;
    this.#goOn(settle);
  }

  async #appendPatiently(): Promise<void> {
    const [oldest] = this.#left;
    if (this.#isPatient || oldest === undefined) return;
    // With it all of its source, and whoever waits for the same topics only: nobody else is made to wait for them.
    const topics = new Set(this.#left.filter(({ source }) => source === oldest.source).flatMap(topicsOf));
    const others = this.#left.filter((group) => !topicsOf(group).every((topic) => topics.has(topic)));
    const staying = new Set(others.map(({ source }) => source));
    const batch = take(this.#left, { mayBeTaken: ({ source }) => !staying.has(source) });
    this.#left = batch.rest;
    this.#isPatient = true;
    this.#patientSources = new Set(batch.taken.map(({ source }) => source));
    const settle = await this.#append(batch.taken);
    this.#isPatient = false;
    this.#patientSources = new Set();
    this.#goOn(settle);
  }

  /** The engine works on the next batches while this one is published. */
  #goOn(settle: () => void): void {
    void this.#appendPatiently();
    void this.#appendQuickly();
    settle();
    if (this.#isAtRest) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /**
   * @param units one for each event, where what others are appending to is to be left alone
   * @returns tells what became of the groups
   */
  async #append(batch: Given[], units?: number[]): Promise<() => void> {
    const { log, onTaken, onAppended, onFailed } = this.options;
    const startedAtMs = performance.now();
    for (const { events } of batch) this.#events -= events.length;
    onTaken(batch);
    const events = batch.flatMap(({ events }) => events);
    try {
      const result = await log.append(events, units);
      const done = this.#keepWhatWasLeft(batch, result);
      const durationMs = performance.now() - startedAtMs;
      return () => onAppended(done.groups, { ...result, appended: done.appended }, durationMs);
    } catch (error) {
      const durationMs = performance.now() - startedAtMs;
      return () => onFailed(batch, error, durationMs);
    }
  }

  /** @returns the groups that were appended, and what of each of their events */
  #keepWhatWasLeft(batch: Given[], { appended }: AppendResult): { groups: Given[]; appended: AppendedEvent[] } {
    if (!appended.some(({ deferred }) => deferred)) return { groups: batch, appended };
    const done: { groups: Given[]; appended: AppendedEvent[] } = { groups: [], appended: [] };
    const left: Given[] = [];
    let start = 0;
    for (const group of batch) {
      const results = appended.slice(start, start + group.events.length);
      start += results.length;
      if (results[0]!.deferred) {
        left.push(group);
        this.#events += group.events.length;
      } else {
        done.groups.push(group);
        done.appended.push(...results);
      }
    }
    // In front of what was left before them and not tried again: only their own order counts.
    this.#left = [...left, ...this.#left];
    return done;
  }
}

interface BatchChoice<Given> {
  taken: Given[];
  rest: Given[];
  events: number;
  characters: number;
}

/** Takes groups in their order up to the bounds, at least one; where one of a source stays all of its later ones stay. */
function take<Given extends Group>(
  from: Given[],
  { mayBeTaken, after }: { mayBeTaken: (group: Given) => boolean; after?: BatchChoice<Given> },
): BatchChoice<Given> {
  const staying = new Set<unknown>();
  const taken: Given[] = [];
  const rest: Given[] = [];
  let { events, characters } = after ?? { events: 0, characters: 0 };
  for (const [index, group] of from.entries()) {
    const length = charactersOf(group);
    if (events > 0 && (events + group.events.length > eventsMax || characters + length > charactersMax))
      return { taken, rest: [...rest, ...from.slice(index)], events, characters };
    if (staying.has(group.source) || !mayBeTaken(group)) {
      staying.add(group.source);
      rest.push(group);
      continue;
    }
    events += group.events.length;
    characters += length;
    taken.push(group);
  }
  return { taken, rest, events, characters };
}

/** A number for each event: the same for all of one source. */
function unitsOf(groups: Group[]): number[] {
  const units = new Map<unknown, number>();
  return groups.flatMap(({ events, source }) => {
    const unit = units.get(source) ?? units.size;
    units.set(source, unit);
    return events.map(() => unit);
  });
}

const topicsOf = ({ events }: Group) => events.map(({ topic }) => topic);
const charactersOf = ({ events }: Group) => events.reduce((sum, { payload }) => sum + payload.length, 0);
