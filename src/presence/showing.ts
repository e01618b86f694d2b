/** Shows those who watch users on this node the difference between what they were shown last and what is so [PRE1] [PRE3] [PRE5]. */
import type { PresenceRecord, PresenceWord } from "../cluster/ports.ts";
import type { Timers } from "../ground/timers.ts";
import type { PresenceView, ServerPayload } from "../protocol/server.ts";
import type { FoundRecord, KnownRecord, Records } from "./records.ts";
import {
  iso,
  looksTheSame,
  nextMoment,
  offline,
  presentDevices,
  type View,
  type ViewForOthers,
  viewForOthers,
  viewForSelf,
  writeView,
} from "./view.ts";

type EventType = "presence.online" | "presence.offline" | "presence.update";
export type PresenceMessage = { [Type in EventType]: { type: Type; payload: ServerPayload<Type> } }[EventType];

/** The device whose request led to a message; its own connection is not told [SUB6]. */
export interface Cause {
  userId: string;
  deviceId: string;
}

export interface ShowingOptions {
  records: Pick<Records, "read">;
  /** The registry's clock, ms. */
  now: () => number;
  /** To this node's subscribers of `presence:<user>`. */
  show(userId: string, message: PresenceMessage, cause?: Cause): void;
  /** To the user's own devices on this node, on `user:<user>`. */
  tellOwnDevices(userId: string, message: PresenceMessage, cause?: Cause): void;
  /** How many subscriptions to the user's presence there are on this node. */
  watchersOf(userId: string): number;
  /** Whether devices of the user are connected to this node. */
  isHere(userId: string): boolean;
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

/** A user who is watched here, or has devices here. */
interface Entry {
  known: KnownRecord | null;
  /** What is taken to be so while the registry is away: devices that came here meanwhile are in it. */
  assumed: PresenceRecord | null;
  /** Whether every word since it was read has been heard. */
  isFresh: boolean;
  /** What all who watch the user here hold; null: nobody was shown anything. */
  shown: ViewForOthers | null;
  /** What the user's own devices here hold; null: there are none. */
  told: View | null;
  window: Window | null;
  /** Calls off looking at the next moment of the record. */
  cancel: () => void;
}

/** A timer cannot be set for longer than 24 days. */
const momentMsMax = 24 * 3_600_000;

const isOlder = (one: KnownRecord, other: KnownRecord | null) =>
  one.mark === other?.mark && one.version < other.version;

const recordOf = ({ assumed, known }: Entry) => assumed ?? known?.record ?? null;

export class Showing {
  readonly #entries = new Map<string, Entry>();

  constructor(private readonly options: ShowingOptions) {}

  /** What this node knows the registry to hold; null: nothing. */
  knownOf(userId: string): KnownRecord | null {
    return this.#entries.get(userId)?.known ?? null;
  }

  /** What is so as far as this node can tell; null: it cannot. */
  recordOf(userId: string): PresenceRecord | null {
    const entry = this.#entries.get(userId);
    return entry === undefined ? null : recordOf(entry);
  }

  /** Takes a word of any node. @returns whether it is newer than what was known */
  hear({ userId, causeDevice, ...word }: PresenceWord): boolean {
    const entry = this.#wanted(userId);
    if (entry === null) return false;
    const { known } = entry;
    if (known !== null && known.mark !== word.mark) {
      // Which of the two is the newer one the registry knows.
      this.options.onUnknown([userId]);
      return false;
    }
    if (known !== null && known.version >= word.version) return false;
    this.#accept(userId, entry, { known: word, causeDevice });
    return true;
  }

  /** Takes what the registry has just answered to a change: nothing need be assumed any more. */
  take(userId: string, known: KnownRecord, causeDevice?: string): void {
    const entry = this.#wanted(userId);
    if (entry === null) return;
    entry.assumed = null;
    if (isOlder(known, entry.known)) this.#look(userId, entry);
    else this.#accept(userId, entry, { known, causeDevice });
  }

  /** Takes something to be so until the registry can say what is. */
  assume(userId: string, record: PresenceRecord, causeDevice?: string): void {
    const entry = this.#wanted(userId);
    if (entry === null) return;
    entry.assumed = record;
    this.#look(userId, entry, causeDevice);
  }

  /** Reads how users are, and shows what is different. Rejects where the storage is away. */
  async refresh(userIds: string[]): Promise<Map<string, FoundRecord>> {
    const before = new Map(userIds.map((userId) => [userId, this.knownOf(userId)]));
    const heard = new Set(userIds.filter((userId) => this.options.watchersOf(userId) > 0));
    const found = await this.options.records.read(userIds);
    const unknown: string[] = [];
    for (const [userId, { known }] of found) {
      const entry = this.#wanted(userId);
      if (entry === null) continue;
      entry.isFresh = known !== null && heard.has(userId);
      if (known === null) unknown.push(userId);
      // Where nobody has been for a while versions say nothing: what came since it was read is newer.
      else if (known.version > 0 ? !isOlder(known, entry.known) : before.get(userId) === entry.known)
        this.#accept(userId, entry, { known });
    }
    if (unknown.length > 0) this.options.onUnknown(unknown);
    return found;
  }

