/** Keeps the event log in PostgreSQL: each call is one statement; what it reads is of one moment [LOG1–LOG8]. */
import { type First, repetitionOf } from "../once.ts";
import {
  type Appended,
  type AppendResult,
  type EventLog,
  type EventPage,
  type LoggedEvent,
  type MovedPage,
  type NewEvent,
  pageBytesMax,
  type TopicHead,
} from "../ports.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";

interface AppendRow {
  /** Its number in the batch as it was sent, from 1. */
  n: number;
  /** Null where its unit was left alone. */
  seq: number | null;
  position: number;
  /** Of the first event with a key, one row for each key that is known; null where it was appended. */
  topic: string | null;
  id: string | null;
  createdAt: number | null;
  digest: string | null;
}

interface HeadRow extends TopicHead {
  topic: string;
}

/** An event of a page, with how many the page would have by its limit alone. */
interface PagedRow extends LoggedEvent {
  found: number;
}

/** An event of a replay, the head of a topic where it has no id, or nothing but the watermark where it has no topic. */
interface ReplayRow {
  watermark: number;
  id: string | null;
  topic: string | null;
}

/** Reads the rows of a page in order, as far as their payloads go; what is cut off never leaves the engine. */
const withinBytes = (rows: string, order: string, bytesMax = `${pageBytesMax}`) => `SELECT * FROM (
    SELECT p.*, count(p.id) OVER () AS found,
      sum(octet_length(p.payload)) OVER (ORDER BY ${order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (${rows}) AS p) AS q
  WHERE q.id IS NULL OR coalesce(q.before, 0) < ${bytesMax} ORDER BY ${order}`;

const eventColumns = `t.name AS topic, e.seq, e.position, e.id, e.type, e.payload, e.created_at AS "createdAt"`;
const noHead: TopicHead = { seq: 0, position: 0, trimmedPosition: 0 };
const pageBytes = (bytesMax = pageBytesMax) => Math.min(bytesMax, pageBytesMax);
const farthest = Number.MAX_SAFE_INTEGER;
/** So often (ms) it is looked who holds cursors back, once they have stood still for too long. */
const stallLookMs = 1_000;

/** Appends what `appendParameters` are made of. */
export const appendStatement = (ws: string) =>
  `SELECT n, seq, position, topic, id, created_at AS "createdAt", digest
    FROM ${ws}.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`;

function statements(ws: string) {
  return {
    append: appendStatement(ws),
    heads: `SELECT topic, seq, position, trimmed_position AS "trimmedPosition" FROM ${ws}.heads($1)`,
    replay: withinBytes(
      `SELECT watermark, topic, seq, position, trimmed_position AS "trimmedPosition", id, type, payload,
        created_at AS "createdAt" FROM ${ws}.replay($1, $2, $3)`,
      "position",
    ),
    between: withinBytes(
      `SELECT ${eventColumns} FROM ${ws}.topics AS t JOIN ${ws}.events AS e USING (topic_id)
      WHERE t.name = $1 AND e.seq > $2 AND e.seq <= $3 ORDER BY e.seq LIMIT $4`,
      "seq",
      "$5::bigint",
    ),
    below: withinBytes(
      `SELECT ${eventColumns} FROM ${ws}.topics AS t JOIN ${ws}.events AS e USING (topic_id)
      WHERE t.name = $1 AND e.seq < $2 ORDER BY e.seq DESC LIMIT $3`,
      "seq DESC",
      "$4::bigint",
    ),
    feed: withinBytes(
      `SELECT watermark, log_end AS "end", trimmed_position AS "trimmedPosition", topic, seq, position, id, type, payload,
        created_at AS "createdAt" FROM ${ws}.feed($1, $2)`,
      "position",
    ),
    movedSince: `SELECT watermark, log_end AS "end", topic, seq, position FROM ${ws}.moved_since($1, $2)`,
    movedAmong: `SELECT topic, seq, position FROM ${ws}.moved_among($1, $2, $3)`,
    watermark: `SELECT watermark FROM ${ws}.watermark()`,
    endStalled: `SELECT ${ws}.end_stalled($1) AS ended`,
    trim: `SELECT removed, more FROM ${ws}.trim($1, $2, $3)`,
    stats: `SELECT events, topics, position FROM ${ws}.log_size()`,
  };
}

export interface EventLogOptions {
  pool: Pool;
  /** Few connections: batches of a node wait for each other here, not for locks on connections that reads need. */
  appends: Pool;
  schema: string;
  lookout: Pick<EventLog, "epochs" | "note" | "lookBack">;
  /** A session that holds cursors back in the middle of an append, waiting for its node, is ended after so long. */
  stallMsMax: number;
  /** Told how many sessions were ended. */
  onStalled: (ended: number) => void;
}

