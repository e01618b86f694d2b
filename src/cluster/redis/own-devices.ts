/** The devices that are connected to this node, as Redis should have them: what it is asked while Redis is away. */
import type { DevicePresence } from "../ports.ts";
import { bucketOf } from "./keys.ts";

/** `coming`: not yet let in. `leaving`: being taken out. Only `here` is put back where Redis has lost it. */
export interface OwnDevice {
  entry: DevicePresence;
  state: "coming" | "here" | "leaving";
}

export interface DeviceKey {
  userId: string;
  deviceId: string;
  connectionId: string;
}

/** Holds no more than there are connections. */
export class OwnDevices {
  readonly #users = new Map<number, Map<string, Map<string, OwnDevice>>>();

  set(device: OwnDevice): void {
    const { userId, deviceId } = device.entry;
    const bucket = bucketOf(userId);
    const users = this.#users.get(bucket) ?? new Map<string, Map<string, OwnDevice>>();
    const devices = users.get(userId) ?? new Map<string, OwnDevice>();
    this.#users.set(bucket, users.set(userId, devices.set(deviceId, device)));
  }

  /** The device where the connection is its newest. */
  get({ userId, deviceId, connectionId }: DeviceKey): OwnDevice | undefined {
    const device = this.#users.get(bucketOf(userId))?.get(userId)?.get(deviceId);
    return device?.entry.connectionId === connectionId ? device : undefined;
  }

  /** Whether the device is here, or coming or leaving, by whatever connection. */
  has({ userId, deviceId }: Omit<DeviceKey, "connectionId">): boolean {
    return this.#users.get(bucketOf(userId))?.get(userId)?.has(deviceId) === true;
  }

  delete(key: DeviceKey): void {
    if (this.get(key) === undefined) return;
    const users = this.#users.get(bucketOf(key.userId))!;
    const devices = users.get(key.userId)!;
    devices.delete(key.deviceId);
    if (devices.size > 0) return;
    users.delete(key.userId);
    if (users.size === 0) this.#users.delete(bucketOf(key.userId));
  }

  /** Those of a user that are not still coming. */
  ofUser(userId: string): DevicePresence[] {
    const devices = this.#users.get(bucketOf(userId))?.get(userId) ?? new Map<string, OwnDevice>();
    return [...devices.values()].flatMap(({ entry, state }) => (state === "coming" ? [] : [entry]));
  }

  get isEmpty(): boolean {
    return this.#users.size === 0;
  }

  /** Users of a bucket, also those of whom no device is here yet, or is here for long. */
  usersCount(bucket: number): number {
    return this.#users.get(bucket)?.size ?? 0;
  }

  /** Those of a bucket that are `here`. */
  ofBucket(bucket: number): DevicePresence[] {
    const users = this.#users.get(bucket)?.values() ?? [];
    return [...users].flatMap((devices) =>
      [...devices.values()].flatMap(({ entry, state }) => (state === "here" ? [entry] : [])),
    );
  }

  count(): { users: number; devices: number } {
    let [users, devices] = [0, 0];
    for (const bucket of this.#users.values()) {
      users += bucket.size;
      for (const ofUser of bucket.values()) devices += ofUser.size;
    }
    return { users, devices };
  }
}