  /** Makes sure that what is known of users who are watched here is so, as far as that can be known now. */
  async prepare(userIds: string[]): Promise<void> {
    const stale = userIds.filter((userId) => this.#entries.get(userId)?.isFresh !== true);
    if (stale.length > 0) await this.refresh(stale);
  }

  /** What a new watcher is shown, which is what all who watch the user here hold [PRE5]; oneself is shown the truth. */
  snapshotOf(viewer: string, userId: string): PresenceView {
    const entry = this.#entry(userId);
    const record = recordOf(entry);
    const lastSeenAt = entry.isFresh ? (record?.lastSeenAt ?? null) : null;
    const at = this.options.now();
    if (viewer === userId) {
      const view = writeView(userId, record === null ? offline : viewForSelf(record, at), lastSeenAt);
      return entry.isFresh && record !== null ? { ...view, devices: presentDevices(record, at).length } : view;
    }
    const isKnown = record !== null && (entry.isFresh || this.options.isHere(userId));
    entry.shown ??= isKnown ? viewForOthers(record, at) : offline;
    return writeView(userId, entry.shown, lastSeenAt);
  }

  /** Words may have been lost. @returns the users that are to be refreshed */
  doubt(): string[] {
    for (const entry of this.#entries.values()) entry.isFresh = false;
    return [...this.#entries.keys()];
  }

  /** Drops users who are neither watched nor connected here; the bus hears of them for longer than that. */
  forgetUnwatched(): void {
    for (const [userId, entry] of this.#entries) {
      if (this.options.watchersOf(userId) > 0) continue;
      entry.isFresh = false;
      if (!this.options.isHere(userId)) this.#forget(userId, entry);
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
      const nothing = { known: null, assumed: null, shown: null, told: null, window: null };
      entry = { ...nothing, isFresh: false, cancel: () => {} };
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

  #accept(
    userId: string,
    entry: Entry,
    { known, causeDevice }: { known: KnownRecord; causeDevice?: string | undefined },
  ) {
    entry.known = known;
    this.#look(userId, entry, causeDevice);
  }

  #look(userId: string, entry: Entry, causeDevice?: string): void {
    const record = recordOf(entry);
    if (record === null) return;
    const at = this.options.now();
    const cause = causeDevice === undefined ? undefined : { userId, deviceId: causeDevice };
    this.#arm(userId, entry, record);
    this.#tellOwn(userId, entry, { view: viewForSelf(record, at), cause });
    if (this.options.watchersOf(userId) === 0) {
      // Nobody holds anything any more.
      entry.shown = null;
      entry.isFresh = false;
    }
    const { window } = entry;
    const view = viewForOthers(record, at);
    if (window === null) return this.#show(userId, entry, { view, cause });
    if (looksTheSame(window.latest, view)) return;
    window.latest = view;
    // Two devices within one interval: each must hear what the other did.
    const isSame = window.held === null || window.held.cause?.deviceId === cause?.deviceId;
    window.held = { cause: isSame ? cause : undefined };
  }

  #show(userId: string, entry: Entry, { view, cause }: { view: ViewForOthers; cause: Cause | undefined }): void {
    const { intervalMs, now, show, timers } = this.options;
    if (entry.shown === null || looksTheSame(entry.shown, view)) return;
    const at = now();
    const message = messageOf(userId, { was: entry.shown, is: view, lastSeenAt: recordOf(entry)!.lastSeenAt, at });
    entry.shown = view;
    const cancel = timers.after(intervalMs, () => this.#closeWindow(userId, entry));
    entry.window = { latest: view, held: null, cancel };
    show(userId, message, cause);
  }

  #closeWindow(userId: string, entry: Entry): void {
    const { held } = entry.window!;
    entry.window = null;
    if (held !== null)
      this.#show(userId, entry, { view: viewForOthers(recordOf(entry)!, this.options.now()), ...held });
  }

  #tellOwn(userId: string, entry: Entry, { view, cause }: { view: View; cause: Cause | undefined }): void {
    const { isHere, now, tellOwnDevices } = this.options;
    const was = entry.told;
    entry.told = isHere(userId) ? view : null;
    if (was === null || entry.told === null || looksTheSame(was, view)) return;
    if (was.status === "offline" || view.status === "offline") return;
    const payload = {
      user_id: userId,
      status: view.status,
      status_text: view.text,
      status_emoji: view.emoji,
      ...(view.expiresAt === null ? {} : { expires_at: iso(view.expiresAt) }),
      at: iso(now()),
    };
    tellOwnDevices(userId, { type: "presence.update", payload }, cause);
  }

  /** At the next moment of the record it is read again: while that cannot be done nobody is shown as gone. */
  #arm(userId: string, entry: Entry, record: PresenceRecord): void {
    const { now, onUnknown, timers } = this.options;
    entry.cancel();
    const moment = nextMoment(record, now());
    entry.cancel =
      moment === null
        ? () => {}
        : timers.after(Math.min(moment - now(), momentMsMax), () => {
            this.refresh([userId]).catch(() => onUnknown([userId]));
          });
  }
}

function messageOf(
  userId: string,
  { was, is, lastSeenAt, at }: { was: ViewForOthers; is: ViewForOthers; lastSeenAt: number | null; at: number },
): PresenceMessage {
  const { status, text, emoji } = is;
  if (status === "offline") {
    const payload = { user_id: userId, ...(lastSeenAt === null ? {} : { last_seen: iso(lastSeenAt) }) };
    return { type: "presence.offline", payload };
  }
  if (was.status === "offline") {
    const beside = {
      ...(text === null ? {} : { status_text: text }),
      ...(emoji === null ? {} : { status_emoji: emoji }),
    };
    return { type: "presence.online", payload: { user_id: userId, status, ...beside, at: iso(at) } };
  }
  const payload = { user_id: userId, status, status_text: text, status_emoji: emoji, at: iso(at) };
  return { type: "presence.update", payload };
}
