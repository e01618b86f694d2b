/** Changes a user's presence record: pure steps that each node runs on the one record of all nodes [PRE1] [PRE2]. */
import type { DevicePresence, PresenceRecord } from "../cluster/ports.ts";
import type { UserStatus } from "../storage/ports.ts";
import { isVisible } from "./view.ts";

export const emptyRecord: PresenceRecord = { devices: [], byHand: null, lastSeenAt: null };

/** All that one run of a node has of a user. */
export interface Contribution {
  run: string;
  devices: readonly DevicePresence[];
  /** The device of `devices` that is just coming: it is the newest, goes on as what it was, and may be one too many. */
  newcomer?: { deviceId: string; devicesMax: number } | undefined;
  now: number;
  /** When others last saw what has gone under the run since; undefined: the record says so, or it goes now. */
  seenAt?: number | undefined;
}

export interface ContributionResult {
  /** Null: the record says so already. */
  put: PresenceRecord | null;
  /** Stands under the run now. */
  devices: readonly DevicePresence[];
  /** The entry of the newcomer's device whose place it has taken. */
  replaced: DevicePresence | null;
  /** Devices of the run that have a newer connection at another one: they are not put in [CON3]. */
  superseded: DevicePresence[];
  /** The newcomer would be one too many: nothing is changed [LIM]. */
  isRefused: boolean;
}

/** Makes `devices`, and nothing else, stand under their run; saying the same twice changes nothing. */
export function contribute(record: PresenceRecord, contribution: Contribution): ContributionResult {
  const { run, devices, newcomer, now, seenAt } = contribution;
  const others = record.devices.filter((device) => device.run !== run);
  const recordedOf = finder(record.devices);
  const own: DevicePresence[] = [];
  const superseded: DevicePresence[] = [];
  let replaced: DevicePresence | null = null;
  for (const device of devices) {
    const known = recordedOf(device.deviceId);
    const isOther = known !== undefined && known.connectionId !== device.connectionId;
    if (device.deviceId === newcomer?.deviceId && device.leaving === undefined) {
      if (isOther) replaced = known;
      const connectedAt = isOther ? Math.max(device.connectedAt, known.connectedAt + 1) : device.connectedAt;
      own.push({ ...device, connectedAt, status: isOver(known, now) ? device.status : known.status });
    } else if (isOther && known.run !== run && isNewer(known, device)) superseded.push(device);
    else own.push(device);
  }
  const ownOf = finder(own);
  const all = makeRoom([...others.filter(({ deviceId }) => ownOf(deviceId) === undefined), ...own], newcomer);
  if (all === null) {
    const devices = own.filter(({ deviceId }) => deviceId !== newcomer?.deviceId);
    return { put: null, devices, replaced: null, superseded, isRefused: true };
  }
  // The storage, of which a lost record is made anew, may know less than the node.
  const lastSeenAt = seenAt === undefined ? record.lastSeenAt : Math.max(record.lastSeenAt ?? 0, seenAt);
  const put = settle(record, { ...record, lastSeenAt, devices: inOrder(all) }, seenAt ?? now);
  return { put, devices: all.filter((device) => device.run === run), replaced, superseded, isRefused: false };
}

/** Takes out what a dead run of a node left behind; its devices were there until its last sign of life. */
export function withoutRun(record: PresenceRecord, run: string, seenAt: number): PresenceRecord | null {
  const devices = record.devices.filter((device) => device.run !== run);
  return settle(record, { ...record, devices }, seenAt);
}

/** Sets the status by hand; others last saw somebody who turns invisible at this moment. */
export function withStatus(record: PresenceRecord, byHand: UserStatus | null, now: number): PresenceRecord {
  const statusRevision = revisionOf(record) + 1;
  return settle(record, { ...record, byHand, statusRevision }, now)!;
}

export const revisionOf = ({ statusRevision = 0 }: PresenceRecord) => statusRevision;

/**
 * Notes when others last saw the user, where that is over for a device that they saw. @param at when what goes without
 * having broken off before was last there
 * @returns null where nothing differs
 */
function settle(before: PresenceRecord, after: PresenceRecord, at: number): PresenceRecord | null {
  let { lastSeenAt } = after;
  const seen = (moment: number) => {
    lastSeenAt = Math.max(lastSeenAt ?? 0, moment);
  };
  if (before.devices.length > 0 && isVisible(before, at)) {
    const thereOf = finder(after.devices);
    for (const device of before.devices) {
      if (device.leaving !== undefined) continue;
      const is = thereOf(device.deviceId);
      if (is === undefined) seen(at);
      else if (is.leaving !== undefined) seen(is.leaving.since);
    }
    if (after.devices.length > 0 && !isVisible(after, at)) seen(at);
  }
  const next = { ...after, lastSeenAt };
  const hasAsMany = next.devices.length === before.devices.length;
  return hasAsMany && Bun.deepEquals(next, before) ? null : next;
}

/** Tells whether a device has not come back in its grace, though nobody has taken it out yet: it goes on as nothing. */
const isOver = (device: DevicePresence | undefined, now: number): device is undefined =>
  device === undefined || (device.leaving !== undefined && device.leaving.until <= now);

/** Finds devices by their ids, at once also among a hundred, all of which may leave together; nearly all users have a few. */
function finder(devices: readonly DevicePresence[]): (deviceId: string) => DevicePresence | undefined {
  if (devices.length <= fewDevices) return (deviceId) => devices.find((device) => device.deviceId === deviceId);
  const byId = new Map(devices.map((device) => [device.deviceId, device]));
  return (deviceId) => byId.get(deviceId);
}

const fewDevices = 8;

/** Lets devices in their grace make room for a newcomer, the one that broke off first before the others. @returns null where that is not enough */
function makeRoom(devices: DevicePresence[], newcomer: Contribution["newcomer"]): DevicePresence[] | null {
  const tooMany = newcomer === undefined ? 0 : devices.length - newcomer.devicesMax;
  if (tooMany <= 0) return devices;
  const leaving = devices.filter((device) => device.leaving !== undefined);
  if (leaving.length < tooMany) return null;
  leaving.sort((one, other) => one.leaving!.since - other.leaving!.since);
  const goes = new Set(leaving.slice(0, tooMany));
  return devices.filter((device) => !goes.has(device));
}

const isNewer = (one: DevicePresence, other: DevicePresence) =>
  one.connectedAt === other.connectedAt ? one.connectionId > other.connectionId : one.connectedAt > other.connectedAt;

/** One order whichever node writes, so that records that say the same are the same. */
const inOrder = (devices: DevicePresence[]) =>
  devices.length < 2
    ? devices
    : devices.toSorted((one, other) => (one.deviceId < other.deviceId ? -1 : one.deviceId > other.deviceId ? 1 : 0));
