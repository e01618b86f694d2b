/** Holds room on the disk by a file, and gives it up where there is no other, so that retention can go on: removing is writing, too. */
import type { Database } from "bun:sqlite";
import { appendFileSync, closeSync, openSync, realpathSync, rmSync, statfsSync, statSync, truncateSync } from "node:fs";
import { createPrivately } from "./files.ts";

/** As much of the disk's room at most, and no more than a quarter of what is free. */
const bytesMax = 12 * 1024 * 1024;
const partBytes = 64 * 1024;
const walPagesUsual = 1_000;
const walPagesMin = 16;
/** How much a write takes in the log of writes, which names each page, of its own size. */
const walShare = 1.1;

/** Matches what the engine says where a disk, a quota or a limit leaves no room. */
const fullCodes = /^SQLITE_(FULL|IOERR_WRITE|IOERR_SHMSIZE)/;

export function saysFull(error: unknown): boolean {
  return fullCodes.test(String((error as { code?: unknown } | null)?.code));
}

/** There is some room left, and it is not for new rows. */
export class RoomKept extends Error {
  readonly code = "SQLITE_FULL";

  constructor() {
    super("database or disk is full, and the room that is left is kept for removing what is old");
  }
}

/** Beside the file itself, whatever it is called by. */
const reserveOf = (path: string) => `${realpathSync(path)}-reserve`;

/** Gives up what is held of a file that is not open. */
export function releaseReserve(path: string): void {
  rmSync(reserveOf(path), { force: true });
}

export class Reserve {
  readonly #database: Database;
  readonly #path: string;
  readonly #walPath: string;
  readonly #pageBytes: number;
  /** How much is to be held, bytes. */
  readonly #bytes: number;
  #held: number;
  /** The largest write that found no room since one has; what is removed has to make room for it. */
  #refused = 0;
  /** How much of the reserve the log of writes is left, to grow by. */
  #lent = 0;
  #isHeld = false;

  /** Looks how much room there is; it is taken by `hold`, or by the first rows. @param path of the database itself */
  constructor(database: Database, path: string) {
    this.#database = database;
    this.#path = reserveOf(path);
    this.#walPath = `${realpathSync(path)}-wal`;
    this.#pageBytes = this.#number("PRAGMA page_size");
    this.#held = statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
    const { bavail, bsize } = statfsSync(path);
    this.#bytes = wholeParts(Math.min(bytesMax, Math.max(this.#held, (this.#held + bavail * bsize) / 4)));
    // A log of writes that a third of the reserve has room for: moving it into the file may take twice as much by the time
    // the disk is full, and removing rows needs some as well.
    const pages = Math.min(walPagesUsual, Math.max(walPagesMin, Math.floor(this.#bytes / 3 / this.#pageBytes)));
    database.exec(`PRAGMA wal_autocheckpoint = ${pages}`);
    try {
      createPrivately(this.#path);
    } catch {
      // There is no room for a name, even: it is tried again when there is something to hold.
    }
  }

  /**
   * Takes the room, and watches over it from now on. A start does not wait for it, of which it took a tenth: the disk was seen to have four
   * times as much. Where others fill that first, it is as if the service had started on a full one.
   */
  hold(): void {
    this.#isHeld = true;
    this.#fill();
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** Takes what the disk has, up to the whole of it. */
  #fill(): void {
    if (!this.#isHeld) return;
    const bytes = this.#bytes - this.#lent;
    if (this.#held >= bytes) return;
    // Not zeros, which some file systems keep in no room at all.
    const part = crypto.getRandomValues(Buffer.allocUnsafe(partBytes));
    try {
      createPrivately(this.#path);
      const file = openSync(this.#path, "a");
      try {
        for (; this.#held < bytes; this.#held += partBytes) appendFileSync(file, part);
      } finally {
        closeSync(file);
      }
    } catch {
      // Only whole parts count, and the rest is better left free.
      cut(this.#path, this.#held);
    }
  }

  /** @throws RoomKept where new rows would take what retention could not do without */
  refuseWhereScarce(): void {
    // Somebody else may have made room.
    this.hold();
    if (this.#held >= this.#bytes) return;
    const free = this.#number("PRAGMA freelist_count") * this.#pageBytes;
    if (this.#held + free < (this.#bytes * 2) / 3) throw new RoomKept();
  }

  /** Runs what adds rows. @param bytes about how much it writes */
  add<Result>(work: () => Result, bytes: () => number): Result {
    this.refuseWhereScarce();
    try {
      const result = work();
      this.#refused = this.#lent = 0;
      return result;
    } catch (error) {
      if (saysFull(error)) this.#refused = Math.max(this.#refused, bytes());
      throw error;
    }
  }

  /** Runs what makes room, with the reserve where there is no other; it is filled again with whatever comes of it. */
  spend<Result>(work: () => Result): Result {
    this.#fill();
    try {
      // Not for adding rows, which may need more room than this does.
      if (this.#refused === 0) return work();
    } catch (error) {
      if (!saysFull(error)) throw error;
    }
    this.#held = 0;
    rmSync(this.#path, { force: true });
    try {
      // Puts into the file what was written last; it is written over by what comes now.
      this.#database.exec("PRAGMA wal_checkpoint(RESTART)");
      return work();
    } finally {
      const wal = statSync(this.#walPath, { throwIfNoEntry: false })?.size ?? 0;
      const wanted = this.#refused === 0 ? 0 : this.#refused * walShare + 4 * partBytes;
      this.#lent = wholeParts(Math.min(this.#bytes, Math.max(0, wanted - wal)));
      this.hold();
    }
  }

  #number(sql: string): number {
    return Object.values(this.#database.query<Record<string, number>, []>(sql).get()!)[0]!;
  }
}

function wholeParts(bytes: number): number {
  return Math.floor(bytes / partBytes) * partBytes;
}

function cut(path: string, bytes: number): void {
  try {
    truncateSync(path, bytes);
  } catch {
    // It is not there.
  }
}
