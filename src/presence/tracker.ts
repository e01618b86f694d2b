/** Takes in who comes, goes and says how they are on this node, and answers how users are on all of them [PRE]. */
import type { DevicePresence, DeviceStatus, LeftBehind, PresenceRecord, PresenceRegistry } from "../cluster/ports.ts";
import type { Config } from "../config/schema.ts";
import { type AtOnce, atOnce, type Steps } from "../ground/at-once.ts";
import { nextTurn } from "../ground/next-turn.ts";
import { realTimers, type Timers } from "../ground/timers.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { PresenceView } from "../protocol/server.ts";
import type { StatusStore } from "../storage/ports.ts";
import type { OutageLogger } from "../telemetry/outage.ts";
import { type Change, Contributions, type DeviceRef } from "./contributions.ts";
import { writeView } from "./messages.ts";
import { emptyRecord, revisionOf, withoutRun } from "./record.ts";
import { isUnknown, Records } from "./records.ts";
import { Rounds } from "./rounds.ts";
import { type Asker, Showing, type ShowingOptions } from "./showing.ts";
import { StaleUsers } from "./stale-users.ts";
import { endOf, type PresenceUpdate, statusByHand } from "./status.ts";
import { isVisible, offline } from "./view.ts";

export type { DeviceRef } from "./contributions.ts";
export type { PresenceMessage } from "./messages.ts";
export type { Asker, Cause } from "./showing.ts";
export type { PresenceUpdate } from "./status.ts";

export interface PresenceTrackerOptions
  extends Pick<ShowingOptions, "show" | "showOne" | "tellOwnDevices" | "watchersOf"> {
  registry: PresenceRegistry;
  statuses: StatusStore;
  /** Called with a device of this node that has a newer connection on another one [CON3]. */
  onSuperseded(device: DeviceRef): void;
  settings: Config["presence"];
  timers?: Timers;
  logger: OutageLogger;
}

export interface ConnectResult {
  accepted: boolean;
  /** The connection of the same device whose place it has taken. */
  replaced: Pick<DevicePresence, "connectionId"> | null;
}

type Grace = NonNullable<DevicePresence["leaving"]>;

export class PresenceTracker {
  readonly #records: Records;
  readonly #showing: Showing;
  readonly #here: Contributions;
  readonly #stale: StaleUsers;
  readonly #rounds: Rounds;
  /** Users who have come since the last round, or are seen again. */
  #came = new Set<string>();
  #isStopped = false;

