/** Answers what is small in the loop's own thread, on a connection that only reads: the way to the worker is longer, and may have others before it. */
import type { Database } from "bun:sqlite";
import type { EventPage } from "../ports.ts";
import { CursorTable, StatusTable } from "./cursors-statuses.ts";
import { DirectoryTables } from "./directory.ts";
import { failureOf, type Operations } from "./engine.ts";
import { EventLogTables } from "./event-log.ts";
import { payloadBytes, shown } from "./event-log-statements.ts";
import { LoopConnection } from "./loop-connection.ts";
import { OverviewTables } from "./overviews.ts";
import { PreparedDatabase } from "./prepared-database.ts";
import { ReceiptTable } from "./receipts.ts";

/** Names that one question may have: each is a step into an index, of some 0.5 µs. */
const namesMax = 20;
/** Names of a question that costs the loop less than to send it away and take its answer, however much was read before in a turn. */
const slightNamesMax = 4;
/** Events of a page, and their bytes: the loop stands still while they are read. */
const eventsMax = 20;
const bytesMax = 64 * 1024;
const conversationsMax = 2;
/** More of them: many come back to the same, which is read once. */
const overviewsMax = 8;
/** Events behind a reader among which the unread ones are counted. */
const behindMax = 200;
/** So long (ms) is read in one turn of the loop. */
const turnMsDefault = 1;

/** Answers what may be answered here; undefined: it is too much. */
type Small = { [Name in keyof Operations]?: (...values: Parameters<Operations[Name]>) => Answer<Name> | undefined };
type Answer<Name extends keyof Operations> = ReturnType<Operations[Name]>;

type Slight = { [Name in keyof Operations]?: (...values: Parameters<Operations[Name]>) => boolean };

const areSlight = (names: string[]) => names.length <= slightNamesMax;
/** Steps into an index, some of them: what a connection that comes asks for. */
const slight: Slight = {
  heads: areSlight,
  acknowledged: () => true,
  getStatuses: areSlight,
  userState: () => true,
  membershipsAmong: (_, conversationIds) => areSlight(conversationIds),
  membersAmong: (_, userIds) => areSlight(userIds),
  overviews: ({ conversations }) => conversations.length <= slightNamesMax,
};

export interface SmallReadsOptions {
  path: string;
  now?: () => number;
  /** So long (ms) is read in one turn of the loop: where many ask at once, the worker has the rest but what is slight, while the loop goes on. */
  turnMsMax?: number;
}

export class SmallReads {
  readonly #connection: LoopConnection<ReturnType<typeof openReader>>;
  /** How long was read in this turn, ms; null: nothing yet. */
  #turnMs: number | null = null;
  /** Reads in one transaction: its locks are half of what a statement costs. */
  #reading: ReturnType<typeof openReader> | null = null;

  constructor(private readonly options: SmallReadsOptions) {
    this.#connection = new LoopConnection({ ...options, open: openReader });
  }

  start(): void {
    this.#connection.start();
  }

  stop(): void {
    this.#reading = null;
    this.#connection.stop();
  }

  /** There is trouble with the file. */
  rest(): void {
    this.#reading = null;
    this.#connection.rest();
  }

  /** Something was written: what is read from now on has it. So does what is read in the next turn. */
  refresh(): void {
    const reading = this.#reading;
    if (reading === null) return;
    this.#reading = null;
    try {
      reading.end.run();
    } catch {
      // The next question opens the file anew, or has the worker say what is wrong.
      this.rest();
    }
  }

  /**
   * Answers by what is there at this moment, acknowledged writes among it.
   * @returns undefined where the worker is to be asked: it is too much, or something is wrong, which the worker is to say
   */
  answer<Name extends keyof Operations>(
    operation: Name,
    values: Parameters<Operations[Name]>,
  ): { value: Answer<Name> } | undefined {
    const { turnMsMax = turnMsDefault } = this.options;
    const isOver = this.#turnMs !== null && this.#turnMs >= turnMsMax;
    if (isOver && !isSlight(operation, values)) return undefined;
    const startedAt = performance.now();
    try {
      const reader = this.#connection.get();
      const read = reader?.operations[operation] as
        | ((...values: Parameters<Operations[Name]>) => Answer<Name> | undefined)
        | undefined;
      if (read === undefined) return undefined;
      this.#begin(reader!);
      const value = read(...values);
      return value === undefined ? undefined : { value };
    } catch (error) {
      if (failureOf(error) !== "fault") this.rest();
      return undefined;
    } finally {
      this.#noteTurn(performance.now() - startedAt);
    }
  }

  #begin(reader: ReturnType<typeof openReader>): void {
    if (this.#reading === reader) return;
    reader.begin.run();
    reader.overviews.begin();
    this.#reading = reader;
  }

