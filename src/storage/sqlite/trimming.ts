/** Removes from the event log what retention does not keep; runs in the worker only [LOG7]. */
import { lookedAtMax, type RetentionPolicy } from "../ports.ts";
import type { EventLogStatements, EventRef } from "./event-log-statements.ts";
import { oldRows } from "./old-rows.ts";

/** How far topics were found to have no more events than that: `topicId` counts through all of them once; null: it has. */
interface Sized {
  eventsPerTopic: number;
  topicId: number | null;
  /** Of the last event of those that have moved since. */
  position: number;
}

export class Trimming {
  #sized: Sized = { eventsPerTopic: 0, topicId: 0, position: 0 };

  constructor(
    private readonly sql: EventLogStatements,
    private readonly atomically: <Result>(work: () => Result, mode: "immediate") => Result,
  ) {}

  /** Removes events, which `removed` counts; idempotency keys of the same age go within the same bound of rows. */
  trim(policy: RetentionPolicy, now: number): { removed: number; more: boolean } {
    const { sized, ...done } = this.atomically(() => this.#trimBatch(policy, now), "immediate");
    this.#sized = sized;
    return done;
  }

  #trimBatch({ createdBefore, eventsPerTopic, batch }: RetentionPolicy, now: number) {
    const sql = this.sql;
    const age = { createdBefore, now };
    const old = [...take(oldRows(sql.first.iterate(lookedAtMax), age), batch)];
    sql.remove.run(JSON.stringify(old.map(({ position }) => position)));
    this.#noteTrimmed(old);
    const crowd = this.#trimCrowds(eventsPerTopic, batch - old.length);
    this.#noteTrimmed(crowd.gone);
    const gone = [...old, ...crowd.gone].map(({ position }) => position);
    const removed = gone.length;
    if (removed > 0) sql.noteRemoved.run(removed, Math.max(...gone));
    const keys = [...take(oldRows(sql.firstKeys.iterate(lookedAtMax), age), batch - removed)];
    sql.removeKeys.run(JSON.stringify(keys.map(({ keyId }) => keyId)));
    const isFull = removed + keys.length === batch;
    if (!isFull) sql.forgetEpochs.run(createdBefore);
    return { removed, more: isFull || crowd.more, sized: crowd.sized };
  }

  /** Looks at a page of the topics: of all of them once, then of those that have moved since they were small enough. */
  #trimCrowds(eventsPerTopic: number, limit: number) {
    const sql = this.sql;
    const sized = { ...this.#sized };
    if (sized.eventsPerTopic !== eventsPerTopic)
      Object.assign(sized, { eventsPerTopic, topicId: 0, position: sql.end.get()!.position });
    const { topicId: from } = sized;
    const page = from === null ? sql.sizesOfMoved.all(sized.position, limit) : sql.sizesFrom.all(from, limit);
    const isLast = page.reduce((sum, { lookedAt }) => sum + lookedAt, 0) < limit;
    const gone: EventRef[] = [];
    for (const { topicId, place, events } of page) {
      const surplus = events - eventsPerTopic;
      const removed = surplus > 0 ? sql.removeOldest.all(topicId, Math.min(limit - gone.length, surplus)) : [];
      gone.push(...removed);
      if (removed.length < surplus) return { gone, more: !isLast, sized };
      if (from === null) sized.position = place;
      else sized.topicId = place;
    }
    if (from !== null && isLast) sized.topicId = null;
    return { gone, more: !isLast, sized };
  }

  #noteTrimmed(refs: EventRef[]): void {
    const byTopic = new Map<number, { events: number; position: number }>();
    for (const { topicId, position } of refs) {
      const topic = byTopic.get(topicId) ?? { events: 0, position: 0 };
      byTopic.set(topicId, { events: topic.events + 1, position: Math.max(topic.position, position) });
    }
    for (const [topicId, { events, position }] of byTopic) this.sql.trimTopic.run(events, position, topicId);
  }
}

function* take<Row>(rows: Iterable<Row>, most: number): Generator<Row> {
  if (most <= 0) return;
  let taken = 0;
  for (const row of rows) {
    yield row;
    if (++taken === most) return;
  }
}
