/** A log in plain arrays, and the commands that compare a real one with it. */
import { expect } from "bun:test";
import fc from "fast-check";
import type {
  AppendedEvent,
  EventLog,
  LoggedEvent,
  NewEvent,
  RetentionPolicy,
  TopicHead,
} from "../../src/storage/ports.ts";
import { newEvent } from "../support/new-event.ts";

const topics = ["user:a", "user:b", "conversation:a", "conversation:b", "conversation:c"];

interface Kept extends LoggedEvent {
  compactionKey: string | undefined;
}

export class ModelLog {
  events: Kept[] = [];
  readonly heads = new Map<string, TopicHead>();
  readonly #keys = new Map<string, { first: AppendedEvent; digest: string | undefined }>();
  /** Moments only go on, so that retention by age and by count cannot disagree on what is oldest. */
  now = 1;

  head(topic: string): TopicHead {
    return this.heads.get(topic) ?? { seq: 0, position: 0, trimmedPosition: 0 };
  }

  /** Takes the positions from the real log, which must only let them grow. */
  append(events: NewEvent[], answers: AppendedEvent[]): void {
    for (const [index, event] of events.entries()) {
      const answer = answers[index]!;
      const [key] = event.once?.keys ?? [];
      const known = key === undefined ? undefined : this.#keys.get(key);
      if (known) {
        const isOther =
          event.once?.digest !== undefined && known.digest !== undefined && event.once.digest !== known.digest;
        expect(answer).toEqual({ ...known.first, duplicate: true, ...(isOther ? { conflict: true } : {}) });
        continue;
      }
      const { topic, id, type, payload, createdAt, compactionKey } = event;
      const head = this.head(topic);
      const seq = head.seq + 1;
      const { position } = answer;
      expect(answer).toEqual({ topic, seq, position, id, createdAt, duplicate: false });
      expect(position).toBeGreaterThan(this.end());
      if (compactionKey !== undefined) {
        this.events = this.events.filter((it) => it.topic !== topic || it.compactionKey !== compactionKey);
      }
      this.events.push({ topic, seq, position, id, type, payload, createdAt, compactionKey });
      this.heads.set(topic, { ...head, seq, position });
      if (key !== undefined) this.#keys.set(key, { first: answer, digest: event.once?.digest });
    }
  }

  end(): number {
    return Math.max(0, ...[...this.heads.values()].map(({ position }) => position));
  }

  of(topic: string): Kept[] {
    return this.events.filter((event) => event.topic === topic);
  }

