/** Contributes the devices that are connected to this node to their users' records, again until the registry has them [PRE1]. */
import type { DevicePresence, PresenceRecord, PresenceRegistry, PresenceWord } from "../cluster/ports.ts";
import { type AtOnce, atOnce, got, type Steps } from "../ground/at-once.ts";
import { KeyedQueue } from "../ground/keyed-queue.ts";
import type { UserStatus } from "../storage/ports.ts";
import { type ContributionResult, contribute, revisionOf, withStatus } from "./record.ts";
import { type FilledRecord, isUnknown, type Records } from "./records.ts";
import type { Showing } from "./showing.ts";
import { isVisible } from "./view.ts";

export interface DeviceRef {
  userId: string;
  deviceId: string;
  connectionId: string;
}

export interface ContributionsOptions {
  registry: PresenceRegistry;
  records: Records;
  showing: () => Showing;
  /** Called with users who are to be checked again later. */
  onStale(userIds: string[]): void;
  /** Called with a device of this node that has a newer connection on another one [CON3]. */
  onSuperseded(device: DeviceRef): void;
}

/** Lists what a contribution changes besides the devices that were set. */
export interface Change {
  newcomer?: { deviceId: string; devicesMax: number };
  /** Sets the status by hand, where nobody has set one since that revision. */
  byHand?: { since: number; is: UserStatus | null } | undefined;
  causeDevice?: string;
}

/** `conflict`: a status was set meanwhile, that of this record, and nothing was changed. `isAway`: it counts here, and is contributed later. */
export type Outcome = ContributionResult & { conflict?: PresenceRecord; isAway?: true };

export class Contributions {
  /** By user, what is connected here or may come back here; in the user's queue only it changes. */
  readonly #own = new Map<string, readonly DevicePresence[]>();
  /** Users with a device among them that has gone and may come back: of many who are connected they are few. */
  readonly #leaving = new Set<string>();
  #devices = 0;
  /** Users whose record lacks what is here, and the status that they have set since. */
  readonly #owed = new Map<string, { byHand?: UserStatus | null }>();
  /** When others last saw users of whom something has gone here: until all of it has, and the registry has the moment. */
  readonly #seenAt = new Map<string, number>();
  /** Users under whose record something of this run stands that is not here any more: the registry has lost that it went. */
  readonly #leftOver = new Set<string>();
  readonly queue = new KeyedQueue();
  /** Names the user of the record that is being changed in this very call. */
  #changing: string | null = null;

  constructor(private readonly options: ContributionsOptions) {}

  has(userId: string): boolean {
    return this.#own.has(userId);
  }

  of(userId: string): readonly DevicePresence[] {
    return this.#own.get(userId) ?? [];
  }

  all(): Iterable<[userId: string, devices: readonly DevicePresence[]]> {
    return this.#own;
  }

  /** Devices that have gone and may come back here. */
  leaving(): (DevicePresence & { userId: string })[] {
    return [...this.#leaving].flatMap((userId) =>
      this.of(userId).flatMap((device) => (device.leaving === undefined ? [] : [{ userId, ...device }])),
    );
  }

