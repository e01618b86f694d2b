/** Knows the epochs of the log, and what a cursor of each of them is worth: a log that has gone back is another one from there on [LOG4]. */

/** From its beginning to that of the next one the log has only grown. */
export interface Epoch {
  /** 8 characters of `[0-9a-z]`; no other epoch of any log has it. */
  id: string;
  /** Counts them: a later one has a higher number. */
  no: number;
  /** The last position of the log as it began; of a broken one the last that nobody doubts. */
  beganAt: number;
  /** Somebody knew of events that are not there any more: whoever is connected has heard what the log does not know. */
  broken: boolean;
  /** How the engine names itself as it begins: under another name the log may have gone back. */
  line: string;
  /** Milliseconds since 1970. */
  createdAt: number;
}

export interface EpochChange {
  previous: Epoch;
  current: Epoch;
  /** One of those that have begun since is broken. */
  isBroken: boolean;
  /** Up to here what was known of the log before still is so. */
  heldThrough: number;
}

export interface LogPosition {
  position: number;
  /** Whether everything up to the position is in the log as it was when the cursor was given out. */
  holds: boolean;
}

/** Describes what is within a cursor. */
export interface CursorParts {
  /** The id of an epoch. */
  epoch: string;
  position: number;
}

/** Matches what `writeCursor` writes: a number has one form. */
const pattern = /^([0-9a-z]{8})\.(0|[1-9a-z][0-9a-z]{0,10})$/;

export class Epochs {
  /** Oldest first. */
  #list: readonly Epoch[] = [];
  /** Of each: cursors up to this position hold. */
  #holdThrough = new Map<string, number>();
  /** Ids of epochs after which the log has broken. */
  #brokenSince = new Set<string>();
  readonly #listeners = new Set<(change: EpochChange) => void>();
  /** Of each break, oldest first: the last position that is still there. */
  readonly #held: number[] = [];

  /** @throws Error before the storage has started */
  get current(): Epoch {
    const current = this.#list.at(-1);
    if (current === undefined) throw new Error("the epochs of the log are not read yet");
    return current;
  }

  /** Of the current one, and nothing before the storage has started: under another one a position may be another event's. */
  get newestId(): string | undefined {
    return this.#list.at(-1)?.id;
  }

  /** All that are known, oldest first; none before the storage has started. */
  get list(): readonly Epoch[] {
    return this.#list;
  }

  /** How often the log is known to have lost events. */
  get losses(): number {
    return this.#list.filter(({ broken }) => broken).length;
  }

  /** How often it has broken while somebody looked: what was read before another number is of a log that is gone. */
  get breaks(): number {
    return this.#held.length;
  }

  /** The last position of a log that had broken so often which is still there. */
  heldSince(breaks: number): number {
    return Math.min(Number.MAX_SAFE_INTEGER, ...this.#held.slice(breaks));
  }

  /** Writes the text that clients are given for a position of the current epoch: at most 20 characters. */
  cursorOf(position: number): string {
    return writeCursor({ epoch: this.current.id, position });
  }

  /** @returns null for what is no cursor of this log: of another one, of before what retention keeps, or not of the form */
  read(text: string): LogPosition | null {
    const parts = readCursor(text);
    const through = parts === null ? undefined : this.#holdThrough.get(parts.epoch);
    if (parts === null || through === undefined) return null;
    return { position: parts.position, holds: parts.position <= through };
  }

  /** Reads how much of what was up to a position of an epoch still is there; null where the epoch is not known. */
  heldOf({ epoch, position }: CursorParts): number | null {
    const through = this.#holdThrough.get(epoch);
    return through === undefined ? null : Math.min(position, through);
  }

  /**
   * Says whether the log has not broken since it gave the cursor out. Where it has, what was seen after the cursor may be lost, and its
   * numbers given out once more, even where the cursor itself holds.
   */
  isUnbrokenSince(cursor: string): boolean {
    const parts = readCursor(cursor);
    return parts === null || !this.#brokenSince.has(parts.epoch);
  }

  isKnown(id: string): boolean {
    return this.#holdThrough.has(id);
  }

  /** Says whether what an epoch had at a position is still there; of one that is not known nothing says no. */
  mayHold(id: string, position: number): boolean {
    return position <= (this.#holdThrough.get(id) ?? Number.MAX_SAFE_INTEGER);
  }

  /** Takes what the engine says of all epochs that it knows, in any order; listeners are told within the call where another one is the newest. */
  replace(list: readonly Epoch[]): void {
    const before = this.#list;
    const previous = before.at(-1);
    this.#list = [...list].sort((a, b) => a.no - b.no);
    const through = new Map<string, number>();
    const brokenSince = new Set<string>();
    let bound = Number.MAX_SAFE_INTEGER;
    let hasBroken = false;
    for (const { id, beganAt, broken } of this.#list.toReversed()) {
      through.set(id, bound);
      if (hasBroken) brokenSince.add(id);
      bound = Math.min(bound, beganAt);
      hasBroken ||= broken;
    }
    this.#holdThrough = through;
    this.#brokenSince = brokenSince;
    const current = this.#list.at(-1);
    if (previous === undefined || current === undefined || current.id === previous.id) return;
    const known = new Set(before.map(({ id }) => id));
    const begun = this.#list.filter(({ id }) => !known.has(id));
    const isBroken = begun.some(({ broken }) => broken);
    const heldThrough = Math.min(...begun.map(({ beganAt }) => beganAt));
    if (isBroken) this.#held.push(heldThrough);
    for (const listener of [...this.#listeners]) listener({ previous, current, isBroken, heldThrough });
  }

  /** Tells of each change of the newest epoch, before anything of it is read. @returns stops it */
  watch(listener: (change: EpochChange) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }
}

export const writeCursor = ({ epoch, position }: CursorParts) => `${epoch}.${position.toString(36)}`;

/** The last one: a client that comes back gives the same several times, and those who come back together mostly do. */
let lastRead: { text: string; parts: Readonly<CursorParts> | null } = { text: "", parts: null };

/** @returns null for what has not the form */
export function readCursor(text: string): Readonly<CursorParts> | null {
  if (text !== lastRead.text) lastRead = { text, parts: partsOf(text) };
  return lastRead.parts;
}

function partsOf(text: string): CursorParts | null {
  const [, epoch, digits] = pattern.exec(text) ?? [];
  const position = Number.parseInt(digits ?? "", 36);
  return epoch !== undefined && Number.isSafeInteger(position) ? { epoch, position } : null;
}
