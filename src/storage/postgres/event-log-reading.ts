/** Reads the event log: pages of topics and of the whole log, heads, and what has moved; each by one statement, of one moment. */
import { Gathering } from "../../ground/gathering.ts";
import { shownPayload } from "../amendments.ts";
import {
  type EventLog,
  type EventPage,
  type LoggedEvent,
  lookedAtMax,
  type MovedPage,
  pageBytesMax,
  type TopicHead,
} from "../ports.ts";
import { arrayOf } from "./connection.ts";
import type { LookBack } from "./epochs.ts";
import type { Pool } from "./pool.ts";

/** Topics of a question for heads that is asked together with others', and such questions of one statement. */
const gatheredMax = 20;
const atOnceMax = 50;
const underWayMax = 4;

interface HeadRow extends TopicHead {
  topic: string;
}

/** An event of a page, with how many the page would have by its limit alone. */
interface PagedRow extends LoggedEvent {
  found: number;
}

/** An event that has moved its topic, or one row without any. */
interface MovedRow {
  watermark: number;
  end: number;
  inFlight: boolean;
  topic: string | null;
  seq: number;
  position: number;
  isAsItWas: boolean;
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

const payload = shownPayload({ payload: "e.payload", reactions: "e.reactions" }, (text) => `left(${text}, -1)`);
const eventColumns = `t.name AS topic, e.seq, e.position, e.id, e.type, ${payload} AS payload, e.created_at AS "createdAt"`;
const noHead: TopicHead = { seq: 0, position: 0, trimmedPosition: 0 };
const pageBytes = (bytesMax = pageBytesMax) => Math.min(bytesMax, pageBytesMax);
/** So often (ms) a log at rest is looked at in full: an append that gave out no number may hold its topic all the same. */
const fullLookMs = 5_000;
const farthest = Number.MAX_SAFE_INTEGER;

function statements(ws: string) {
  return {
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
    pageOfNewest: withinBytes(pageOf(ws, true), "seq DESC", "$6::bigint"),
    pageOfOldest: withinBytes(pageOf(ws, false), "seq", "$6::bigint"),
    feed: withinBytes(
      `SELECT watermark, log_end AS "end", trimmed_position AS "trimmedPosition", topic, seq, position, id, type, payload,
        created_at AS "createdAt" FROM ${ws}.feed($1, $2)`,
      "position",
    ),
    movedSince: (
      isAsItWas: string,
    ) => `SELECT watermark, log_end AS "end", in_flight AS "inFlight", topic, seq, position,
      ${isAsItWas} AS "isAsItWas" FROM ${ws}.moved_since($1, $2)`,
    isAtRest: (isAsItWas: string) =>
      `SELECT coalesce(pg_sequence_last_value('${ws}.positions') = $1 AND ${isAsItWas}, false) AS "isAtRest"`,
    movedAmong: `SELECT topic, seq, position FROM ${ws}.moved_among($1, $2, $3)`,
    watermark: `SELECT watermark FROM ${ws}.watermark()`,
  };
}

const pageOf = (
  ws: string,
  isBackwards: boolean,
) => `SELECT reached, looked_at AS "lookedAt", topic, seq, position, id, type,
  payload, created_at AS "createdAt" FROM ${ws}.page_of($1, $2, $3, $4, ${isBackwards}, $5, ${lookedAtMax})`;

export interface Watermark {
  position: number;
  inFlight: boolean;
}

type Stretch = Parameters<EventLog["range"]>[0] & { bytesMax?: number | undefined };

export interface LogReadingOptions {
  pool: Pool;
  schema: string;
  lookout: Pick<LookBack, "isAsItWas" | "look">;
  /** Told of each watermark that is read with what has moved, and whether appends are on their way above it. */
  onWatermark: (watermark: Watermark) => void;
}

type Topics = Pick<EventLog, "replay" | "range" | "page" | "pageOf" | "heads">;
type Whole = Pick<EventLog, "feed" | "movedSince" | "movedAmong" | "watermark">;

export function createLogReading(options: LogReadingOptions): Topics & Whole {
  const sql = statements(options.schema);
  return { ...createTopicReading(options.pool, sql), ...createWholeReading(options, sql) };
}

function createTopicReading(pool: Pool, sql: ReturnType<typeof statements>): Topics {
  async function between({ topic, afterSeq, throughSeq, limit, bytesMax }: Stretch): Promise<EventPage> {
    const parameters = [topic, afterSeq, throughSeq, limit + 1, pageBytes(bytesMax)];
    return toPage(await pool.query<PagedRow>(sql.between, parameters), limit);
  }

  async function readHeads(topics: string[]): Promise<Map<string, TopicHead>> {
    const heads = emptyHeads(topics);
    for (const row of await pool.query<HeadRow>(sql.heads, [arrayOf(topics)])) addHead(heads, row);
    return heads;
  }

  const gathering = new Gathering({
    async ask(questions: string[][]) {
      const heads = await readHeads([...new Set(questions.flat())]);
      return questions.map((topics) => new Map(topics.map((topic) => [topic, heads.get(topic)!])));
    },
    atOnceMax,
    underWayMax,
  });

  return {
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

    async pageOf({ topic, types, beforeSeq = farthest, afterSeq, limit, bytesMax }) {
      type Row = PagedRow & { reached: number | null; lookedAt: number };
      const isBackwards = afterSeq === undefined;
      const parameters = [topic, arrayOf(types), afterSeq ?? 0, beforeSeq, limit + 1, pageBytes(bytesMax)];
      const rows = await pool.query<Row>(isBackwards ? sql.pageOfNewest : sql.pageOfOldest, parameters);
      const { reached, lookedAt } = rows[0]!;
      const page = toPage(
        rows.filter(({ id }) => id !== null),
        limit,
      );
      return {
        events: isBackwards ? page.events.toReversed() : page.events,
        more: page.more || lookedAt === lookedAtMax,
        through: page.more ? page.events.at(-1)!.seq : (reached ?? afterSeq ?? beforeSeq),
      };
    },

    heads: (topics) => (topics.length > gatheredMax ? readHeads(topics) : gathering.ask(topics)),
  };
}

function createWholeReading(options: LogReadingOptions, sql: ReturnType<typeof statements>): Whole {
  const { pool } = options;
  return {
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

    movedSince: createMovedSince(options, sql),

    async movedAmong({ topics, afterPosition, throughPosition }) {
      const parameters = [arrayOf(topics), afterPosition, throughPosition];
      return [...(await pool.query<MovedPage["heads"][number]>(sql.movedAmong, parameters))];
    },

    async watermark() {
      const [row] = await pool.query<{ watermark: number }>(sql.watermark);
      return row!.watermark;
    },
  };
}

function createMovedSince(
  { pool, lookout, onWatermark }: LogReadingOptions,
  sql: ReturnType<typeof statements>,
): EventLog["movedSince"] {
  /** The end of the log, where the last look found nothing above it. */
  let restedAt: number | null = null;
  let lookedAt = 0;

  /** Says whether no number was drawn above a position, so that nothing was missed and nothing is on its way: that costs little. */
  async function isAtRest(position: number): Promise<boolean> {
    const { expression, parameters } = lookout.isAsItWas(2);
    const [row] = await pool.query<{ isAtRest: boolean }>(sql.isAtRest(expression), [position, ...parameters]);
    return row!.isAtRest;
  }

  function look(position: number, limit: number): Promise<MovedRow[]> {
    const { expression, parameters } = lookout.isAsItWas(3);
    return pool.query<MovedRow>(sql.movedSince(expression), [position, limit, ...parameters]);
  }

  return async (position, limit) => {
    const at = performance.now();
    if (position === restedAt && at - lookedAt < fullLookMs && (await isAtRest(position))) {
      onWatermark({ position, inFlight: false });
      return { heads: [], position, more: false, watermark: position, end: position };
    }
    lookedAt = at;
    let rows = await look(position, limit);
    if (!rows[0]!.isAsItWas) {
      await lookout.look();
      rows = await look(position, limit);
    }
    const { watermark, end, inFlight } = rows[0]!;
    onWatermark({ position: watermark, inFlight });
    const newest = new Map<string, { topic: string; seq: number; position: number }>();
    for (const { topic, seq, position } of rows) {
      if (topic === null) continue;
      // Anew, so that they come in the order of their positions.
      newest.delete(topic);
      newest.set(topic, { topic, seq, position });
    }
    const more = newest.size > 0 && rows.length === limit;
    const through = more ? rows.at(-1)!.position : Math.max(position, watermark);
    restedAt = !more && through === end ? end : null;
    return { heads: [...newest.values()], position: through, more, watermark, end };
  };
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