  /** Counts what is here, devices that may come back among it. */
  stats(): { users: number; devices: number } {
    return { users: this.#own.size, devices: this.#devices };
  }

  /** Users of whom the registry lacks what has come or gone here, or was said. */
  get owed(): Iterable<string> {
    return this.#owed.keys();
  }

  /** Sets what is here of a user; to be made known by `contribute`. */
  set(userId: string, devices: readonly DevicePresence[]): void {
    this.#devices += devices.length - this.of(userId).length;
    if (devices.length > 0) this.#own.set(userId, devices);
    else this.#own.delete(userId);
    if (devices.some(({ leaving }) => leaving !== undefined)) this.#leaving.add(userId);
    else this.#leaving.delete(userId);
  }

  /** Notes that something of the user goes, or turns invisible, at that moment; to be called before it does. */
  noteGoing(userId: string, at: number): void {
    const record = this.options.showing().recordOf(userId);
    if (record === null || !isVisible(record, at)) return;
    this.#seenAt.set(userId, Math.max(this.#seenAt.get(userId) ?? 0, at));
  }

  /**
   * Notes under whose record something of this run stands: of whoever is not here it is taken out when they are looked at next.
   * @returns in which order that is to be, those first
   */
  noteRecorded(userIds: string[]): string[] {
    const left = userIds.filter((userId) => !this.has(userId));
    for (const userId of left) this.#leftOver.add(userId);
    return [...left, ...userIds.filter((userId) => this.has(userId))];
  }

  /** Tells what is so as far as this node can: while the registry is away what comes here counts, and what goes stays. */
  withOwed(userId: string, record: PresenceRecord): PresenceRecord {
    const owed = this.#owed.get(userId);
    if (owed === undefined) return record;
    const own = this.of(userId);
    const others = record.devices.filter((device) => own.every(({ deviceId }) => deviceId !== device.deviceId));
    return { ...record, ...owed, devices: [...others, ...own] };
  }

  /** Finds what this node knows of the user, else what can be read. Rejects where the storage is needed and away. */
  find(userId: string): AtOnce<FilledRecord> {
    return this.options.showing().knownOf(userId) ?? this.options.records.readOne(userId);
  }

  /** Has the record say what is here. Never rejects. */
  contribute(userId: string, found: FilledRecord, change: Change = {}): AtOnce<Outcome> {
    return atOnce(this.#contribute(userId, found, change));
  }

  *#contribute(userId: string, found: FilledRecord, change: Change): Steps<Outcome> {
    const { byHand, causeDevice } = change;
    try {
      const step = (record: PresenceRecord, from: FilledRecord) =>
        this.#outcomeOf(userId, record, { ...change, isLost: from !== found });
      const adopt = (outcome: Outcome) => this.#adopt(userId, outcome, change);
      return yield* this.#apply(userId, found, step, { causeDevice, adopt });
    } catch {
      // The reason, whatever it is, is logged where it is checked again.
      this.#owed.set(userId, { ...this.#owed.get(userId), ...(byHand && { byHand: byHand.is }) });
      this.options.onStale([userId]);
      this.options.showing().showOwed(userId, found, causeDevice);
      return { put: null, devices: this.of(userId), replaced: null, superseded: [], isRefused: false, isAway: true };
    }
  }

  /**
   * Changes a record by a pure step, which is told what it comes from, and shows what comes of it once that is adopted.
   * @throws Unavailable
   */
  apply<Result extends { put: PresenceRecord | null }>(
    userId: string,
    found: FilledRecord,
    step: (record: PresenceRecord, from: FilledRecord) => Result,
  ): AtOnce<Result> {
    return atOnce(this.#apply(userId, found, step, {}));
  }

  *#apply<Result extends { put: PresenceRecord | null }>(
    userId: string,
    found: FilledRecord,
    step: (record: PresenceRecord, from: FilledRecord) => Result,
    options: { causeDevice?: string | undefined; adopt?: (result: Result) => void },
  ): Steps<Result> {
    const { records, registry, showing } = this.options;
    const { causeDevice, adopt } = options;
    let before = found.record;
    const transact = () =>
      registry.transact<Result | null>(
        userId,
        (current) => {
          if (current === null && found.version > 0) return { put: null, result: null };
          before = current ?? found.record;
          const made = step(before, found);
          return { put: made.put, result: made };
        },
        { known: isUnknown(found) ? undefined : found, causeDevice },
      );
    // Null: what was known is there no more, and what the storage knows has to be read.
    const changing = this.#whileChanging(userId, transact);
    const { now, result } = changing instanceof Promise ? yield changing : changing;
    if (result === null) return yield* this.#apply(userId, yield* got(records.readOne(userId)), step, options);
    adopt?.(result);
    // Nothing was read of what the storage knows of somebody who is not here.
    if (now.record === null && isUnknown(found)) return result;
    const record = now.record ?? before;
    showing().takeRecord(userId, { ...now, record }, causeDevice);
    const { lastSeenAt } = record;
    const hasGone = before.devices.length > record.devices.length || before.lastSeenAt !== lastSeenAt;
    if (hasGone && lastSeenAt !== null && !isVisible(record, registry.now()))
      yield records.noteGone(userId, lastSeenAt);
    return result;
  }

  /** Runs it as the change of a record that is made in this very call. */
  #whileChanging<Answer>(userId: string, change: () => Answer): Answer {
    this.#changing = userId;
    try {
      return change();
    } finally {
      this.#changing = null;
    }
  }

