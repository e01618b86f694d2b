/** Appends to the event log's tables, reads and replays them, and removes what retention does not keep; runs in the worker only. */
import type { Database } from "bun:sqlite";
import { type First, notAmended, repetitionOf } from "../once.ts";
import {
  type AppendedEvent,
  type AppendResult,
  type EventLog,
  type EventPage,
  type FeedPage,
  type LoggedEvent,
  lookedAtMax,
  type MovedPage,
  type NewEvent,
  type Once,
  pageBytesMax,
  type RetentionPolicy,
  type TopicHead,
} from "../ports.ts";
import { MessageAmendments } from "./amendments.ts";
import {
  type EventLogStatements,
  type EventRef,
  keyIdOf,
  prepareEventLog,
  type TopicRow,
} from "./event-log-statements.ts";
import { oldRows } from "./old-rows.ts";
import { ReceiptTable } from "./receipts.ts";

export type ReplayQuery = Parameters<EventLog["replay"]>[0];
export type RangeQuery = Parameters<EventLog["range"]>[0];
export type MovedAmongQuery = Parameters<EventLog["movedAmong"]>[0];
export type PageQuery = Parameters<EventLog["page"]>[0];
export type PageOfQuery = Parameters<EventLog["pageOf"]>[0];
export type FeedQuery = Parameters<EventLog["feed"]>[0];
/** Topics without events are left out. */
export type HeadEntries = [topic: string, head: TopicHead][];

export class EventLogTables {
  readonly #sql: EventLogStatements;
  readonly #amendments: MessageAmendments;
  readonly #receipts: ReceiptTable;
  /** Overwrites also pages that become free: retention does not, for it must work on a full disk. */
  readonly #overwriting: <Result>(work: () => Result) => Result;
  readonly #atomically: <Result>(work: () => Result, mode: "immediate" | "deferred") => Result;
  /** No topic whose last event is up to that position has more events than so many. */
  #sized = { eventsPerTopic: 0, through: 0 };

