/** Opens the SQLite file and lists what can be asked of it; runs in the worker only. */
import { type Database, SQLiteError } from "bun:sqlite";
import { statSync } from "node:fs";
import type { CursorParts } from "../epochs.ts";
import type { ErasedRows, ErasureJob } from "../erasure-store.ts";
import type { OverviewQuery } from "../overview-store.ts";
import type {
  Acknowledgement,
  DeviceOfUser,
  Migration,
  NewEvent,
  Once,
  ReceiptMark,
  RetentionPolicy,
  Telling,
  UserStatus,
} from "../ports.ts";
import type { PresentUser } from "../present-store.ts";
import type { PushLease, UserOnTopic } from "../push-store.ts";
import { ConversationTable, type ExpiryQuery } from "./conversations.ts";
import { CursorTable, StatusTable } from "./cursors-statuses.ts";
import { DirectoryTables, type PeersPosition } from "./directory.ts";
import { EpochTable } from "./epochs.ts";
import {
  type ErasureLease,
  type ErasureRequest,
  ErasureTables,
  type EventPlace,
  type NamingQuery,
} from "./erasures.ts";
import {
  EventLogTables,
  type FeedQuery,
  type MovedAmongQuery,
  type PageOfQuery,
  type PageQuery,
  type RangeQuery,
  type ReplayQuery,
} from "./event-log.ts";
import { prepareFiles } from "./files.ts";
import { OverviewTables } from "./overviews.ts";
import { PreparedDatabase } from "./prepared-database.ts";
import { PushTable } from "./push.ts";
import { ReceiptTable, type UnsentQuery } from "./receipts.ts";
import { Reserve, RoomKept, releaseReserve, saysFull } from "./reserve.ts";
import { migrate, missingTriggers, refuseForeign } from "./schema.ts";
import { DeletedTraces } from "./traces.ts";

/** Says what an acknowledged write survives: the death of the process, or that of the machine too (each commit is synced). */
export type Durability = "process" | "power";

export interface EngineOptions {
  /** A file, or `:memory:`. */
  path: string;
  durability: Durability;
  /** How long a write waits for another process that holds the file's lock. */
  busyTimeoutMs: number;
  /** Whether room on the disk is kept for retention: by the one that the file belongs to. */
  holdsReserve?: boolean;
}

export interface Engine {
  operations: Operations;
  /** From which version to which opening it has brought the schema. */
  migration: Migration;
  /** Does what a start does not wait for; to be called soon after it. */
  settle(): void;
  close(): void;
}

/** @throws whatever keeps the file from being opened: folder, lock, foreign contents, newer schema */
export function openEngine(options: EngineOptions): Engine {
  const { path } = options;
  if (path !== ":memory:") prepareFiles(path);
  try {
    return open(options);
  } catch (error) {
    if (!saysFull(error) || !options.holdsReserve) throw error;
    // Even to look into a file takes a little room. What is given up here is filled again before new rows are taken.
    releaseReserve(path);
    return open(options);
  }
}

const isEmpty = (path: string) => path !== ":memory:" && statSync(path).size === 0;

