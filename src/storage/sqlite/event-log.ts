/** Appends to the event log's tables, reads and replays them. */
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
import { firstAfter, lastAtOrBefore } from "./event-places.ts";
import { ReceiptTable } from "./receipts.ts";
import { Trimming } from "./trimming.ts";

export type ReplayQuery = Parameters<EventLog["replay"]>[0];
export type RangeQuery = Parameters<EventLog["range"]>[0];
export type MovedAmongQuery = Parameters<EventLog["movedAmong"]>[0];
export type PageQuery = Parameters<EventLog["page"]>[0];
export type PageOfQuery = Parameters<EventLog["pageOf"]>[0];
export type FeedQuery = Parameters<EventLog["feed"]>[0];
/** Topics without events are left out. */
export type HeadEntries = [topic: string, head: TopicHead][];

type ReplayRows = EventPage & { heads: HeadEntries; watermark: number };

/** Of a page: events, and bytes of their payloads. */
interface PageSize {
  events: number;
  bytes: number;
}

export class EventLogTables {
  readonly #sql: EventLogStatements;
  readonly #amendments: MessageAmendments;
  readonly #receipts: ReceiptTable;
  readonly #trimming: Trimming;
  /** Overwrites also pages that become free: retention does not, for it must work on a full disk. */
  readonly #overwriting: <Result>(work: () => Result) => Result;
  readonly #atomically: <Result>(work: () => Result, mode: "immediate" | "deferred") => Result;

  constructor(database: Database) {
    this.#sql = prepareEventLog(database);
    this.#amendments = new MessageAmendments(database);
    this.#receipts = new ReceiptTable(database);
    const transaction = database.transaction((work: () => unknown) => work());
    this.#atomically = <Result>(work: () => Result, mode: "immediate" | "deferred") =>
      transaction[mode](work) as Result;
    this.#trimming = new Trimming(this.#sql, this.#atomically);
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
      if (event.senderId !== undefined) row.messageSeq = row.seq;
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
    for (const { topicId, seq, position, events, messageSeq } of touched.values())
      sql.setTopic.run(seq, position, events, messageSeq, topicId);
    if (compacted > 0) sql.noteRemoved.run(compacted, 0);
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
   * Reads a page over any number of topics by a few index steps for each topic that moved and one for each event of the page,
   * however many events wait behind it and however many of other topics lie between.
   */
  replay(query: ReplayQuery): ReplayRows;
  /** @returns undefined where the page has more than so many events, or bytes of payload */
  replay(query: ReplayQuery, most: PageSize): ReplayRows | undefined;
  replay(query: ReplayQuery, most?: PageSize): ReplayRows | undefined {
    return this.#atomically(() => {
      const page = this.#replayPage(query, most);
      return page && { ...page, watermark: this.watermark() };
    }, "deferred");
  }

  #replayPage({ topics, afterPosition, limit }: ReplayQuery, most?: PageSize) {
    const sql = this.#sql;
    const rows = sql.topics.all(JSON.stringify(topics));
    // Newest first: the end is taken.
    const refs = rows.flatMap((row) => firstAfter(sql, row, afterPosition) ?? []);
    refs.sort((a, b) => b.position - a.position);
    const positions: number[] = [];
    while (positions.length < limit) {
      const ref = refs.pop();
      if (!ref) break;
      if (positions.length === most?.events) return undefined;
      positions.push(ref.position);
      const next = sql.firstAbove.get(ref.topicId, ref.seq, 0);
      if (next) insertNewestFirst(refs, next);
    }
    const found = JSON.stringify(positions);
    if (most !== undefined && sql.bytesAt.get(found)!.bytes > most.bytes) return undefined;
    const { events, isCut } = firstOf(positions.length ? sql.at.iterate(found) : []);
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
      const rows = this.#sql.moved.all(position, limit);
      const heads = rows.map(({ events: _, ...head }) => head);
      const watermark = this.watermark();
      const more = rows.reduce((sum, { events }) => sum + events, 0) === limit;
      return { heads, position: more ? heads.at(-1)!.position : watermark, more, watermark, end: watermark };
    }, "deferred");
  }

  movedAmong({ topics, afterPosition, throughPosition }: MovedAmongQuery): MovedPage["heads"] {
    return this.#atomically(() => {
      const rows = this.#sql.topics.all(JSON.stringify(topics));
      const lasts = rows.flatMap((row) => {
        const last = row.position > afterPosition ? lastAtOrBefore(this.#sql, row, throughPosition) : null;
        return last !== null && last.position > afterPosition ? { topic: row.topic, ...last } : [];
      });
      return lasts
        .map(({ topic, seq, position }) => ({ topic, seq, position }))
        .sort((a, b) => a.position - b.position);
    }, "deferred");
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
    return this.#trimming.trim(policy, now);
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