  /** Takes a word of any node: another one may have replaced devices of this one, or taken them out by mistake. */
  takeWord(word: PresenceWord): void {
    const { onStale, showing } = this.options;
    const { userId } = word;
    // A registry in this process says it before it answers. What it answers is taken over first, and shown then.
    if (userId === this.#changing) return;
    if (!showing().takeWord(word) || !this.has(userId) || this.#isSaid(word)) return;
    void this.queue.run(userId, async () => {
      const known = showing().knownOf(userId);
      if (known === null) return;
      const there = new Set(known.record.devices.map(({ connectionId }) => connectionId));
      // One in its grace may have made room for another one elsewhere.
      const devices = this.of(userId).filter((it) => it.leaving === undefined || there.has(it.connectionId));
      this.set(userId, devices);
      const isDone = await this.#recheckOne(userId, known).catch(() => false);
      if (!isDone) onStale([userId]);
    });
  }

  /** Whether the record has of this node what is here, as most have whose word is this node's own: then there is nothing to check. */
  #isSaid({ userId, record: { devices, lastSeenAt } }: PresenceWord): boolean {
    const own = this.of(userId);
    const recorded = devices.filter(({ run }) => run === this.options.registry.run);
    const isRecorded = (device: DevicePresence) =>
      recorded.some((it) => it.connectionId === device.connectionId && Bun.deepEquals(it, device));
    const isSeen = (this.#seenAt.get(userId) ?? 0) <= (lastSeenAt ?? 0);
    return isSeen && !this.#owed.has(userId) && recorded.length === own.length && own.every(isRecorded);
  }

  /** Reads users again, and contributes what the registry lacks of them. @returns those to be checked once more */
  async recheck(userIds: string[]): Promise<string[]> {
    const found = await this.options.showing().refresh(userIds);
    const rechecks = userIds.map(async (userId) => {
      const isDone = await this.queue.run(userId, () => this.#recheckOne(userId, found.get(userId)!));
      return isDone ? [] : [userId];
    });
    return (await Promise.all(rechecks)).flat();
  }

  /** @returns whether the registry has by now what is here */
  async #recheckOne(userId: string, found: FilledRecord): Promise<boolean> {
    if (isUnknown(found) && !this.has(userId)) {
      if (!this.#leftOver.has(userId)) return false;
      // Others wait until all nodes have put the registry right. What the storage knows is from when it went.
      const { lastSeenAt } = found.record;
      if (lastSeenAt !== null && !this.#seenAt.has(userId)) this.#seenAt.set(userId, lastSeenAt);
    }
    const isOwed = this.#owed.get(userId)?.byHand !== undefined;
    // Read after the record: where somebody sets one meanwhile the revision is raised after this has looked at it.
    const is = isOwed ? await this.options.records.statusOf(userId) : null;
    const byHand = isOwed ? { since: revisionOf(found.record), is } : undefined;
    const { conflict, isAway } = await this.contribute(userId, found, { byHand });
    return conflict === undefined && isAway === undefined;
  }

  /** Takes over what has become of the user's devices here; nothing is owed any more. */
  #adopt(userId: string, { conflict, devices, superseded }: Outcome, { byHand }: Change): void {
    if (conflict !== undefined) return;
    // A status that is owed still is: its user is checked again.
    if (byHand !== undefined || this.#owed.get(userId)?.byHand === undefined) this.#owed.delete(userId);
    this.set(userId, devices);
    this.#leftOver.delete(userId);
    // The registry may lose it until the storage has it as well.
    if (devices.every(({ leaving }) => leaving === undefined)) this.#seenAt.delete(userId);
    for (const { deviceId, connectionId } of superseded) this.options.onSuperseded({ userId, deviceId, connectionId });
  }

  /** @param isLost the record is not the one any more of which the change was made */
  #outcomeOf(
    userId: string,
    record: PresenceRecord,
    { newcomer, byHand, isLost = false }: Change & { isLost?: boolean },
  ): Outcome {
    const { registry } = this.options;
    const now = registry.now();
    const seenAt = this.#seenAt.get(userId);
    const contributed = contribute(record, { run: registry.run, devices: this.of(userId), newcomer, now, seenAt });
    if (byHand === undefined || contributed.isRefused) return contributed;
    const isOther = isLost || revisionOf(record) !== byHand.since;
    if (isOther) return { ...contributed, put: null, conflict: record };
    return { ...contributed, put: withStatus(contributed.put ?? record, byHand.is, seenAt ?? now) };
  }
}