  constructor(private readonly options: PresenceTrackerOptions) {
    const { onSuperseded, registry, settings, timers = realTimers, logger } = options;
    const records = new Records(options);
    this.#records = records;
    this.#stale = new StaleUsers({ recheck: (userIds) => this.#here.recheck(userIds), timers, logger });
    const onStale = (userIds: string[]) => this.#stale.add(userIds);
    this.#here = new Contributions({ registry, records, showing: () => this.#showing, onStale, onSuperseded });
    this.#showing = new Showing({
      ...options,
      records,
      now: () => registry.now(),
      isHere: (userId) => this.#here.has(userId),
      withOwed: (userId, record) => this.#here.withOwed(userId, record),
      onUnknown: onStale,
      onSeenAgain: (userId) => void this.#came.add(userId),
      intervalMs: settings.update_interval,
      timers,
    });
    this.#rounds = new Rounds({
      registry,
      records,
      endGraces: () => this.#endGraces(),
      remove: (dead) => this.#remove(dead),
      recheck: (userIds) => this.#stale.addNow(this.#here.noteRecorded(userIds)),
      seenHere: () => this.#seenHere(this.#here.all()),
      cameHere: () => this.#cameHere(),
      timers,
      logger,
    });
    registry.onWord((word) => {
      if (!this.#isStopped) this.#here.takeWord(word);
    });
    registry.onLoss(() => {
      this.recheckAll();
      this.#rounds.noteRegistryLost();
    });
  }

  /**
   * A device is here. Refused (`accepted: false`) where its user has `max_devices` others on the whole cluster [LIM],
   * unless it comes in `regardless`; while the registry is away those of other nodes keep nobody out.
   * @param isGone whether the connection has ended meanwhile: then nothing is done
   * @returns null where it had ended before it was entered
   */
  connect(
    { userId, deviceId, connectionId, regardless = false }: DeviceRef & { regardless?: boolean },
    isGone = () => false,
  ): AtOnce<ConnectResult | null> {
    const devicesMax = regardless ? Number.POSITIVE_INFINITY : this.options.settings.max_devices;
    const enter = () => atOnce(this.#enter({ userId, deviceId, connectionId }, { devicesMax, isGone }));
    return this.#here.queue.run(userId, enter);
  }

  *#enter(
    { userId, deviceId, connectionId }: DeviceRef,
    { devicesMax, isGone }: { devicesMax: number; isGone: () => boolean },
  ): Steps<ConnectResult | null> {
    const { registry } = this.options;
    const finding = this.#here.find(userId);
    const found = finding instanceof Promise ? yield finding : finding;
    // Its client may have come to another node since: that one must not be taken for the older one [CON3].
    if (isGone()) return null;
    const others = this.#here.of(userId).filter((device) => device.deviceId !== deviceId);
    if (others.filter(({ leaving }) => leaving === undefined).length >= devicesMax)
      return { accepted: false, replaced: null };
    const { run } = registry;
    const newest = { deviceId, connectionId, run, status: "online" as const, connectedAt: registry.now() };
    this.#here.set(userId, [...others, newest]);
    this.#came.add(userId);
    const contributing = this.#here.contribute(userId, found, { newcomer: { deviceId, devicesMax } });
    const { isRefused, replaced } = contributing instanceof Promise ? yield contributing : contributing;
    return { accepted: !isRefused, replaced };
  }

  /** A connection is gone. `clean`: that is final and counts at once; else the device may come back unseen [PRE1]. Never rejects. */
  async disconnect({ clean, ...ref }: DeviceRef & { clean: boolean }): Promise<void> {
    await this.#leave(ref, clean ? null : this.#grace());
  }

  /**
   * Does what a `presence.update` request asks for [PRE2].
   * @throws ProtocolError `invalid_payload`; rejects with the storage's error while it is away
   */
  async update({ userId, deviceId, connectionId }: DeviceRef, wanted: PresenceUpdate): Promise<void> {
    const { registry } = this.options;
    endOf(wanted, registry.now());
    if (wanted.automatic && wanted.status === "invisible")
      throw new ProtocolError("invalid_payload", "a device alone cannot be invisible", { field: "payload.status" });
    await this.#here.queue.run(userId, async () => {
      let found = await this.#here.find(userId);
      let since = revisionOf(found.record);
      let current = (this.#showing.recordOf(userId) ?? found.record).byHand;
      // A user who sets `online` by hand is there, whatever the device's idle detection thought.
      const says = wanted.automatic || wanted.status === "online" ? (wanted.status as DeviceStatus) : null;
      while (true) {
        const is = wanted.automatic ? current : statusByHand(current, wanted, registry.now());
        if (!wanted.automatic) await this.options.statuses.set(userId, is);
        if (is?.status === "invisible") this.#here.noteGoing(userId, registry.now());
        if (says !== null) this.#say(userId, connectionId, says);
        const change: Change = { causeDevice: deviceId, byHand: wanted.automatic ? undefined : { since, is } };
        const { conflict } = await this.#here.contribute(userId, found, change);
        if (conflict === undefined) return;
        found = await this.#records.readOne(userId);
        const there = isUnknown(found) ? conflict : found.record;
        [since, current] = [revisionOf(there), there.byHand];
      }
    });
  }

  /**
   * One view for each user asked for; who is not in `mayBeSeen` reads as offline. Oneself is told the truth [PRE4].
   * @throws Unavailable where of one of them nothing can be known now
   */
  async query(asker: Asker, userIds: string[], mayBeSeen: Set<string>): Promise<PresenceView[]> {
    const asked = [...new Set(userIds)];
    const seen = asked.filter((userId) => userId === asker.userId || mayBeSeen.has(userId));
    const found = seen.length === 0 ? null : await this.#showing.refresh(seen);
    // So that all that is shown later comes after the answer.
    await nextTurn();
    const views = asked.map((userId) => {
      const answer = found?.get(userId);
      if (answer !== undefined) return this.#showing.answerOf(asker, userId, answer);
      // Somebody who may not be seen cannot be told from somebody who has never been here.
      return writeView(userId, offline, null);
    });
    for (const [userId, answer] of found ?? []) this.#showing.noteAnswer(asker, userId, answer);
    return views;
  }

  /** Reads what `snapshotOf` is to show of users whose presence is subscribed to by now. */
  prepareSnapshots(userIds: string[]): Promise<void> {
    return this.#showing.refreshStale([...new Set(userIds)]);
  }

  /**
   * Shows what all who watch the user here hold. Of whom nothing can be known it says offline without `last_seen`, and the
   * truth is shown later. To be sent in the same turn [PRE5].
   */
  snapshotOf(asker: Asker, userId: string): PresenceView {
    return this.#showing.snapshotOf(asker, userId);
  }

  /** The user's devices that can be reached, on all nodes; without those that broke off and may come back. */
  async devicesOf(userId: string): Promise<DevicePresence[]> {
    const found = (await this.options.registry.read([userId])).get(userId);
    const devices = found === undefined ? this.#here.of(userId) : (found.record?.devices ?? []);
    return devices.filter(({ leaving }) => leaving === undefined);
  }

  /** Words may have been lost: whatever was shown here of anybody is compared with the truth. */
  recheckAll(): void {
    // Others wait for users who are here to be put back; and whoever has left counts as here until the registry has it.
    const isElsewhere = (userId: string) => Number(!this.#here.has(userId));
    const stale = this.#showing.markAllStale().sort((one, other) => isElsewhere(one) - isElsewhere(other));
    this.#stale.addNow([...this.#here.owed, ...stale]);
  }

  /** Drops what is remembered of users whom nobody watches any more; called from time to time. */
  forgetUnwatched(): void {
    this.#showing.forgetUnwatched();
  }

  start(): void {
    this.#rounds.start();
  }

  /** Ends what is under way; whoever is still here may come back elsewhere within the grace [DRN]. */
  async stop(): Promise<void> {
    await this.#rounds.stop();
    const own = [...this.#here.all()].flatMap(([userId, devices]) => devices.map((device) => ({ userId, ...device })));
    const left = own.filter(({ leaving }) => leaving === undefined);
    const leaves = left.map((device) => this.#leave(device, this.#grace()));
    this.#isStopped = true;
    await Promise.all([...leaves, this.#here.queue.idle()]);
    this.#stale.stop();
    this.#showing.stop();
  }

  /** `users` and `devices` of the whole cluster, of this node while the registry is away; the others of this node. */
  async stats(): Promise<{ users: number; devices: number; leaving: number; held_back: number }> {
    const here = this.#here.stats();
    const leaving = this.#here.leaving().length;
    const all = await this.options.registry.stats().catch(() => here);
    return { ...all, leaving, held_back: this.#showing.heldBack };
  }

  #endGraces(): void {
    const at = this.options.registry.now();
    for (const device of this.#here.leaving()) if (device.leaving!.until <= at) void this.#leave(device, null);
  }

  #grace(): Grace {
    const since = this.options.registry.now();
    return { since, until: since + this.options.settings.offline_grace };
  }

  /** @param leaving null: the device goes at once */
  async #leave({ userId, connectionId }: DeviceRef, leaving: Grace | null): Promise<void> {
    if (this.#isStopped) return;
    const at = leaving?.since ?? this.options.registry.now();
    await this.#here.queue.run(userId, async () => {
      const devices = this.#here.of(userId);
      const device = devices.find((it) => it.connectionId === connectionId);
      // Replaced, or its grace has made room for another one.
      if (device === undefined) return;
      if (device.leaving === undefined) this.#here.noteGoing(userId, at);
      const others = devices.filter((it) => it !== device);
      this.#here.set(userId, leaving === null ? others : [...others, { ...device, leaving }]);
      try {
        await this.#here.contribute(userId, await this.#here.find(userId));
      } catch {
        // The storage is needed and away.
        this.#stale.add([userId]);
      }
    });
  }

  /** Takes out of the record as the registry has it, whatever this node has heard of it, what a dead run of a node has left. */
  async #remove({ userId, run, seenAt }: LeftBehind): Promise<void> {
    const found = { mark: "", version: -1, record: emptyRecord };
    const step = (record: PresenceRecord) => ({ put: withoutRun(record, run, seenAt) });
    await this.#here.queue.run(userId, () => this.#here.apply(userId, found, step));
  }

  #say(userId: string, connectionId: string, status: DeviceStatus): void {
    const said = (device: DevicePresence) => (device.connectionId === connectionId ? { ...device, status } : device);
    this.#here.set(userId, this.#here.of(userId).map(said));
  }

  #cameHere(): string[] {
    const came = this.#came;
    this.#came = new Set();
    return this.#seenHere([...came].map((userId) => [userId, this.#here.of(userId)]));
  }

  /** Finds those of the users whom others see by devices that are here. */
  #seenHere(users: Iterable<[userId: string, devices: readonly DevicePresence[]]>): string[] {
    const at = this.options.registry.now();
    const isSeen = ([userId, devices]: [string, readonly DevicePresence[]]) => {
      const record = this.#showing.recordOf(userId);
      return devices.some(({ leaving }) => leaving === undefined) && record !== null && isVisible(record, at);
    };
    return [...users].filter(isSeen).map(([userId]) => userId);
  }
}
