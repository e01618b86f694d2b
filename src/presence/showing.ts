/** Shows those who watch users on this node the difference between what they were shown last and what is so [PRE1] [PRE3] [PRE5]. */
import type { PresenceRecord, PresenceWord } from "../cluster/ports.ts";
import type { Timers } from "../ground/timers.ts";
import { Unavailable } from "../ground/unavailable.ts";
import type { PresenceView } from "../protocol/server.ts";
import { type PresenceMessage, updateOf, writeChange, writeView } from "./messages.ts";
import { emptyRecord } from "./record.ts";
import { type FilledRecord, isUnknown, type Records } from "./records.ts";
import {
  looksTheSame,
  nextMoment,
  offline,
  presentDevices,
  type View,
  type ViewForOthers,
  viewForBackend,
  viewForOthers,
  viewForSelf,
} from "./view.ts";

/** The device whose request led to a message; its own connection is not told [SUB6]. */
export interface Cause {
  userId: string;
  deviceId: string;
}

/** The connection that has asked how somebody is. */
export interface Asker {
  userId: string;
  connectionId: string;
  /** Whether it is told of somebody invisible as such [BAK1]. */
  seesInvisible?: boolean;
}

export interface ShowingOptions {
  records: Pick<Records, "read">;
  /** The registry's clock, ms. */
  now: () => number;
  /** To this node's subscribers of `presence:<user>`. */
  show(userId: string, message: PresenceMessage, cause?: Cause): void;
  /** To one of those subscribers, if it still is one. */
  showOne(asker: Asker, userId: string, message: PresenceMessage): void;
  /** To the user's own devices on this node, on `user:<user>`. */
  tellOwnDevices(userId: string, message: PresenceMessage, cause?: Cause): void;
  /** How many subscriptions to the user's presence there are on this node. */
  watchersOf(userId: string): number;
  /** Whether devices of the user are connected to this node. */
  isHere(userId: string): boolean;
  /** Tells what is so where the registry has this record, and this node owes it something. */
  withOwed(userId: string, record: PresenceRecord): PresenceRecord;
  /** Called with somebody here whose invisibility is over. */
  onSeenAgain(userId: string): void;
  /** Called with those that could not be read: they are to be refreshed later. */
  onUnknown(userIds: string[]): void;
  /** Others are told of at most one change of a user within so long. */
  intervalMs: number;
  timers: Timers;
}

/** Open for one interval after something was shown: what changes meanwhile waits for its end, and the last one wins. */
interface Window {
  latest: ViewForOthers;
  /** Whether anything has come meanwhile, and whose doing it was; undefined where it was more than one device's. */
  held: { cause: Cause | undefined } | null;
  cancel: () => void;
}

const nothing = () => {};

/** Holds what is known of a user who is watched here, or has devices here, and what was shown of it. */
class Entry {
  /** Null: nothing is known. */
  known: FilledRecord | null = null;
  /** Whether every word since it was read has been heard. */
  isFresh = false;
  /** Held by all who watch the user here; null: nobody was shown anything. */
  shownToWatchers: ViewForOthers | null = null;
  /** By connection, held by those who were answered otherwise than all were shown, until all are shown something; null: nobody was. */
  answered: Map<string, { asker: Asker; view: ViewForOthers }> | null = null;
  /** Held by the user's own devices here; null: there are none. */
  shownToSelf: View | null = null;
  window: Window | null = null;
  /** Calls off looking at the next moment of the record. */
  cancel = nothing;

  /** Whether there is anything to forget of those who watch. */
  get isWatched(): boolean {
    return this.isFresh || this.shownToWatchers !== null || this.answered !== null;
  }

  forgetWatchers(): void {
    this.isFresh = false;
    this.shownToWatchers = null;
    this.answered = null;
  }
}

/** A timer cannot be set for longer than 24 days. */
const momentMsMax = 24 * 3_600_000;

const isOlder = (one: FilledRecord, other: FilledRecord | null) =>
  one.mark === other?.mark && one.version < other.version;

export class Showing {
  readonly #entries = new Map<string, Entry>();

  constructor(private readonly options: ShowingOptions) {}

  /** Gives what this node knows the registry to hold; null: nothing. */
  knownOf(userId: string): FilledRecord | null {
    const known = this.#entries.get(userId)?.known ?? null;
    return known === null || isUnknown(known) ? null : known;
  }

  /** Tells what is so as far as this node can; null: it cannot. */
  recordOf(userId: string): PresenceRecord | null {
    const record = this.#entries.get(userId)?.known?.record;
    return record === undefined ? null : this.options.withOwed(userId, record);
  }

  /** Takes a word of any node. @returns whether it is newer than what was known */
  takeWord({ userId, causeDevice, ...word }: PresenceWord): boolean {
    const known = this.knownOf(userId);
    if (known !== null && known.mark !== word.mark) {
      // Which of the two is the newer one the registry knows.
      this.options.onUnknown([userId]);
      return false;
    }
    return (known === null || known.version < word.version) && this.takeRecord(userId, word, causeDevice);
  }

