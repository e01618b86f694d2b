/** Keeps track of whose devices are connected and what they say, and has everybody told who should be [PRE]. */
import type { DevicePresence, PresenceRegistry } from "../cluster/ports.ts";
import type { Config } from "../config/schema.ts";
import { KeyedQueue } from "../ground/keyed-queue.ts";
import { realTimers, type Timers } from "../ground/timers.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { StatusStore } from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import { warnsOnce } from "../telemetry/outage.ts";
import { type Cause, createAnnouncer, type Presence, type PresenceMessage } from "./announcer.ts";
import { inBatches } from "./batches.ts";
import { createDepartures, type DeviceRef } from "./departures.ts";
import { looksTheSame, shownToOthers, shownToSelf } from "./join.ts";
import { createQuestions, type Questions } from "./questions.ts";
import { createShowing, type Recipients, type Watching } from "./showing.ts";
import { endOf, type PresenceUpdate, statusByHand } from "./status.ts";
import { createSweep } from "./sweep.ts";

export type { Cause, PresenceMessage } from "./announcer.ts";
export type { DeviceRef } from "./departures.ts";
export type { PresenceUpdate } from "./status.ts";

export interface PresenceTrackerDeps {
  nodeId: string;
  registry: PresenceRegistry;
  statuses: StatusStore;
  /** To others, on the topic `presence:<user>`, ephemeral, on this node, the others, or all. */
  publish(topic: string, message: PresenceMessage, to: Recipients): void;
  /** How many subscriptions to the user's presence there are on this node. */
  watchersOf(userId: string): number;
  /** To the user's own devices, on the topic `user:<id>`, ephemeral. */
  tellOwnDevices(userId: string, message: PresenceMessage, cause?: Cause): void;
  settings: Config["presence"];
  /** Milliseconds since the epoch. */
  now: () => number;
  timers?: Timers;
  logger: Logger;
}

export interface Entered {
  accepted: boolean;
  /** The entry of the same device whose ref it has taken. */
  replaced: DevicePresence | null;
}

export interface PresenceTracker extends Questions, Watching {
  /**
   * A device is here. Refused (`accepted: false`) where its user has `max_devices` others on the whole cluster [LIM],
   * unless it comes in `regardless`.
   * @param isGone whether the connection has ended meanwhile: then nothing is done
   * @returns null where it had ended before it was entered
   */
  connect(ref: DeviceRef & { regardless?: boolean }, isGone?: () => boolean): Promise<Entered | null>;
  /** A connection is gone. `clean`: closed with 1000 or 1001, which counts at once [PRE1]. Never rejects. */
  disconnect(departure: DeviceRef & { clean: boolean }): Promise<void>;
  /**
   * A `presence.update` request [PRE2].
   * @throws ProtocolError `invalid_payload`; rejects with the store's or the registry's error while they are away
   */
  update(who: DeviceRef, update: PresenceUpdate): Promise<void>;
  /** The user's devices that can be reached, on the whole cluster; without those that broke off here and may come back. */
  deviceIdsOf(userId: string): Promise<string[]>;
  /** What others said, or were told, may have been lost: whatever was shown here of anybody is compared with the truth. */
  lookAgain(): void;
  start(): void;
  /** Draining: what is under way ends, and no one is shown offline by it [DRN]. */
  stop(): Promise<void>;
  /** `users` and `devices` of the whole cluster; the others of this node. */
  stats(): Promise<{ users: number; devices: number; leaving: number; heldBack: number }>;
}

const retryDelayMs = 1_000;