function open({ path, durability, busyTimeoutMs, holdsReserve }: EngineOptions): Engine {
  const database = new PreparedDatabase(path, { create: true, readwrite: true, strict: true });
  try {
    database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
    refuseForeign(database);
    // The disk is not waited for while there is nothing to lose; what is made of an empty file reaches it when all of it is there.
    const isUnsynced = durability === "process" && isEmpty(path);
    if (isUnsynced) database.exec("PRAGMA synchronous = OFF");
    database.exec("PRAGMA journal_mode = WAL");
    if (!isUnsynced) database.exec(`PRAGMA synchronous = ${durability === "power" ? "FULL" : "NORMAL"}`);
    database.exec("PRAGMA cache_size = -16384");
    // Overwrites what is removed where a page is written anyway; more where it was taken back [MSG2].
    database.exec("PRAGMA secure_delete = FAST");
    // A WAL that grew under a long reader is cut back instead of keeping the disk.
    database.exec("PRAGMA journal_size_limit = 67108864");
    const migration = migrate(database);
    if (isUnsynced) database.exec("PRAGMA synchronous = NORMAL");
    const traces = new DeletedTraces(database, { path, busyTimeoutMs });
    const reserve = holdsReserve && path !== ":memory:" ? new Reserve(database, path) : null;
    return {
      migration,
      operations: {
        ...createOperations(database, reserve),
        uncleaned: () => traces.owed(),
        clean: (from: number) => traces.clean(from),
        cleaned: (deletions: number) => traces.done(deletions),
      },
      settle() {
        reserve?.hold();
        if (isUnsynced) database.exec("PRAGMA wal_checkpoint(PASSIVE)");
      },
      close() {
        database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
        database.close();
        traces.close();
      },
    };
  } catch (error) {
    database.close();
    throw error;
  }
}

// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a table, a line or a statement for each name.
function createOperations(database: Database, reserve: Reserve | null) {
  const log = new EventLogTables(database);
  const receipts = new ReceiptTable(database);
  const overviews = new OverviewTables(database, receipts, { onlyReads: false });
  const cursors = new CursorTable(database);
  const statuses = new StatusTable(database);
  const push = new PushTable(database);
  const directory = new DirectoryTables(database);
  const epochs = new EpochTable(database);
  const conversations = new ConversationTable(database);
  const erasures = new ErasureTables(database);
  const prove = createWriteProof(database);
  const logPages = logPagesOf(database);
  return {
    epochs: () => epochs.list(),
    beginEpoch: (now: number) => (reserve === null ? epochs.begin(now) : reserve.spend(() => epochs.begin(now))),
    installation: () => installationOf(database),
    logPages: () => logPages,
    moveLog() {
      reserve?.refuseWhereScarce();
      return moveLog(database, logPages);
    },
    missingTriggers: () => missingTriggers(database),
    append(events: NewEvent[]) {
      const append = () => log.append(events);
      return reserve === null ? append() : reserve.add(append, () => sizeOf(events));
    },
    find: (once: Once) => log.find(once),
    replay: (query: ReplayQuery) => log.replay(query),
    range: (query: RangeQuery) => log.range(query),
    page: (query: PageQuery) => log.page(query),
    pageOf: (query: PageOfQuery) => log.pageOf(query),
    feed: (query: FeedQuery) => log.feed(query),
    heads: (topics: string[]) => log.heads(topics),
    movedSince: (position: number, limit: number) => log.movedSince(position, limit),
    movedAmong: (query: MovedAmongQuery) => log.movedAmong(query),
    watermark: () => log.watermark(),
    proveWrites(bytes: number) {
      // The smallest proof finds the room that was seen as the file was opened.
      if (reserve === null || (bytes === 0 && !reserve.isHeld)) prove(bytes);
      else
        reserve.add(
          () => prove(bytes),
          () => bytes,
        );
    },
    trim: (policy: RetentionPolicy, now: number) =>
      reserve === null ? log.trim(policy, now) : reserve.spend(() => log.trim(policy, now)),
    setRetention: (conversationId: string, retentionMs: number | null) =>
      conversations.setRetention(conversationId, retentionMs),
    expire: (query: ExpiryQuery) =>
      reserve === null ? conversations.expire(query) : reserve.spend(() => conversations.expire(query)),
    requestErasure: (request: ErasureRequest) => erasures.request(request),
    findErasure: (userId: string) => erasures.find(userId),
    runningErasures: () => erasures.running(),
    claimErasure: (lease: ErasureLease) => erasures.claim(lease),
    releaseErasures: () => erasures.release(),
    keepErasure: (job: ErasureJob, dueAt: number) => erasures.keep(job, dueAt),
    finishErasure: (job: ErasureJob, now: number) => erasures.finish(job, now),
    forgetErasures: (finishedBefore: number, limit: number) => erasures.forget(finishedBefore, limit),
    removeRows: (rows: ErasedRows, userId: string, after: string) => erasures.removeRows(rows, userId, after),
    naming: (query: NamingQuery) => erasures.naming(query),
    reactionsOf: (userId: string) => erasures.reactionsOf(userId),
    forgetEvents: (events: EventPlace[]) => erasures.forgetEvents(events),
    rewrite: (event: EventPlace, payload: string) => erasures.rewrite(event, payload),
    stats: () => log.stats(),
    advance: (marks: ReceiptMark[], now: number) => receipts.advance(marks, now),
    unsent: (query: UnsentQuery, messageIdsMax: number) => receipts.unsent(query, messageIdsMax),
    passOver: (tellings: Telling[]) => receipts.passOver(tellings),
    receiptStates: (userId: string, conversationIds: string[]) => receipts.states(userId, conversationIds),
    overviews: (query: OverviewQuery) => overviews.read(query),
    acknowledge: (all: Acknowledgement[], now: number) => cursors.acknowledge(all, now),
    seen: (devices: DeviceOfUser[], times: { now: number; notedBefore: number }) => cursors.seen(devices, times),
    forget: (seenBefore: number, limit: number) => cursors.forget(seenBefore, limit),
    acknowledged: (userId: string, deviceId: string) => cursors.acknowledged(userId, deviceId),
    setStatus: (userId: string, status: UserStatus | null) => statuses.set(userId, status),
    getStatuses: (userIds: string[]) => statuses.get(userIds),
    setLastSeen: (userIds: string[], at: number) => statuses.setLastSeen(userIds, at),
    clearExpired: (now: number, limit: number) => statuses.clearExpired(now, limit),
    keepPresent: (present: PresentUser[]) => statuses.keepPresent(present),
    takePresent: (limit: number) => statuses.takePresent(limit),
    beginPush: (place: CursorParts) => push.begin(place),
    hasPushBegun: () => push.hasBegun(),
    forgetPush: () => push.forget(),
    takePush: (lease: PushLease, now: number) => push.take(lease, now),
    movePush: (holder: string, place: CursorParts) => push.move(holder, place),
    releasePush: (holder: string) => push.release(holder),
    pushLag: () => push.lag(),
    standing: (positions: number[]) => push.standing(positions),
    receivedThrough: (users: UserOnTopic[]) => push.receivedThrough(users),
    acknowledgedBy: (userIds: string[]) => push.acknowledgedBy(userIds),
    userState: (userId: string, now: number) => directory.userState(userId, now),
    standingOf: (userId: string, now: number) => directory.standingOf(userId, now),
    block: (userId: string, until: number, now: number) => directory.block(userId, until, now),
    recheck: (userId: string) => directory.recheck(userId),
    membershipsAmong: (userId: string, conversationIds: string[]) =>
      directory.membershipsAmong(userId, conversationIds),
    membersAmong: (conversationId: string, userIds: string[]) => directory.membersAmong(conversationId, userIds),
    membersPage: (conversationId: string, after: string, limit: number) =>
      directory.membersPage(conversationId, after, limit),
    membersOf: (conversationId: string, limit: number) => directory.membersOf(conversationId, limit),
    membersOfEach: (conversationIds: string[], limit: number) => directory.membersOfEach(conversationIds, limit),
    memberCounts: (conversationIds: string[], most: number) => directory.memberCounts(conversationIds, most),
    conversationsOf: (userId: string) => directory.conversationsOf(userId),
    peersAfter: (userId: string, from: PeersPosition) => directory.peersAfter(userId, from),
    sharingWith: (userId: string, userIds: string[]) => directory.sharingWith(userId, userIds),
    upsertUsers: (userIds: string[]) => directory.upsertUsers(userIds),
    setDisabled: (userId: string, disabled: boolean) => directory.setDisabled(userId, disabled),
    addMembers: (conversationId: string, userIds: string[]) => directory.addMembers(conversationId, userIds),
    addMemberships: (userId: string, conversationIds: string[]) => directory.addMemberships(userId, conversationIds),
    removeMembers: (conversationId: string, userIds: string[]) => directory.removeMembers(conversationId, userIds),
    setMayWrite: (conversationId: string, userId: string, mayWrite: boolean) =>
      directory.setMayWrite(conversationId, userId, mayWrite),
    directoryChanges: (after: number | null) => directory.changes(after),
  };
}

