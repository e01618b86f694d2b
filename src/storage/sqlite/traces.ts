/** Removes what is left of deleted texts beside the rows of the file: in the log of writes, and in the unused part of pages [MSG2]; runs in the worker only. */
import { type Database, SQLiteError } from "bun:sqlite";
import { closeSync, openSync, readSync, realpathSync, statSync, writeSync } from "node:fs";

/** Looked at by one call: others come in between. Each moves the log of writes into the file first, which a disk takes its time for. */
const sliceBytes = 4 * 1024 * 1024;
/** In larger files a page of another kind could look like one of rows, by the number that it begins with. */
const fileBytesMax = 512 * 1024 ** 3;
/** A page of rows of a table, in the format of the file. */
const rowsPage = 0x0d;
const headerBytes = 8;
/** Where the file's header has the first page of the list of free ones. */
const freeListAt = 32;

function prepare(database: Database) {
  return {
    owed: database.prepare<{ deletions: number; isOwed: 0 | 1 }, []>(
      "SELECT deletions, deletions > cleaned AS isOwed FROM log_state",
    ),
    done: database.prepare<null, [number]>("UPDATE log_state SET cleaned = max(cleaned, ?)"),
  };
}

/**
 * The engine overwrites what is taken back (`secure_delete`), but where it has moved rows between pages it has left copies, in the room
 * between a page's list of rows and the rows themselves, and in pages that became free. Nothing reads these; they are filled with zeros
 * here, in the file itself.
 */
export class DeletedTraces {
  readonly #sql: ReturnType<typeof prepare>;
  /** Stays open: closing any descriptor of the file would give up the locks that this process has on it. */
  #descriptor: number | null = null;

  constructor(
    private readonly database: Database,
    private readonly options: { path: string; busyTimeoutMs: number },
  ) {
    this.#sql = prepare(database);
  }

  /** @returns how much was deleted by now, where the file was not cleaned since; null: nothing is owed */
  owed(): number | null {
    const { deletions, isOwed } = this.#sql.owed.get()!;
    return isOwed === 1 ? deletions : null;
  }

  /** The whole file was cleaned since so much was deleted. */
  done(deletions: number): void {
    this.#sql.done.run(deletions);
  }

  /**
   * Cleans a part of the file, from that byte on.
   * @returns where to go on; the same place where somebody reads or writes and it is to be tried again; null: that was the end
   */
  clean(from: number): number | null {
    if (this.options.path === ":memory:") return null;
    if (!this.#beginAlone()) return from;
    let changed = 0;
    try {
      if (this.#walBytes() > 0) return from;
      // With the log of writes empty and nobody else writing the file is all that there is, and nobody changes it.
      const part = this.#cleanPart(from);
      changed = part.changed;
      // Has other processes read anew what they may know of these pages.
      if (changed > 0) this.database.exec("UPDATE write_proof SET proofs = proofs + 1");
      return part.next;
    } finally {
      this.database.exec("COMMIT");
      // Has this connection do the same, or it would write them as it knows them.
      if (changed > 0) this.database.exec("PRAGMA shrink_memory");
    }
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }

  /** Empties the log of writes and keeps others from writing. @returns false where somebody reads or writes, who is not waited for */
  #beginAlone(): boolean {
    this.database.exec("PRAGMA busy_timeout = 0");
    try {
      const { busy } = this.database.query<{ busy: number }, []>("PRAGMA wal_checkpoint(TRUNCATE)").get()!;
      if (busy === 0) this.database.exec("BEGIN IMMEDIATE");
      return busy === 0;
    } catch (error) {
      if (error instanceof SQLiteError && error.code?.startsWith("SQLITE_BUSY")) return false;
      throw error;
    } finally {
      this.database.exec(`PRAGMA busy_timeout = ${this.options.busyTimeoutMs}`);
    }
  }

  #walBytes(): number {
    return statSync(`${realpathSync(this.options.path)}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  }

  #cleanPart(from: number): { next: number | null; changed: number } {
    const { size } = statSync(this.options.path);
    if (from >= size || size > fileBytesMax) return { next: null, changed: 0 };
    const { page_size: pageBytes } = this.database.query<{ page_size: number }, []>("PRAGMA page_size").get()!;
    const part = this.#read(from, Math.min(sliceBytes, size - from));
    const first = from / pageBytes + 1;
    const free = this.#freePages(pageBytes, { first, last: first + part.length / pageBytes });
    let changed = 0;
    // The first page has the file's own header, and no rows of ours.
    for (let at = from === 0 ? pageBytes : 0; at + pageBytes <= part.length; at += pageBytes) {
      const page = part.subarray(at, at + pageBytes);
      const used = free.get(first + at / pageBytes);
      const room = used === undefined ? unusedOf(page) : { begin: used, end: pageBytes };
      if (room === null) continue;
      const zeros = Buffer.alloc(room.end - room.begin);
      if (zeros.equals(page.subarray(room.begin, room.end))) continue;
      writeSync(this.#descriptor!, zeros, 0, zeros.length, from + at + room.begin);
      changed++;
    }
    const next = from + part.length;
    return { next: next < size ? next : null, changed };
  }

  /** The free ones among some pages, numbered from 1, each with how much of it lists others. There may be millions in the file. */
  #freePages(pageBytes: number, { first, last }: { first: number; last: number }): Map<number, number> {
    const free = new Map<number, number>();
    const note = (page: number, used: number) => {
      if (page >= first && page <= last) free.set(page, used);
    };
    const lists = new Set<number>();
    let list = this.#read(0, pageBytes).readUInt32BE(freeListAt);
    while (list !== 0 && !lists.has(list)) {
      lists.add(list);
      const page = this.#read((list - 1) * pageBytes, pageBytes);
      const listed = page.readUInt32BE(4);
      note(list, 8 + 4 * listed);
      for (let at = 8; at < 8 + 4 * listed; at += 4) note(page.readUInt32BE(at), 0);
      list = page.readUInt32BE(0);
    }
    return free;
  }

  #read(from: number, bytes: number): Buffer {
    this.#descriptor ??= openSync(this.options.path, "r+");
    const part = Buffer.allocUnsafe(bytes);
    return part.subarray(0, readSync(this.#descriptor, part, 0, bytes, from));
  }
}

/** Where a page of rows is unused, between the list of its rows and the first of them; null: it is no such page. */
function unusedOf(page: Buffer): { begin: number; end: number } | null {
  if (page[0] !== rowsPage) return null;
  const begin = headerBytes + 2 * page.readUInt16BE(3);
  // 0 stands for 65536.
  const end = page.readUInt16BE(5) || 65_536;
  return begin <= end && end <= page.length ? { begin, end } : null;
}
