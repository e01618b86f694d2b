/** Contributes the devices that are connected to this node to their users' records, again until the registry has them [PRE1]. */
import type { DevicePresence, PresenceRecord, PresenceRegistry, PresenceWord } from "../cluster/ports.ts";
import { KeyedQueue } from "../ground/keyed-queue.ts";
import type { UserStatus } from "../storage/ports.ts";
import { type Contributed, contribute, withStatus } from "./record.ts";
import type { FoundRecord, Records } from "./records.ts";
import type { Showing } from "./showing.ts";
import { isVisible } from "./view.ts";

export interface DeviceRef {
  userId: string;
  deviceId: string;
  connectionId: string;
}

export interface ContributionsOptions {
  registry: PresenceRegistry;
  records: Pick<Records, "read" | "statusOf" | "noteLastSeen">;
  showing: () => Showing;
  /** Called with users who are to be looked at later. */
  onStale(userIds: string[]): void;
  /** Called with a device of this node that has a newer connection on another one [CON3]. */
  onSuperseded(device: DeviceRef): void;
}

/** What a contribution changes besides the devices that were set. */
export interface Change {
  newcomer?: { deviceId: string; devicesMax: number };
  /** The status by hand: what it becomes, where it still is what it was. */
  byHand?: { was: UserStatus | null; is: UserStatus | null } | undefined;
  causeDevice?: string;
}

/** `away`: it counts here, and is contributed later. `conflict`: the status is another one, `byHand`; nothing was changed. */
export type Outcome = Contributed & ({ state: "done" | "away" } | { state: "conflict"; byHand: UserStatus | null });

export class Contributions {
  /** By user, what is connected here or may come back here; in their queue only it changes. */
  readonly #own = new Map<string, readonly DevicePresence[]>();
  /** Users whose record may not have the status that the storage has. */
  readonly #owingStatus = new Set<string>();
  /** Users whose record this node is changing. */
  readonly #changing = new Set<string>();
  readonly #queue = new KeyedQueue();

  constructor(private readonly options: ContributionsOptions) {}

  /** Runs what changes a user's devices or record, one after the other. */
  inQueue<Result>(userId: string, work: () => Promise<Result>): Promise<Result> {
    return this.#queue.run(userId, work);
  }

  idle(): Promise<void> {
    return this.#queue.idle();
  }

  has(userId: string): boolean {
    return this.#own.has(userId);
  }

  of(userId: string): readonly DevicePresence[] {
    return this.#own.get(userId) ?? [];
  }

  all(): Iterable<[userId: string, devices: readonly DevicePresence[]]> {
    return this.#own;
  }

  isOwingStatus(userId: string): boolean {
    return this.#owingStatus.has(userId);
  }

  /** Sets what is here of a user; to be made known by `make`. */
  set(userId: string, devices: readonly DevicePresence[]): void {
    if (devices.length > 0) this.#own.set(userId, devices);
    else this.#own.delete(userId);
  }

  /** What this node knows of the user, else what can be read. Rejects where the storage is needed and away. */
  async find(userId: string): Promise<FoundRecord> {
    const known = this.options.showing().knownOf(userId);
    if (known !== null) return { known, record: known.record };
    return (await this.options.records.read([userId])).get(userId)!;
  }