  #noteTurn(ms: number): void {
    if (this.#turnMs === null) {
      setImmediate(() => {
        this.#turnMs = null;
        this.refresh();
      });
    }
    this.#turnMs = (this.#turnMs ?? 0) + ms;
  }
}

function isSlight<Name extends keyof Operations>(operation: Name, values: Parameters<Operations[Name]>): boolean {
  const judge = slight[operation] as ((...values: Parameters<Operations[Name]>) => boolean) | undefined;
  return judge?.(...values) ?? false;
}

function openReader(path: string) {
  const database = new PreparedDatabase(path, { readonly: true, strict: true });
  // Not waited for: a lock that keeps a reader out is gone by the time that the worker has answered.
  database.exec("PRAGMA busy_timeout = 0");
  database.exec("PRAGMA cache_size = -4096");
  const receipts = new ReceiptTable(database);
  const overviews = new OverviewTables(database, receipts, { onlyReads: true });
  return {
    database,
    overviews,
    operations: createSmall(database, { receipts, overviews }),
    ...prepareTransaction(database),
  };
}

function prepareTransaction(database: Database) {
  return { begin: database.prepare<null, []>("BEGIN"), end: database.prepare<null, []>("COMMIT") };
}

function createSmall(
  database: Database,
  { receipts, overviews }: { receipts: ReceiptTable; overviews: OverviewTables },
): Small {
  const log = new EventLogTables(database);
  const cursors = new CursorTable(database);
  const statuses = new StatusTable(database);
  const directory = new DirectoryTables(database);
  const sizes = prepareSizes(database);
  const most = Number.MAX_SAFE_INTEGER;
  const areFew = (names: string[]) => names.length <= namesMax;
  const page = <Page extends EventPage>(sizes: { bytes: number }[], read: () => Page) =>
    sizes.reduce((sum, { bytes }) => sum + bytes, 0) <= bytesMax ? read() : undefined;
  return {
    heads: (topics) => (areFew(topics) ? log.heads(topics) : undefined),
    watermark: () => log.watermark(),
    // Once a second, and four times: mostly nothing, for which the worker would be woken.
    movedSince(position, limit) {
      return log.watermark() - position <= eventsMax ? log.movedSince(position, limit) : undefined;
    },
    directoryChanges(after) {
      const page = directory.changes(after);
      return page.changes.length <= namesMax ? page : undefined;
    },
    replay: (query) => (areFew(query.topics) ? log.replay(query, { events: eventsMax, bytes: bytesMax }) : undefined),
    range(query) {
      const { topic, afterSeq, throughSeq } = query;
      if (throughSeq - afterSeq > eventsMax) return undefined;
      return page(sizes.above.all(topic, afterSeq, throughSeq, eventsMax), () => log.range(query));
    },
    page(query) {
      const { topic, afterSeq, beforeSeq = most, limit } = query;
      if (limit > eventsMax) return undefined;
      const { above, below } = sizes;
      const found =
        afterSeq === undefined ? below.all(topic, beforeSeq, limit) : above.all(topic, afterSeq, most, limit);
      return page(found, () => log.page(query));
    },
    receiptStates: (userId, conversationIds) =>
      conversationIds.length <= conversationsMax ? receipts.states(userId, conversationIds, behindMax) : undefined,
    overviews: (query) => (query.conversations.length <= overviewsMax ? overviews.read(query, behindMax) : undefined),
    acknowledged: (userId, deviceId) => cursors.acknowledged(userId, deviceId),
    getStatuses: (userIds) => (areFew(userIds) ? statuses.get(userIds) : undefined),
    userState: (userId, now) => directory.userState(userId, now),
    membershipsAmong: (userId, ids) => (areFew(ids) ? directory.membershipsAmong(userId, ids) : undefined),
    memberCounts: (ids, most) => (ids.length <= conversationsMax ? directory.memberCounts(ids, most) : undefined),
    membersAmong: (conversationId, ids) => (areFew(ids) ? directory.membersAmong(conversationId, ids) : undefined),
  };
}

/** Of the events of a page; their payloads are not read for it. */
function prepareSizes(database: Database) {
  const sizes = (condition: string, order: string) => `SELECT ${payloadBytes} AS bytes
    FROM events AS e INDEXED BY events_by_seq ${shown}
    WHERE topic_id = (SELECT topic_id FROM topics WHERE name = ?) AND ${condition} ORDER BY seq ${order} LIMIT ?`;
  return {
    above: database.prepare<{ bytes: number }, [string, number, number, number]>(sizes("seq > ? AND seq <= ?", "ASC")),
    below: database.prepare<{ bytes: number }, [string, number, number]>(sizes("seq < ?", "DESC")),
  };
}