export function createEventLog({ pool, appends, schema, lookout, stallMsMax, onStalled }: EventLogOptions): EventLog {
  const sql = statements(schema);
  /** Since when it has been the same, by the clock of this process. */
  let watermarkSeen = { position: -1, sinceMs: 0 };

  /** Ends sessions of nodes that have frozen or were cut off while they appended: until then they hold up everybody's cursor. */
  async function watchWatermark(position: number): Promise<void> {
    const now = performance.now();
    if (position !== watermarkSeen.position) watermarkSeen = { position, sinceMs: now };
    if (now - watermarkSeen.sinceMs < stallMsMax) return;
    // Again with the next repairs: it may not have stood still for so long itself yet.
    watermarkSeen.sinceMs = now - stallMsMax + stallLookMs;
    const [row] = await pool.query<{ ended: number }>(sql.endStalled, [stallMsMax]);
    if (row!.ended > 0) onStalled(row!.ended);
  }

  type Stretch = Parameters<EventLog["range"]>[0] & { bytesMax?: number | undefined };

  async function between({ topic, afterSeq, throughSeq, limit, bytesMax }: Stretch): Promise<EventPage> {
    const parameters = [topic, afterSeq, throughSeq, limit + 1, pageBytes(bytesMax)];
    return toPage(await pool.query<PagedRow>(sql.between, parameters), limit);
  }

  async function watermark(): Promise<number> {
    const [row] = await pool.query<{ watermark: number }>(sql.watermark);
    return row!.watermark;
  }

  return {
    ...lookout,
    async append(events, units) {
      if (events.length === 0) return { previousPosition: await watermark(), appended: [] };
      const batch = withoutRepeatedKeys(events);
      const rows = await appends.query<AppendRow>(
        sql.append,
        appendParameters(batch.sent, units && unitsOfSent(batch, units)),
      );
      return toResult(events, batch, rows);
    },

    async replay({ topics, afterPosition, limit }) {
      const rows = await pool.query<ReplayRow>(sql.replay, [arrayOf(topics), afterPosition, limit + 1]);
      const heads = emptyHeads(topics);
      const found: PagedRow[] = [];
      for (const row of rows) {
        if (row.id !== null) found.push(row as PagedRow & ReplayRow);
        else if (row.topic !== null) addHead(heads, row as HeadRow & ReplayRow);
      }
      return { ...toPage(found, limit), heads, watermark: rows[0]!.watermark };
    },

    range: between,

    async page({ topic, beforeSeq, afterSeq, limit, bytesMax }) {
      if (afterSeq !== undefined) return between({ topic, afterSeq, throughSeq: farthest, limit, bytesMax });
      const parameters = [topic, beforeSeq ?? farthest, limit + 1, pageBytes(bytesMax)];
      const found = await pool.query<PagedRow>(sql.below, parameters);
      const { events, more } = toPage(found, limit);
      return { events: events.reverse(), more };
    },

    async heads(topics) {
      const heads = emptyHeads(topics);
      for (const row of await pool.query<HeadRow>(sql.heads, [arrayOf(topics)])) addHead(heads, row);
      return heads;
    },

    async feed({ afterPosition, limit }) {
      type Row = PagedRow & { watermark: number; end: number; trimmedPosition: number };
      const rows = await pool.query<Row>(sql.feed, [afterPosition, limit + 1]);
      const { watermark, end, trimmedPosition } = rows[0]!;
      const page = toPage(
        rows.filter(({ id }) => id !== null),
        limit,
      );
      return {
        ...page,
        position: page.more ? page.events.at(-1)!.position : watermark,
        end,
        trimmedPosition,
      };
    },

    async movedSince(position, limit) {
      type Row = { watermark: number; end: number; topic: string | null; seq: number; position: number };
      const rows = await pool.query<Row>(sql.movedSince, [position, limit]);
      const { watermark, end } = rows[0]!;
      void watchWatermark(watermark).catch(() => {});
      const newest = new Map<string, { topic: string; seq: number; position: number }>();
      for (const { topic, seq, position } of rows) {
        if (topic === null) continue;
        // Anew, so that they come in the order of their positions.
        newest.delete(topic);
        newest.set(topic, { topic, seq, position });
      }
      const more = newest.size > 0 && rows.length === limit;
      const through = more ? rows.at(-1)!.position : Math.max(position, watermark);
      return { heads: [...newest.values()], position: through, more, watermark, end };
    },

    async movedAmong({ topics, afterPosition, throughPosition }) {
      const parameters = [arrayOf(topics), afterPosition, throughPosition];
      return [...(await pool.query<MovedPage["heads"][number]>(sql.movedAmong, parameters))];
    },

    watermark,

    async trim({ createdBefore, eventsPerTopic, batch }) {
      type Row = { removed: number; more: boolean };
      const [row] = await pool.query<Row>(sql.trim, [createdBefore, eventsPerTopic, batch]);
      return { removed: row!.removed, more: row!.more };
    },

    async stats() {
      const [row] = await pool.query<{ events: number; topics: number; position: number }>(sql.stats);
      return { events: row!.events, topics: row!.topics, position: row!.position };
    },
  };
}