  /** Takes what the registry has answered. @returns whether there is anything to know it for */
  takeRecord(userId: string, known: FilledRecord, causeDevice?: string): boolean {
    const entry = this.#wanted(userId);
    if (entry === null) return false;
    // Put back by and by is what was lost: only what is different after an interval is shown.
    const isAnew = entry.known !== null && entry.known.mark !== known.mark;
    if (isAnew && entry.window === null) this.#openWindow(userId, entry, { cause: undefined });
    if (!isOlder(known, entry.known)) entry.known = known;
    this.#showDifference(userId, entry, causeDevice);
    return true;
  }

  /** Shows what is owed to the registry, whose record may be this one. */
  showOwed(userId: string, found: FilledRecord, causeDevice?: string): void {
    const entry = this.#wanted(userId);
    if (entry === null) return;
    entry.known ??= found;
    this.#showDifference(userId, entry, causeDevice);
  }

  /** Reads how users are, and shows what is different. Rejects where the storage is away. */
  async refresh(userIds: string[]): Promise<Map<string, FilledRecord>> {
    const heard = new Set(userIds.filter((userId) => this.options.watchersOf(userId) > 0));
    const found = await this.options.records.read(userIds);
    const unknown: string[] = [];
    for (const [userId, record] of found) {
      const entry = this.#wanted(userId);
      if (entry === null) continue;
      entry.isFresh = !isUnknown(record) && heard.has(userId);
      if (isUnknown(record)) unknown.push(userId);
      else this.takeRecord(userId, record);
    }
    if (unknown.length > 0) this.options.onUnknown(unknown);
    return found;
  }

  /** Makes sure that what is known of users who are watched here is so, as far as that can be known now. */
  async refreshStale(userIds: string[]): Promise<void> {
    const stale = userIds.filter((userId) => this.#entries.get(userId)?.isFresh !== true);
    if (stale.length > 0) await this.refresh(stale);
  }

  /** Shows a new watcher what all who watch the user here hold, and oneself the truth [PRE5]. */
  snapshotOf(asker: Asker, userId: string): PresenceView {
    const entry = this.#entry(userId);
    entry.answered?.delete(asker.connectionId);
    const record = this.recordOf(userId);
    const at = this.options.now();
    const lastSeenAt = entry.isFresh ? (record?.lastSeenAt ?? null) : null;
    if (asker.userId === userId) return this.#viewOfSelf(userId, record ?? emptyRecord, entry.isFresh);
    const isKnown = record !== null && (entry.isFresh || this.options.isHere(userId));
    entry.shownToWatchers ??= isKnown ? viewForOthers(record, at) : offline;
    return writeView(userId, entry.shownToWatchers, lastSeenAt);
  }

  /**
   * Answers how the user is by what was just read of them, or has been heard since [PRE4] [BAK1].
   * @throws Unavailable where nobody can know
   */
  answerOf(asker: Pick<Asker, "userId" | "seesInvisible">, userId: string, found: FilledRecord): PresenceView {
    const isSure = !isUnknown(found);
    const record = this.#newestOf(userId, found);
    if (asker.userId === userId) return this.#viewOfSelf(userId, record, isSure);
    const view = (asker.seesInvisible ? viewForBackend : viewForOthers)(record, this.options.now());
    // Also of somebody invisible who is here: nobody may tell the two apart.
    if (!isSure && view.status === "offline")
      throw new Unavailable("cluster", "Who is on other nodes cannot be known right now.", { isPublic: true });
    return writeView(userId, view, record.lastSeenAt);
  }

  /**
   * Notes that the asker is given that answer, in the same turn. Where those who watch hold something else the difference
   * to what comes of it is shown to the asker too, at the end of the window [PRE1].
   */
  noteAnswer(asker: Asker, userId: string, found: FilledRecord): void {
    const entry = this.#entries.get(userId);
    if (entry === undefined || asker.userId === userId) return;
    const view = viewForOthers(this.#newestOf(userId, found), this.options.now());
    entry.answered?.delete(asker.connectionId);
    if (looksTheSame(entry.shownToWatchers ?? view, view)) return;
    entry.answered ??= new Map();
    entry.answered.set(asker.connectionId, { asker, view });
    if (entry.window === null) this.#openWindow(userId, entry, null);
  }

  /** Finds what is newer than what was read, or what this node has while the registry is away. */
  #newestOf(userId: string, found: FilledRecord): PresenceRecord {
    const isKnown = !isUnknown(found) || this.options.isHere(userId);
    return (isKnown ? this.recordOf(userId) : null) ?? found.record;
  }

  /** Writes the truth, with how many devices there are where all are known. */
  #viewOfSelf(userId: string, record: PresenceRecord, isSure: boolean): PresenceView {
    const at = this.options.now();
    const view = writeView(userId, viewForSelf(record, at), record.lastSeenAt);
    return isSure ? { ...view, devices: presentDevices(record, at).length } : view;
  }