export function createPresenceTracker(deps: PresenceTrackerDeps): PresenceTracker {
  const { nodeId, registry, settings, now, timers = realTimers, logger } = deps;
  const statuses = inBatches(deps.statuses);
  const queue = new KeyedQueue();
  const storing = warnsOnce(logger, "last seen could not be stored", "last seen is stored again");
  const reading = warnsOnce(logger, "presence could not be read", "presence is read again");

  async function isStillGone(userId: string): Promise<boolean> {
    return !(await registry.devicesOf([userId])).has(userId);
  }

  async function presenceOf(userId: string): Promise<Presence> {
    const [devices, stored] = await Promise.all([registry.devicesOf([userId]), statuses.get([userId])]);
    return { devices: devices.get(userId) ?? [], byHand: stored.get(userId)?.status ?? null };
  }

  /**
   * What a change of one device has led to; null: it was not there, or is not any more. Other nodes may have changed other
   * devices since `before` was read: where nothing looks different from then, what this device alone has changed counts.
   */
  async function afterChange(
    { userId, deviceId }: Pick<DeviceRef, "userId" | "deviceId">,
    before: Presence,
    { was, is }: { was: DevicePresence | null; is: DevicePresence | null },
  ): Promise<{ before: Presence; after: Presence }> {
    const all = (await registry.devicesOf([userId])).get(userId) ?? [];
    const others = all.filter((device) => device.deviceId !== deviceId);
    const together = (own: DevicePresence | null) => ({ ...before, devices: own === null ? others : [...others, own] });
    const after = together(is);
    const shown = (presence: Presence) => shownToSelf(presence.devices, presence.byHand);
    return { before: looksTheSame(shown(before), shown(after)) ? together(was) : before, after };
  }

  const announcer = createAnnouncer({
    publish: (topic, message, cause) => showing.tell(topic, message, cause),
    tellOwnDevices: deps.tellOwnDevices,
    setLastSeen: (userId, at) => noteLastSeen([userId], at),
    isStillGone,
    inTurnWithView(userId, use) {
      queue
        .run(userId, async () => {
          const { devices, byHand } = await presenceOf(userId);
          use(shownToOthers(devices, byHand));
        })
        .catch((error) => {
          reading.began(error, { userId });
          use(null);
          showing.doubt([userId]);
        });
    },
    intervalMs: settings.update_interval,
    now,
    timers,
  });

  const showing = createShowing({
    ...deps,
    statuses,
    queue,
    timers,
    isHeldBack: (userId) => announcer.isHeldBack(userId),
  });
  // They may have been taken for gone meanwhile, by anybody.
  registry.onRestored?.((userIds) => showing.doubt(userIds));

  /** Not worth failing for: that somebody is gone matters more than since when. */
  async function noteLastSeen(userIds: string[], at: number): Promise<void> {
    await storing.attempt(statuses.setLastSeen(userIds, at), { users: userIds.length });
  }

  const departures = createDepartures({
    leave: (ref) => queue.run(ref.userId, () => leave(ref)),
    outage: warnsOnce(logger, "a device could not be taken out of the presence registry", "devices leave it again"),
    retryDelayMs,
    timers,
  });

  async function leave(ref: DeviceRef): Promise<void> {
    const { userId } = ref;
    const devices = (await registry.devicesOf([userId])).get(userId) ?? [];
    const { removed, last } = await registry.remove(ref);
    if (!removed) return;
    let stored: Awaited<ReturnType<StatusStore["get"]>>;
    try {
      stored = await statuses.get([userId]);
      reading.ended();
    } catch (error) {
      reading.began(error, { userId });
      // Without the status nobody knows whether others saw the user; that it is offline now is true for both.
      if (!last) showing.doubt([userId]);
      else if (await isStillGone(userId)) announcer.announceOffline(userId, null);
      return;
    }
    // The registry may have lost it, or have let go of it at an earlier try: others know it all the same.
    const gone: DevicePresence = { ...ref, nodeId, status: "online", connectedAt: now() };
    const was = devices.find((device) => device.connectionId === ref.connectionId) ?? gone;
    const before = { devices: [...new Set([...devices, was])], byHand: stored.get(userId)?.status ?? null };
    // What the registry says of first and last is agreed on by all nodes; what was read before may be older.
    if (last) return announcer.announce({ userId, before, after: { ...before, devices: [] } });
    const change = await afterChange(ref, before, { was, is: null });
    // Where nobody is left by now, another node has taken out the last one and tells of it.
    if (change.after.devices.length > 0) await announcer.announce({ userId, ...change });
  }

  async function connect(
    { regardless = false, ...ref }: DeviceRef & { regardless?: boolean },
    isGone: () => boolean,
  ): Promise<Entered | null> {
    const devicesMax = regardless ? Number.MAX_SAFE_INTEGER : settings.max_devices;
    const { userId, deviceId, connectionId } = ref;
    const before = await presenceOf(userId);
    // Its client may have come to another node since: that one must not be taken for the older one [CON3].
    if (isGone()) return null;
    const known = before.devices.find((device) => device.deviceId === deviceId);
    // A device that comes back is what it was: its reconnect is not seen.
    const status = known?.status ?? "online";
    const entry: DevicePresence = { userId, deviceId, connectionId, nodeId, status, connectedAt: now() };
    let others = before.devices.filter((device) => device.deviceId !== deviceId);
    let answer = await registry.add(entry, devicesMax);
    let madeRoom = false;
    for (const device of before.devices) {
      if (answer.added) break;
      // Only in its grace, not connected: it must not keep out one that is.
      if (!departures.has(device.connectionId)) continue;
      madeRoom = true;
      others = others.filter((other) => other !== device);
      await registry.remove(device);
      // Not before it is out: where the registry cannot let go of it now, its departure tries again.
      departures.remove(device.connectionId);
      answer = await registry.add(entry, devicesMax);
    }
    if (!answer.added) {
      if (madeRoom) await announcer.announce({ userId, before, after: { ...before, devices: others } });
      return { accepted: false, replaced: null };
    }
    if (answer.replaced !== null) departures.remove(answer.replaced.connectionId);

    if (answer.first) others = [];
    const after = { devices: [...others, entry], byHand: before.byHand };
    const appeared = answer.first && !madeRoom;
    if (appeared) await announcer.announce({ userId, before: { ...before, devices: [] }, after });
    // One that is back as it was has changed nothing, whatever others do meanwhile.
    else if (known === undefined && others.length > 0)
      await announcer.announce({ userId, ...(await afterChange(ref, before, { was: null, is: entry })) });
    // Where nothing was read but another node was first, that node has told of it.
    else if (before.devices.length > 0) await announcer.announce({ userId, before, after });
    return { accepted: true, replaced: answer.replaced };
  }

  async function updateDevice(who: DeviceRef, status: DevicePresence["status"], before: Presence) {
    const { userId, deviceId, connectionId } = who;
    const was = before.devices.find((device) => device.connectionId === connectionId);
    if (was === undefined || was.status === status) return { before, after: before };
    if (!(await registry.update({ userId, deviceId, connectionId, status }))) return { before, after: before };
    return afterChange(who, before, { was, is: { ...was, status } });
  }

  async function update(who: DeviceRef, wanted: PresenceUpdate): Promise<void> {
    const { userId, deviceId } = who;
    const stored = await presenceOf(userId);
    let change = { before: stored, after: stored };
    if (wanted.automatic) {
      if (wanted.status === "invisible") {
        throw new ProtocolError("invalid_payload", "a device alone cannot be invisible", { field: "payload.status" });
      }
      change = await updateDevice(who, wanted.status, stored);
    } else {
      const byHand = statusByHand(stored.byHand, wanted, now());
      if (byHand !== null || stored.byHand !== null) await statuses.set(userId, byHand);
      // Whoever sets `online` by hand is there, whatever the device's idle detection thought.
      if (wanted.status === "online") change = await updateDevice(who, "online", stored);
      change = { ...change, after: { ...change.after, byHand } };
    }
    await announcer.announce({ userId, ...change, cause: { userId, deviceId } });
  }

  const questions = createQuestions({ registry, statuses, tellLater: (userIds) => showing.doubtHere(userIds) });
  const sweep = createSweep({ registry, statuses, announcer, queue, presenceOf, noteLastSeen, now, timers, logger });

  return {
    connect: (ref, isGone = () => false) => queue.run(ref.userId, () => connect(ref, isGone)),
    disconnect({ userId, deviceId, connectionId, clean }) {
      return departures.add({ userId, deviceId, connectionId }, clean ? 0 : settings.offline_grace);
    },
    async update(who, wanted) {
      endOf(wanted, now());
      try {
        await queue.run(who.userId, () => update(who, wanted));
      } catch (error) {
        // It may have been stored all the same; then nobody has been told, and the next try would find nothing new.
        if (!(error instanceof ProtocolError)) showing.doubt([who.userId]);
        throw error;
      }
    },
    ...questions,
    async deviceIdsOf(userId) {
      const devices = await registry.devicesOf([userId]);
      const here = (devices.get(userId) ?? []).filter((device) => !departures.has(device.connectionId));
      return here.map((device) => device.deviceId);
    },
    hear: showing.hear,
    noteShown: showing.noteShown,
    forgetUnwatched: showing.forgetUnwatched,
    lookAgain() {
      showing.doubtHere();
      registry.recheck?.();
    },
    start: () => sweep.start(),
    async stop() {
      showing.stop();
      departures.stop();
      // What has been taken out of a store by now is told of nowhere else.
      await sweep.stop();
      await queue.idle();
      announcer.stop();
    },
    async stats() {
      return { ...(await registry.stats()), leaving: departures.size(), heldBack: announcer.size() };
    },
  };
}
