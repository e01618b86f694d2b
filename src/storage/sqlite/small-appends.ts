/** Appends what is small in the loop's own thread, on a connection of its own: the way to the worker and back costs more than the transaction. */
import type { AppendResult, NewEvent } from "../ports.ts";
import { failureOf, type LogOfWrites } from "./engine.ts";
import { EventLogTables } from "./event-log.ts";
import { LoopConnection } from "./loop-connection.ts";
import { PreparedDatabase } from "./prepared-database.ts";

/** Events of a batch, and characters of their payloads: the loop stands still meanwhile, for a little of what it takes to publish them. */
const eventsMax = 64;
const charactersMax = 64 * 1024;
/** Where the disk takes longer than this (ms) for so little, the loop leaves it alone for a while. */
const patienceMs = 10;
/**
 * Once so much of what may be left to move is, the log of writes is moved into the file, by the worker, for that waits for the disk; the
 * loop goes on meanwhile.
 */
const movedFrom = 3 / 4;
/**
 * The log of writes begins anew only where nothing was written meanwhile. Where something always is, it grows up to so many times what may
 * be left to move; then the worker has its turn, with nothing else beside it. It also says when the file is damaged, or the room on
 * the disk is kept for retention.
 */
const logsMax = 4;
/** Of tables and indexes that grow at their ends, once for all; where the events of a topic go; and where each goes by its key. */
const pagesPerBatch = 4;
const pagesPerTopic = 2;
const pagesPerEvent = 1;
const pageCharacters = 4_096;

export interface SmallAppendsOptions {
  path: string;
  now?: (() => number) | undefined;
  /** Whether a commit is not waited for: a sync is nothing for the loop. */
  isAllowed: boolean;
  /** Told where something was appended here, before that is said. */
  onAppended?: () => void;
  appendByWorker(events: NewEvent[]): Promise<AppendResult>;
  /** Moves the log of writes into the file, before what the worker is given next. */
  moveByWorker(): Promise<LogOfWrites>;
}

export class SmallAppends {
  readonly #connection: LoopConnection<ReturnType<typeof openWriter>>;
  /** So much of the log of writes may be left to move. */
  #leftMax = 0;
  /** Left to move, as far as it was written here. */
  #left = 0;
  #isWorkersTurn = true;
  #isMoving = false;
  #atWorker = 0;
  #wasSlow = false;

  constructor(private readonly options: SmallAppendsOptions) {
    this.#connection = new LoopConnection({ ...options, open: openWriter });
  }

  /** @param logPages what the worker lets the log of writes grow to before it moves that into the file */
  start(logPages: number): void {
    this.#leftMax = this.options.isAllowed ? logPages : 0;
    this.#connection.start();
  }

  stop(): void {
    this.#connection.stop();
  }

  /** There is trouble with the file: everything is the worker's until it has appended again. */
  rest(): void {
    this.#isWorkersTurn = true;
    this.#connection.rest();
  }

  /** Appends here, or in the worker's turn; in the order of the calls. */
  async append(events: NewEvent[]): Promise<AppendResult> {
    const here = this.#appendHere(events);
    if (here !== undefined) {
      if (this.#isToMove && !this.#isMoving) void this.#moveMeanwhile();
      return here;
    }
    // Where it does not answer it may still append that later: until it has answered again nothing goes ahead.
    this.#isWorkersTurn = true;
    this.#atWorker++;
    if (this.#isToMove) {
      this.#left = 0;
      void this.options.moveByWorker().catch(() => {});
    }
    try {
      const result = await this.options.appendByWorker(events);
      this.#isWorkersTurn = false;
      return result;
    } finally {
      this.#atWorker--;
    }
  }

  get #isToMove(): boolean {
    return this.#leftMax > 0 && this.#left >= this.#leftMax * movedFrom;
  }

  async #moveMeanwhile(): Promise<void> {
    this.#isMoving = true;
    const log = await this.options.moveByWorker().catch(() => null);
    this.#isMoving = false;
    if (log === null || (log.left > 0 && log.pages > this.#leftMax * logsMax)) this.#isWorkersTurn = true;
    else this.#left = log.left;
  }

  /** @returns undefined where the worker is to append: it is too much, it is its turn, or something is in the way, which it is to say */
  #appendHere(events: NewEvent[]): AppendResult | undefined {
    if (this.#isWorkersTurn || this.#atWorker > 0 || !isSmall(events)) return undefined;
    const pages = pagesOf(events);
    if (this.#left + pages > this.#leftMax) return undefined;
    const { now = Date.now } = this.options;
    try {
      const log = this.#connection.get()?.log;
      const startedAt = now();
      const result = log?.append(events);
      this.#left += pages;
      this.#noteTook(now() - startedAt);
      this.options.onAppended?.();
      return result;
    } catch (error) {
      // Somebody else writes: the worker waits for them.
      if (!isBusy(error) && failureOf(error) !== "fault") this.rest();
      return undefined;
    }
  }

  /** Another program may have had this processor once: then the worker has the next. Twice is the disk. */
  #noteTook(ms: number): void {
    const isSlow = ms > patienceMs;
    if (isSlow) this.#isWorkersTurn = true;
    if (isSlow && this.#wasSlow) this.rest();
    this.#wasSlow = isSlow;
  }
}

function openWriter(path: string) {
  const database = new PreparedDatabase(path, { readwrite: true, strict: true });
  database.exec("PRAGMA busy_timeout = 0");
  database.exec("PRAGMA synchronous = NORMAL");
  database.exec("PRAGMA wal_autocheckpoint = 0");
  database.exec("PRAGMA cache_size = -4096");
  database.exec("PRAGMA secure_delete = FAST");
  return { database, log: new EventLogTables(database) };
}

/** Taking back and replacing overwrite what they free, which the worker does. */
function isSmall(events: NewEvent[]): boolean {
  return (
    events.length <= eventsMax &&
    events.every(({ amendment, compactionKey }) => amendment === undefined && compactionKey === undefined) &&
    charactersOf(events) <= charactersMax
  );
}

const charactersOf = (events: NewEvent[]) => events.reduce((sum, { payload }) => sum + payload.length, 0);
const topicsOf = (events: NewEvent[]) => new Set(events.map(({ topic }) => topic));
const pagesOf = (events: NewEvent[]) =>
  pagesPerBatch +
  topicsOf(events).size * pagesPerTopic +
  events.length * pagesPerEvent +
  Math.floor(charactersOf(events) / pageCharacters);
const isBusy = (error: unknown) => String((error as { code?: unknown } | null)?.code).startsWith("SQLITE_BUSY");