  trim({ createdBefore, eventsPerTopic }: Omit<RetentionPolicy, "batch">): number {
    const gone = new Set(this.events.filter(({ createdAt }) => createdAt < createdBefore));
    for (const topic of this.heads.keys()) {
      const left = this.of(topic).filter((event) => !gone.has(event));
      for (const event of left.slice(0, Math.max(0, left.length - eventsPerTopic))) gone.add(event);
    }
    for (const { topic, position } of gone) {
      const head = this.head(topic);
      this.heads.set(topic, { ...head, trimmedPosition: Math.max(head.trimmedPosition, position) });
    }
    this.events = this.events.filter((event) => !gone.has(event));
    for (const [key, { first }] of this.#keys) if (first.createdAt < createdBefore) this.#keys.delete(key);
    return gone.size;
  }
}

interface LogCommand {
  run(log: EventLog, model: ModelLog): Promise<void>;
  toString(): string;
}

const withoutKey = ({ compactionKey: _, ...event }: Kept): LoggedEvent => event;
const topic = fc.constantFrom(...topics);
const someTopics = fc.subarray(topics);
const limit = fc.integer({ min: 1, max: 6 });

function command<Input>(
  name: string,
  input: fc.Arbitrary<Input>,
  run: (input: Input, log: EventLog, model: ModelLog) => Promise<void>,
): fc.Arbitrary<LogCommand> {
  return input.map((it) => ({
    run: (log, model) => run(it, log, model),
    toString: () => `${name}(${fc.stringify(it)})`,
    [fc.toStringMethod]: () => `${name}(${fc.stringify(it)})`,
  }));
}

const append = command(
  "append",
  fc.array(
    fc.record({
      topic,
      key: fc.option(fc.constantFrom("k1", "k2", "k3", "k4"), { nil: undefined, freq: 2 }),
      digest: fc.option(fc.constantFrom("d1", "d2"), { nil: undefined, freq: 3 }),
      compactionKey: fc.option(fc.constantFrom("c1", "c2"), { nil: undefined, freq: 2 }),
    }),
    { maxLength: 8 },
  ),
  async (drafts, log, model) => {
    const events = drafts.map(({ topic, key, digest, compactionKey }) => {
      // A key is of one topic.
      const once = key === undefined ? undefined : { keys: [`${topic}:${key}`], digest };
      return newEvent(topic, { once, compactionKey, createdAt: model.now++ });
    });
    const { previousPosition, appended } = await log.append(events);
    if (appended.some(({ duplicate }) => !duplicate)) expect(previousPosition).toBe(model.end());
    model.append(events, appended);
  },
);

const replay = command(
  "replay",
  fc.record({ topics: someTopics, limit, back: fc.nat(30) }),
  async ({ topics, limit, back }, log, model) => {
    const afterPosition = Math.max(0, model.end() - back);
    const expected = model.events.filter((it) => topics.includes(it.topic) && it.position > afterPosition);
    const found: LoggedEvent[] = [];
    for (let more = true; more; ) {
      const page = await log.replay({ topics, afterPosition: found.at(-1)?.position ?? afterPosition, limit });
      expect(page.heads).toEqual(new Map(topics.map((it) => [it, model.head(it)])));
      expect(page.watermark).toBeGreaterThanOrEqual(model.end());
      found.push(...page.events);
      more = page.more;
      expect(page.events.length).toBeLessThanOrEqual(limit);
      if (more) expect(page.events.length).toBeGreaterThan(0);
    }
    expect(found).toEqual(expected.map(withoutKey));
  },
);

const read = command(
  "read",
  fc.record({ topic, limit, from: fc.nat(12), to: fc.nat(12) }),
  async ({ topic, limit, from, to }, log, model) => {
    const all = model.of(topic).map(withoutKey);
    const above = all.filter(({ seq }) => seq > from);
    const below = all.filter(({ seq }) => seq < to);
    const within = above.filter(({ seq }) => seq <= to);
    expect(await log.range({ topic, afterSeq: from, throughSeq: to, limit })).toEqual({
      events: within.slice(0, limit),
      more: within.length > limit,
    });
    expect(await log.page({ topic, afterSeq: from, limit })).toEqual({
      events: above.slice(0, limit),
      more: above.length > limit,
    });
    expect(await log.page({ topic, beforeSeq: to, limit })).toEqual({
      events: below.slice(-limit),
      more: below.length > limit,
    });
    expect(await log.page({ topic, limit })).toEqual({ events: all.slice(-limit), more: all.length > limit });
  },
);

const moved = command("moved", fc.record({ limit, back: fc.nat(30) }), async ({ limit, back }, log, model) => {
  const since = Math.max(0, model.end() - back);
  const expected = [...model.heads]
    .map(([topic, { seq, position }]) => ({ topic, seq, position }))
    .filter(({ position }) => position > since);
  const found = new Map<string, { topic: string; seq: number; position: number }>();
  for (let from = since, more = true; more; ) {
    const page = await log.movedSince(from, limit);
    expect(page.heads.length).toBeLessThanOrEqual(limit);
    expect(page.heads).toEqual(page.heads.toSorted((a, b) => a.position - b.position));
    for (const head of page.heads) found.set(head.topic, head);
    ({ more } = page);
    from = page.position;
    // Nothing else writes here: what was not given out to an event is of an append that failed.
    expect(page.watermark).toBeGreaterThanOrEqual(model.end());
    if (!more) expect(from).toBe(page.watermark);
  }
  // Of a topic whose newest event is not kept only the head knows.
  const kept = expected.filter(({ topic, position }) => model.of(topic).at(-1)?.position === position);
  for (const head of kept) expect(found.get(head.topic)).toEqual(head);
  for (const head of found.values()) expect(expected).toContainEqual(head);
  const query = { topics: topics.slice(0, 3), afterPosition: since, throughPosition: model.end() };
  const among = await log.movedAmong(query);
  expect(among).toEqual(
    kept.filter(({ topic }) => query.topics.includes(topic)).toSorted((a, b) => a.position - b.position),
  );
});

const trim = command(
  "trim",
  fc.record({ age: fc.integer({ min: 5, max: 60 }), eventsPerTopic: fc.integer({ min: 1, max: 12 }), batch: limit }),
  async ({ age, eventsPerTopic, batch }, log, model) => {
    const policy = { createdBefore: model.now - age, eventsPerTopic };
    let removed = 0;
    for (let more = true; more; ) {
      const result = await log.trim({ ...policy, batch });
      expect(result.removed).toBeLessThanOrEqual(batch);
      removed += result.removed;
      more = result.more;
    }
    expect(removed).toBe(model.trim(policy));
    expect(await log.heads(topics)).toEqual(new Map(topics.map((it) => [it, model.head(it)])));
    expect(await log.stats()).toMatchObject({ events: model.events.length, topics: model.heads.size });
  },
);

/** Any call with any input; it fails where the log and the model differ. */
export const logCommand: fc.Arbitrary<LogCommand> = fc.oneof(
  { arbitrary: append, weight: 4 },
  { arbitrary: replay, weight: 2 },
  { arbitrary: read, weight: 1 },
  { arbitrary: moved, weight: 1 },
  { arbitrary: trim, weight: 1 },
);