  /** Has the record say what is here. Never rejects for the registry. */
  async make(userId: string, found: FoundRecord, change: Change = {}): Promise<Outcome> {
    const { onStale } = this.options;
    this.#changing.add(userId);
    try {
      const outcome = await this.apply(userId, found, (record) => this.#outcomeOf(userId, record, change), change);
      if (outcome.state === "done") this.#take(userId, outcome);
      if (outcome.state === "done" && change.byHand !== undefined) this.#owingStatus.delete(userId);
      return outcome;
    } catch {
      // Whatever the reason is, it is logged where it is looked at again.
      onStale([userId]);
      if (change.byHand !== undefined) this.#owingStatus.add(userId);
      return this.#assume(userId, found.record, change);
    } finally {
      this.#changing.delete(userId);
      this.#compare(userId);
    }
  }

  /** Changes a record by a pure step, and shows what comes of it. @throws Unavailable */
  async apply<Result extends { put: PresenceRecord | null }>(
    userId: string,
    found: FoundRecord,
    step: (record: PresenceRecord) => Result,
    { causeDevice }: Pick<Change, "causeDevice"> = {},
  ): Promise<Result> {
    const { records, registry, showing } = this.options;
    let before = found.record;
    // Null: what was known has been lost, and what the storage knows has to be read.
    const { now, result } = await registry.transact<Result | null>(
      userId,
      (current) => {
        if (current === null && found.known !== null && found.known.version > 0) return { put: null, result: null };
        before = current ?? found.record;
        const made = step(before);
        return { put: made.put, result: made };
      },
      { known: found.known ?? undefined, causeDevice },
    );
    if (result === null) return this.apply(userId, (await records.read([userId])).get(userId)!, step, { causeDevice });
    const after = now.record ?? before;
    showing().take(userId, { ...now, record: after }, causeDevice);
    const { lastSeenAt } = after;
    const hasGone = before.devices.length > after.devices.length || before.lastSeenAt !== lastSeenAt;
    if (hasGone && lastSeenAt !== null && !isVisible(after, registry.now()))
      await records.noteLastSeen([userId], lastSeenAt);
    return result;
  }

  /** Takes a word of any node: others may have taken out, or replaced, devices of this one. */
  hear(word: PresenceWord): void {
    if (this.options.showing().hear(word)) this.#compare(word.userId);
  }

  /** Reads users again, and contributes what the registry lacks of them. @returns those to be looked at once more */
  async lookAt(userIds: string[]): Promise<string[]> {
    const found = await this.options.showing().refresh(userIds);
    const looks = userIds.map(async (userId) => {
      const isSettled = await this.inQueue(userId, () => this.#settle(userId, found.get(userId)!));
      return isSettled ? [] : [userId];
    });
    return (await Promise.all(looks)).flat();
  }

  async #settle(userId: string, found: FoundRecord): Promise<boolean> {
    const { records, registry, showing } = this.options;
    const isOwing = this.#owingStatus.has(userId);
    // Read after the record: where somebody sets another one meanwhile the record changes after this has looked at it.
    const byHand = isOwing ? { was: found.record.byHand, is: await records.statusOf(userId) } : undefined;
    const outcome = this.#outcomeOf(userId, found.record, { byHand });
    const isHere = this.has(userId) || found.record.devices.some(({ owner }) => owner === registry.owner);
    if (outcome.put !== null || (found.known === null && (isHere || isOwing)))
      return (await this.make(userId, found, { byHand })).state === "done";
    if (found.known === null) return false;
    this.#take(userId, outcome);
    this.#owingStatus.delete(userId);
    showing().take(userId, found.known);
    return true;
  }

  #outcomeOf(userId: string, record: PresenceRecord, { newcomer, byHand }: Change): Outcome {
    const { registry } = this.options;
    const now = registry.now();
    const contributed = contribute(record, { owner: registry.owner, devices: this.of(userId), newcomer, now });
    if (byHand === undefined || contributed.isRefused) return { ...contributed, state: "done" };
    if (!Bun.deepEquals(record.byHand, byHand.was))
      return { ...contributed, put: null, state: "conflict", byHand: record.byHand };
    const put = withStatus(contributed.put ?? record, byHand.is, now) ?? contributed.put;
    return { ...contributed, put, state: "done" };
  }

  /** While the registry is away what comes here counts, and what others have keeps nobody out; what goes is shown when it is known. */
  #assume(userId: string, found: PresenceRecord, { newcomer, byHand, causeDevice }: Change): Outcome {
    const { registry, showing } = this.options;
    const record = showing().recordOf(userId) ?? found;
    const here = { ...record, devices: record.devices.filter(({ owner }) => owner === registry.owner) };
    const alone = this.#outcomeOf(userId, here, { newcomer });
    const isShown = !alone.isRefused && (newcomer !== undefined || causeDevice !== undefined);
    this.#take(userId, alone);
    if (isShown) {
      const status = byHand === undefined ? undefined : { was: record.byHand, is: byHand.is };
      const { put } = this.#outcomeOf(userId, record, { byHand: status });
      showing().assume(userId, put ?? record, causeDevice);
    }
    return { ...alone, state: "away" };
  }

  #take(userId: string, { devices, superseded }: Contributed): void {
    this.set(userId, devices);
    for (const { deviceId, connectionId } of superseded) this.options.onSuperseded({ userId, deviceId, connectionId });
  }

  /** Follows what others have made of this node's devices; what they have taken out by mistake is put back. */
  #compare(userId: string): void {
    const { onStale, registry, showing } = this.options;
    const { owner } = registry;
    const record = showing().knownOf(userId)?.record;
    if (record === undefined || !this.has(userId) || this.#changing.has(userId)) return;
    const there = new Set(record.devices.filter((it) => it.owner === owner).map(({ connectionId }) => connectionId));
    // One in its grace may have made room for another one elsewhere.
    const devices = this.of(userId).filter((it) => it.leaving === undefined || there.has(it.connectionId));
    const contributed = contribute(record, { owner, devices, now: registry.now() });
    this.#take(userId, contributed);
    if (contributed.put !== null) onStale([userId]);
  }
}