  constructor(database: Database) {
    this.#sql = prepareEventLog(database);
    this.#amendments = new MessageAmendments(database);
    this.#receipts = new ReceiptTable(database);
    const transaction = database.transaction((work: () => unknown) => work());
    this.#atomically = <Result>(work: () => Result, mode: "immediate" | "deferred") =>
      transaction[mode](work) as Result;
    this.#overwriting = (work) => {
      database.exec("PRAGMA secure_delete = ON");
      try {
        return work();
      } finally {
        database.exec("PRAGMA secure_delete = FAST");
      }
    };
  }

  append(events: NewEvent[]): AppendResult {
    const append = () => this.#atomically(() => this.#appendAll(events), "immediate");
    return events.some(({ amendment }) => amendment !== undefined) ? this.#overwriting(append) : append();
  }

  #appendAll(events: NewEvent[]): AppendResult {
    const sql = this.#sql;
    const previousPosition = this.watermark();
    const touched = new Map<string, TopicRow>();
    let position = previousPosition;
    let compacted = 0;
    const appended = events.map((event): AppendedEvent => {
      const { topic, id, createdAt, once = { keys: [] }, compactionKey } = event;
      const firsts = this.#firstsOf(once);
      const other = once.isNamed && firsts.length === 0 ? sql.messageById.get(topic, id) : null;
      if (other) firsts.push(other);
      if (firsts.length > 0) return repetitionOf(firsts, once);
      const outcome = event.amendment ? this.#amendments.apply(event, event.amendment) : "applied";
      if (outcome !== "applied") return notAmended(event, outcome);
      if (event.tells && !this.#receipts.tell(event.tells)) return notAmended(event, "unchanged");
      let row = touched.get(topic);
      if (!row) touched.set(topic, (row = sql.topic.get(topic) ?? sql.addTopic.get(topic)!));
      if (compactionKey !== undefined) {
        const { changes } = sql.compact.run(row.topicId, compactionKey);
        row.events -= changes;
        compacted += changes;
      }
      row.seq += 1;
      row.events += 1;
      row.position = position += 1;
      const { topicId, seq } = row;
      sql.addEvent.run(
        position,
        topicId,
        seq,
        id,
        event.type,
        event.payload,
        createdAt,
        compactionKey ?? null,
        event.senderId ?? null,
      );
      for (const [index, key] of once.keys.entries())
        sql.addKey.run(keyIdOf(position, index), key, topicId, seq, position, id, createdAt, once.digest ?? null);
      return { topic, seq, position, id, createdAt, duplicate: false };
    });
    for (const { topicId, seq, position, events } of touched.values()) sql.setTopic.run(seq, position, events, topicId);
    if (compacted > 0) sql.noteRemoved.run(compacted);
    return { previousPosition, appended };
  }

  find(once: Omit<Once, "isNamed">): AppendedEvent | undefined {
    const firsts = this.#firstsOf(once);
    return firsts.length > 0 ? repetitionOf(firsts, once) : undefined;
  }

  #firstsOf({ keys }: Pick<Once, "keys">): First[] {
    return keys.flatMap((key) => this.#sql.key.get(key) ?? []);
  }

  /**
   * Reads a page over any number of topics by one index step for each topic that moved and one for each event of the page,
   * however many events wait behind it and however many of other topics lie between.
   */
  replay(query: ReplayQuery): EventPage & { heads: HeadEntries; watermark: number } {
    return this.#atomically(() => ({ ...this.#replayPage(query), watermark: this.watermark() }), "deferred");
  }

  #replayPage({ topics, afterPosition, limit }: ReplayQuery) {
    const sql = this.#sql;
    const rows = sql.topics.all(JSON.stringify(topics));
    const moved = rows.filter(({ position }) => position > afterPosition).map(({ topicId }) => topicId);
    // No topic outside of the first limit + 1 can have an event in this page. Newest first: the end is taken.
    const refs = moved.length ? sql.firstAfter.all(JSON.stringify(moved), afterPosition, limit + 1).reverse() : [];
    const positions: number[] = [];
    while (positions.length < limit) {
      const ref = refs.pop();
      if (!ref) break;
      positions.push(ref.position);
      const next = sql.nextAfter.get(ref.topicId, ref.position);
      if (next) insertNewestFirst(refs, next);
    }
    const { events, isCut } = firstOf(positions.length ? sql.at.iterate(JSON.stringify(positions)) : []);
    return { events, more: isCut || refs.length > 0, heads: rows.map(toHeadEntry) };
  }

  range({ topic, afterSeq, throughSeq, ...bounds }: RangeQuery & { bytesMax?: number }): EventPage {
    const row = this.#sql.topic.get(topic);
    if (!row) return { events: [], more: false };
    const rows = this.#sql.between.iterate(row.topicId, afterSeq, throughSeq, bounds.limit + 1);
    const { events, isCut } = firstOf(rows, bounds);
    return { events, more: isCut };
  }

  page({ topic, beforeSeq, afterSeq, ...bounds }: PageQuery): EventPage {
    const most = Number.MAX_SAFE_INTEGER;
    if (afterSeq !== undefined) return this.range({ topic, afterSeq, throughSeq: most, ...bounds });
    const row = this.#sql.topic.get(topic);
    if (!row) return { events: [], more: false };
    const { events, isCut } = firstOf(
      this.#sql.below.iterate(row.topicId, beforeSeq ?? most, bounds.limit + 1),
      bounds,
    );
    return { events: events.reverse(), more: isCut };
  }

  pageOf(query: PageOfQuery): EventPage & { through: number } {
    return this.#atomically(() => this.#pageOf(query), "deferred");
  }

  #pageOf({ topic, types, beforeSeq = Number.MAX_SAFE_INTEGER, afterSeq, ...bounds }: PageOfQuery) {
    const row = this.#sql.topic.get(topic);
    const isBackwards = afterSeq === undefined;
    const { typesAbove, typesBelow, at } = this.#sql;
    const topicId = row?.topicId ?? 0;
    const rows = isBackwards
      ? typesBelow.all(topicId, beforeSeq, lookedAtMax)
      : typesAbove.all(topicId, afterSeq, lookedAtMax);
    const wanted = rows.filter(({ type }) => types.includes(type)).slice(0, bounds.limit + 1);
    const found = wanted.length > 0 ? at.iterate(JSON.stringify(wanted.map(({ position }) => position))) : [];
    const { events, isCut } = firstOf(found, bounds);
    const last = isCut ? events.at(-1) : rows.at(-1);
    return {
      events: isBackwards ? events.reverse() : events,
      more: isCut || rows.length === lookedAtMax,
      through: last?.seq ?? afterSeq ?? beforeSeq,
    };
  }

  feed({ afterPosition, limit }: FeedQuery): FeedPage {
    return this.#atomically(() => {
      const { events, isCut } = firstOf(this.#sql.after.iterate(afterPosition, limit + 1), { limit });
      const trimmedPosition = this.#sql.lastTrimmed.get()?.position ?? 0;
      return {
        events,
        more: isCut,
        position: isCut ? events.at(-1)!.position : this.watermark(),
        end: this.watermark(),
        trimmedPosition,
      };
    }, "deferred");
  }

  heads(topics: string[]): HeadEntries {
    return this.#sql.topics.all(JSON.stringify(topics)).map(toHeadEntry);
  }

  movedSince(position: number, limit: number): MovedPage {
    return this.#atomically(() => {
      const heads = this.#sql.moved.all(position, limit);
      const watermark = this.watermark();
      const more = heads.length === limit;
      return { heads, position: more ? heads.at(-1)!.position : watermark, more, watermark, end: watermark };
    }, "deferred");
  }

  movedAmong({ topics, afterPosition, throughPosition }: MovedAmongQuery): MovedPage["heads"] {
    return this.#sql.movedAmong.all(JSON.stringify(topics), afterPosition, throughPosition);
  }

  /** Says how far the log is: there is one writer, and what was given a position is there. */
  watermark(): number {
    return this.#sql.end.get()!.position;
  }

  stats(): { events: number; topics: number; position: number } {
    const position = this.watermark();
    // Each event has the position after the one before it. Topics are never removed, so the highest id is their number.
    const events = position - this.#sql.removed.get()!.removed;
    return { events, topics: this.#sql.topicCount.get()?.topics ?? 0, position };
  }

  /** Removes events, which `removed` counts; idempotency keys of the same age go within the same bound of rows. */
  trim(policy: RetentionPolicy, now: number): { removed: number; more: boolean } {
    const { sized, ...done } = this.#atomically(() => this.#trimBatch(policy, now), "immediate");
    this.#sized = sized;
    return done;
  }

  #trimBatch({ createdBefore, eventsPerTopic, batch }: RetentionPolicy, now: number) {
    const sql = this.#sql;
    const age = { createdBefore, now };
    const old = [...take(oldRows(sql.first.iterate(lookedAtMax), age), batch)];
    sql.remove.run(JSON.stringify(old.map(({ position }) => position)));
    this.#noteTrimmed(old);
    const crowd = this.#trimCrowds(eventsPerTopic, batch - old.length);
    const removed = old.length + crowd.removed;
    if (removed > 0) sql.noteRemoved.run(removed);
    const keys = [...take(oldRows(sql.firstKeys.iterate(lookedAtMax), age), batch - removed)];
    sql.removeKeys.run(JSON.stringify(keys.map(({ keyId }) => keyId)));
    const isFull = removed + keys.length === batch;
    if (!isFull) sql.forgetEpochs.run(createdBefore);
    return { removed, more: isFull || crowd.more, sized: crowd.sized };
  }

  /** Looks at a page of the topics that have moved since all before them were small enough. */
  #trimCrowds(eventsPerTopic: number, limit: number) {
    const sized = this.#sized.eventsPerTopic === eventsPerTopic ? { ...this.#sized } : { eventsPerTopic, through: 0 };
    const page = this.#sql.sizesAfter.all(sized.through, limit);
    let removed = 0;
    for (const { topicId, position, events } of page) {
      const surplus = events - eventsPerTopic;
      const gone = surplus > 0 ? this.#sql.removeOldest.all(topicId, Math.min(limit - removed, surplus)) : [];
      this.#noteTrimmed(gone);
      removed += gone.length;
      if (gone.length < surplus) break;
      sized.through = position;
    }
    return { removed, more: page.length > 0 && page.length === limit, sized };
  }

  #noteTrimmed(refs: EventRef[]): void {
    const byTopic = new Map<number, { events: number; position: number }>();
    for (const { topicId, position } of refs) {
      const topic = byTopic.get(topicId) ?? { events: 0, position: 0 };
      byTopic.set(topicId, { events: topic.events + 1, position: Math.max(topic.position, position) });
    }
    for (const [topicId, { events, position }] of byTopic) this.#sql.trimTopic.run(events, position, topicId);
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

/** Reads no further than the page goes, by its limit and by its payloads. */
function firstOf(
  rows: Iterable<LoggedEvent>,
  { limit = Number.POSITIVE_INFINITY, bytesMax = pageBytesMax }: { limit?: number; bytesMax?: number } = {},
) {
  const events: LoggedEvent[] = [];
  let bytes = 0;
  for (const event of rows) {
    if (events.length >= limit || bytes >= Math.min(bytesMax, pageBytesMax)) return { events, isCut: true };
    events.push(event);
    bytes += Buffer.byteLength(event.payload);
  }
  return { events, isCut: false };
}

function toHeadEntry({ topic, seq, position, trimmedPosition }: TopicRow): HeadEntries[number] {
  return [topic, { seq, position, trimmedPosition }];
}

function insertNewestFirst(refs: EventRef[], ref: EventRef): void {
  let low = 0;
  let high = refs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (refs[middle]!.position > ref.position) low = middle + 1;
    else high = middle;
  }
  refs.splice(low, 0, ref);
}