interface Batch {
  sent: NewEvent[];
  /** For each event given: its index in `sent`, or those of the ones that have its keys already. */
  indexes: { own: number | null; earlier: number[] }[];
}

/** Takes out repetitions of a key within the batch, which are answered from here: the statement is given each key once. */
function withoutRepeatedKeys(events: NewEvent[]): Batch {
  const sent: NewEvent[] = [];
  const indexOf = new Map<string, number>();
  const indexes = events.map((event) => {
    const keys = event.once?.keys ?? [];
    const earlier = keys.flatMap((key) => indexOf.get(key) ?? []);
    if (earlier.length > 0) return { own: null, earlier };
    const own = sent.push(event) - 1;
    for (const key of keys) indexOf.set(key, own);
    return { own, earlier };
  });
  return { sent, indexes };
}

/** Joins the units of a repetition and of what it repeats, from which it is answered: they are left alone together. */
function unitsOfSent({ indexes }: Batch, units: number[]): number[] {
  let joined = units;
  const indexOf = new Map<number, number>();
  for (const [index, { own, earlier }] of indexes.entries()) {
    if (own !== null) indexOf.set(own, index);
    else
      for (const at of earlier) {
        const [from, to] = [joined[index]!, joined[indexOf.get(at)!]!];
        if (from !== to) joined = joined.map((unit) => (unit === from ? to : unit));
      }
  }
  return joined.filter((_, index) => indexes[index]!.own !== null);
}

export function appendParameters(events: NewEvent[], units: number[] = []): string[] {
  const column = (value: (event: NewEvent) => string | number | null) => arrayOf(events.map(value));
  const keys = events.flatMap(({ once }, index) => once?.keys.map((key) => ({ key, n: index + 1 })) ?? []);
  return [
    column(({ topic }) => topic),
    column(({ id }) => id),
    column(({ type }) => type),
    column(({ payload }) => payload),
    column(({ createdAt }) => createdAt),
    arrayOf(keys.map(({ key }) => key)),
    arrayOf(keys.map(({ n }) => n)),
    column(({ once }) => once?.digest ?? null),
    arrayOf(events.flatMap(({ once }, index) => (once?.isNamed ? [index + 1] : []))),
    column(({ compactionKey }) => compactionKey ?? null),
    column(({ senderId }) => senderId ?? null),
    arrayOf(units),
    arrayOf([...new Set(events.map(({ topic }) => topic))]),
  ];
}

function toResult(events: NewEvent[], { sent, indexes }: Batch, rows: AppendRow[]): AppendResult {
  const fresh: Appended[] = new Array(sent.length);
  /** For each event sent: the events that its keys belong to, itself where it is new. */
  const firsts: First[][] = sent.map(() => []);
  for (const { n, seq, position, topic, id, createdAt, digest } of rows) {
    const event = sent[n - 1]!;
    if (seq === null) {
      const { topic, id, createdAt } = event;
      fresh[n - 1] = { topic, seq: 0, position: 0, id, createdAt, duplicate: false, deferred: true };
      continue;
    }
    const first = {
      topic: topic ?? event.topic,
      seq,
      position,
      id: id ?? event.id,
      createdAt: createdAt ?? event.createdAt,
    };
    if (topic === null) fresh[n - 1] = { ...first, duplicate: false };
    firsts[n - 1]!.push({ ...first, digest: topic === null ? (event.once?.digest ?? null) : digest });
  }
  const appended = events.map((event, index) => {
    const { own, earlier } = indexes[index]!;
    if (own !== null && fresh[own] !== undefined) return fresh[own];
    const known = own === null ? earlier : [own];
    const unknown = known.find((at) => fresh[at]?.deferred);
    if (unknown !== undefined) return fresh[unknown]!;
    return repetitionOf(
      known.flatMap((at) => firsts[at]!),
      event.once!,
    );
  });
  const positions = fresh.flatMap(({ position, deferred }) => (deferred ? [] : position));
  const last = positions.at(-1) ?? 0;
  const isContiguous = last - (positions[0] ?? 0) === positions.length - 1;
  return { previousPosition: isContiguous ? positions[0]! - 1 : last, appended };
}

function toPage(rows: PagedRow[], limit: number): EventPage {
  const events = rows.slice(0, limit).map(toEvent);
  return { events, more: (rows[0]?.found ?? 0) > events.length };
}

function toEvent({ topic, seq, position, id, type, payload, createdAt }: LoggedEvent): LoggedEvent {
  return { topic, seq, position, id, type, payload, createdAt };
}

const emptyHeads = (topics: string[]) => new Map<string, TopicHead>(topics.map((topic) => [topic, noHead]));

function addHead(heads: Map<string, TopicHead>, { topic, seq, position, trimmedPosition }: HeadRow): void {
  heads.set(topic, { seq, position, trimmedPosition });
}