  /** Words may have been lost. @returns the users that are to be refreshed */
  markAllStale(): string[] {
    for (const entry of this.#entries.values()) entry.isFresh = false;
    return [...this.#entries.keys()];
  }

  /** Drops users who are neither watched nor connected here; the bus hears of them for longer than that. */
  forgetUnwatched(): void {
    const { isHere, watchersOf } = this.options;
    for (const [userId, entry] of this.#entries) {
      // Most of those who are connected here are watched by nobody: that costs no look at the topics.
      const isUnwatched = entry.shownToWatchers === null && !entry.isFresh && isHere(userId);
      if (isUnwatched || watchersOf(userId) > 0) continue;
      entry.forgetWatchers();
      if (!isHere(userId)) this.#forget(userId, entry);
    }
  }

  /** Users of whom something is to be shown at the end of its interval. */
  get heldBack(): number {
    let count = 0;
    for (const { window } of this.#entries.values()) if (window !== null && window.held !== null) count++;
    return count;
  }

  stop(): void {
    for (const [userId, entry] of this.#entries) this.#forget(userId, entry);
  }

  #entry(userId: string): Entry {
    let entry = this.#entries.get(userId);
    if (entry === undefined) {
      entry = new Entry();
      this.#entries.set(userId, entry);
    }
    return entry;
  }

  /** The user's entry where there is something to know it for. */
  #wanted(userId: string): Entry | null {
    const { isHere, watchersOf } = this.options;
    return this.#entries.has(userId) || isHere(userId) || watchersOf(userId) > 0 ? this.#entry(userId) : null;
  }

  #forget(userId: string, entry: Entry): void {
    entry.cancel();
    entry.window?.cancel();
    this.#entries.delete(userId);
  }

  /** Tells the user's own devices at once, and those who watch at once or at the end of the open window. */
  #showDifference(userId: string, entry: Entry, causeDevice?: string): void {
    const { isHere, now, onSeenAgain, tellOwnDevices, watchersOf } = this.options;
    const record = this.recordOf(userId)!;
    const at = now();
    const cause = causeDevice === undefined ? undefined : { userId, deviceId: causeDevice };
    this.#refreshAtNextMoment(userId, entry, record);
    const was = entry.shownToSelf;
    const is = viewForSelf(record, at);
    entry.shownToSelf = isHere(userId) ? is : null;
    if (was?.status === "invisible" && is.status !== "invisible") onSeenAgain(userId);
    const isTold = was !== null && entry.shownToSelf !== null && was.status !== "offline" && is.status !== "offline";
    if (isTold && !looksTheSame(was, is)) tellOwnDevices(userId, updateOf(userId, is, at), cause);
    if (entry.isWatched && watchersOf(userId) === 0) entry.forgetWatchers();
    const { window } = entry;
    if (window === null) return this.#showWatchers(userId, entry, cause);
    const view = viewForOthers(record, at);
    if (looksTheSame(window.latest, view)) return;
    window.latest = view;
    // Two devices within one interval: each must hear what the other did.
    const isSame = window.held === null || window.held.cause?.deviceId === cause?.deviceId;
    window.held = { cause: isSame ? cause : undefined };
  }

  /** Shows those who watch what is different from what they were shown last. */
  #showWatchers(userId: string, entry: Entry, cause: Cause | undefined): void {
    const { now, onUnknown, show, showOne } = this.options;
    const was = entry.shownToWatchers;
    if (was === null) return;
    const record = this.recordOf(userId)!;
    const at = now();
    const is = viewForOthers(record, at);
    if (looksTheSame(was, is) && (entry.answered?.size ?? 0) === 0) return;
    // A device elsewhere may not have been put back yet: nobody is shown as gone by that.
    if (is.status === "offline" && entry.known?.isPartial) return onUnknown([userId]);
    const changeFrom = (was: ViewForOthers) => writeChange(userId, { was, is, lastSeenAt: record.lastSeenAt, at });
    const { answered } = entry;
    entry.answered = null;
    entry.shownToWatchers = is;
    this.#openWindow(userId, entry, null);
    if (!looksTheSame(was, is)) return show(userId, changeFrom(was), cause);
    for (const { asker, view } of answered?.values() ?? []) showOne(asker, userId, changeFrom(view));
  }

  #openWindow(userId: string, entry: Entry, held: Window["held"]): void {
    const cancel = this.options.timers.after(this.options.intervalMs, () => {
      const { held } = entry.window!;
      entry.window = null;
      this.#showWatchers(userId, entry, held?.cause);
    });
    entry.window = { latest: entry.shownToWatchers ?? offline, held, cancel };
  }

  /** Reads the record again at its next moment: while that cannot be done nobody is shown as gone. */
  #refreshAtNextMoment(userId: string, entry: Entry, record: PresenceRecord): void {
    const { now, onUnknown, timers } = this.options;
    entry.cancel();
    const moment = nextMoment(record, now());
    if (moment === null) return;
    entry.cancel = timers.after(Math.min(moment - now(), momentMsMax), () => {
      this.refresh([userId]).catch(() => onUnknown([userId]));
    });
  }
}