function sizeOf(events: NewEvent[]): number {
  return events.reduce((sum, { payload }) => sum + Buffer.byteLength(payload), 0);
}

/**
 * Writes a number, and as many bytes as asked for besides, which it removes again. These go into the file itself: a log of writes
 * that begins anew has room where the file has none, and what was proven there is free for what comes next.
 */
function createWriteProof(database: Database): (bytes: number) => void {
  const note = database.prepare<null, []>("UPDATE write_proof SET proofs = proofs + 1");
  const fill = database.prepare<null, [number]>("UPDATE write_proof SET payload = randomblob(?)");
  const settle = () => database.exec("PRAGMA wal_checkpoint(PASSIVE)");
  return (bytes) => {
    note.run();
    if (bytes === 0) return;
    fill.run(bytes);
    // Empties it by a write of its own: pages that come and go in one are never written.
    try {
      settle();
    } finally {
      fill.run(0);
    }
    settle();
  };
}

function installationOf(database: Database): string {
  const row = database.query<{ installation_id: string }, []>("SELECT installation_id FROM installation").get();
  return row!.installation_id;
}

/**
 * Moves the log of writes into the file, and waits for nobody who reads or writes. Where it does not begin anew, what is in the file does not
 * count towards when the engine moves it by itself.
 */
function moveLog(database: Database, pagesUsual: number): LogOfWrites {
  const checkpoint = (mode: string) =>
    database.query<{ log: number; checkpointed: number }, []>(`PRAGMA wal_checkpoint(${mode})`).get()!;
  checkpoint("PASSIVE");
  // Looked at once more: it says only what was there as it began.
  const { log, checkpointed } = checkpoint("NOOP");
  const left = log - checkpointed;
  database.exec(`PRAGMA wal_autocheckpoint = ${left === 0 ? pagesUsual : log + pagesUsual}`);
  return { pages: log, left };
}

/** @returns pages of the log of writes with which it is moved into the file */
function logPagesOf(database: Database): number {
  return database.query<{ wal_autocheckpoint: number }, []>("PRAGMA wal_autocheckpoint").get()!.wal_autocheckpoint;
}

/** The log of writes, in pages: what it has, and what of that is not in the file yet. */
export interface LogOfWrites {
  pages: number;
  left: number;
}

/** Everything that the main thread may ask of the worker. */
export type Operations = ReturnType<typeof createOperations> & {
  uncleaned(): number | null;
  clean(from: number): number | null;
  cleaned(deletions: number): void;
};

// Faults of ours, not of the engine: coming back later would meet them again.
const faultCodes = /^SQLITE_(CONSTRAINT|ERROR|MISUSE|RANGE|MISMATCH|TOOBIG)/;
// The file works as it is, and only this moment is bad; or it is damaged, and opening it anew does not mend it.
const passingCodes = /^SQLITE_(BUSY|LOCKED|FULL|NOMEM|INTERRUPT|IOERR_WRITE|IOERR_SHMSIZE|CORRUPT)/;

/** Says what an error of an operation means: ours, one that passes, or a file that must be opened anew. */
export function failureOf(error: unknown): "fault" | "passing" | "broken" {
  if (error instanceof RoomKept) return "passing";
  const code = error instanceof SQLiteError ? (error.code ?? "SQLITE_IOERR") : null;
  if (code === null || faultCodes.test(code)) return "fault";
  return passingCodes.test(code) ? "passing" : "broken";
}
