/** Holds room on the disk by a file, and gives it up where there is no other, so that retention can go on: removing is writing, too. */
import type { Database } from "bun:sqlite";
import { appendFileSync, realpathSync, rmSync, statfsSync, statSync, truncateSync } from "node:fs";
import { createPrivately } from "./files.ts";

/** As much of the disk's room at most, and no more than a quarter of what is free. */
const bytesMax = 8 * 1024 * 1024;
const partBytes = 64 * 1024;
const walPagesUsual = 1_000;
const walPagesMin = 16;

/** What the engine says where a disk, a quota or a limit leaves no room. */
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
  readonly #pageBytes: number;
  /** What is to be held. */
  readonly #bytes: number;
  #held: number;

  /** @param path of the database itself */
  constructor(database: Database, path: string) {
    this.#database = database;
    this.#path = reserveOf(path);
    this.#pageBytes = this.#number("PRAGMA page_size");
    this.#held = statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
    const { bavail, bsize } = statfsSync(path);
    this.#bytes = wholeParts(Math.min(bytesMax, Math.max(this.#held, (this.#held + bavail * bsize) / 4)));
    // A log of writes that a third of the reserve has room for: moving it into the file may take twice as much by the time
    // the disk is full, and removing rows needs some as well.
    const pages = Math.min(walPagesUsual, Math.max(walPagesMin, Math.floor(this.#bytes / 3 / this.#pageBytes)));
    database.exec(`PRAGMA wal_autocheckpoint = ${pages}`);
    this.fill();
  }

  /** Takes what the disk has, up to the whole of it. */
  fill(): void {
    if (this.#held >= this.#bytes) return;
    // Not zeros, which some file systems keep in no room at all.
    const part = crypto.getRandomValues(Buffer.allocUnsafe(partBytes));
    try {
      createPrivately(this.#path);
      for (; this.#held < this.#bytes; this.#held += partBytes) appendFileSync(this.#path, part);
    } catch {
      // Only whole parts count, and the rest is better left free.
      cut(this.#path, this.#held);
    }
  }

  /** @throws RoomKept where new rows would take what retention could not do without */
  refuseWhereScarce(): void {
    if (this.#held >= this.#bytes) return;
    const free = this.#number("PRAGMA freelist_count") * this.#pageBytes;
    if (this.#held + free < (this.#bytes * 2) / 3) throw new RoomKept();
  }

  /** Runs what makes room, with the reserve where there is no other; it is filled again with whatever comes of it. */
  spend<Result>(work: () => Result): Result {
    this.fill();
    try {
      return work();
    } catch (error) {
      if (!saysFull(error)) throw error;
    }
    this.giveUp();
    try {
      // What was written last goes into the file, and its place is written over by what comes now.
      this.#database.exec("PRAGMA wal_checkpoint(RESTART)");
      return work();
    } finally {
      this.fill();
    }
  }

  giveUp(): void {
    this.#held = 0;
    rmSync(this.#path, { force: true });
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
