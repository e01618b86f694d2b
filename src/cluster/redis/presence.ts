/** Who is connected on which node, in Redis; what this node knows by itself while Redis is away [PRE1]. */
import type { DevicePresence, DeviceStatus, PresenceRegistry } from "../ports.ts";
import type { Commands } from "./commands.ts";
import { bucketOf, buckets, type Keys } from "./keys.ts";
import type { RedisNodeRegistry } from "./nodes.ts";
import { type DeviceKey, OwnDevices } from "./own-devices.ts";
import { addScript, ownedScript, removeScript, restoreScript, sweepScript, updateScript } from "./presence-scripts.ts";
import { RedisUnavailable } from "./unavailable.ts";

export interface RedisPresenceRegistryOptions {
  commands: Commands;
  keys: Keys;
  nodes: Pick<RedisNodeRegistry, "dead" | "remove" | "areAllListed">;
  /** Names this run of this node. */
  instance: string;
  /** Milliseconds since the epoch. */
  now: () => number;
  deadAfterMs: number;
}

/**
 * `mayLack`: Redis may not have all devices of this node; else it has, and this node may only not know of newer ones. Either
 * way Redis may still have some that left: a replica that becomes the master may not have heard of it.
 */
interface Doubt {
  mayLack: boolean;
}

/** Entries or users that one script works on; each keeps Redis for well under a millisecond. */
const share = 100;

export class RedisPresenceRegistry implements PresenceRegistry {
  readonly #own = new OwnDevices();
  /** Buckets that are looked through at the next heartbeat. A doubt that comes up meanwhile is another one. */
  readonly #doubtful = new Map<number, Doubt>();
  /** Buckets that could not be read when they were last: of a Redis Cluster one part alone may be away. */
  readonly #unread = new Set<number>();
  /** Users swept whom nobody has been told of yet: Redis names them once only. */
  #lost: string[] = [];
  #onRestored: (userIds: string[]) => void = () => {};
  #onSuperseded: (devices: DevicePresence[]) => void = () => {};
  /** Before this moment (ms) other nodes count as alive: they had no Redis to say so either. */
  #trustAfter = Number.POSITIVE_INFINITY;

  constructor(private readonly options: RedisPresenceRegistryOptions) {
    options.commands.onReady(() => {
      this.#trustAfter = options.now() + options.deadAfterMs;
      for (const bucket of buckets) this.#doubtful.set(bucket, { mayLack: this.#own.usersCount(bucket) > 0 });
    });
  }

  /** While Redis is away the limit and `first` are those of this node alone: nobody is kept out for it. */
  async add(entry: DevicePresence, devicesMax: number) {
    const { commands, instance, keys } = this.options;
    const { userId, deviceId } = entry;
    const bucket = bucketOf(userId);
    const before = this.#own.ofUser(userId);
    const device = { entry: { ...entry }, state: "coming" as "coming" | "here" };
    this.#own.set(device);
    try {
      const [added, size, old] = (await commands.run(
        addScript,
        [keys.devices(userId), keys.counts(bucket)],
        [deviceId, this.#write(entry), devicesMax, instance, keys.ownedPrefix(bucket), userId],
      )) as [number, number, string | null | undefined];
      if (added === 0) {
        this.#own.delete(entry);
        return { added: false, first: false, replaced: null };
      }
      device.state = "here";
      return { added: true, first: size === 0, replaced: old ? readEntry(old) : null };
    } catch (error) {
      if (!(error instanceof RedisUnavailable)) {
        this.#own.delete(entry);
        throw error;
      }
      const replaced = before.find((it) => it.deviceId === deviceId) ?? null;
      if (replaced === null && before.length >= devicesMax) {
        this.#own.delete(entry);
        return { added: false, first: false, replaced: null };
      }
      device.state = "here";
      this.#doubt(bucket);
      return { added: true, first: before.length === 0, replaced };
    }
  }

  async update({ status, ...key }: DeviceKey & { status: DeviceStatus }): Promise<boolean> {
    const own = this.#own.get(key);
    try {
      const { commands, keys } = this.options;
      const arguments_ = [key.deviceId, key.connectionId, status];
      const answer = await commands.run(updateScript, [keys.devices(key.userId)], arguments_);
      const bucket = bucketOf(key.userId);
      const isLost = answer !== 1 && own !== undefined && this.#doubtful.get(bucket)?.mayLack === true;
      // Put back as it is from now on, also where it is being put back as it was.
      if (isLost) this.#doubt(bucket);
      const updated = answer === 1 || isLost;
      if (updated && own !== undefined) own.entry.status = status;
      return updated;
    } catch (error) {
      if (!(error instanceof RedisUnavailable) || own === undefined) throw error;
      own.entry.status = status;
      this.#doubt(bucketOf(key.userId));
      return true;
    }
  }

  /** @throws RedisUnavailable: whether it was the user's last device is not for this node alone to say */
  async remove(key: DeviceKey): Promise<{ removed: boolean; last: boolean }> {
    const own = this.#own.get(key);
    if (own !== undefined) own.state = "leaving";
    try {
      const [outcome, left] = await this.#removeThere(key);
      this.#own.delete(key);
      // What Redis has lost, took out at a try that was not answered, or swept by mistake, nobody else may tell of.
      const removed = outcome === "removed" || (outcome === "missing" && own !== undefined);
      return { removed, last: removed && left === 0 };
    } catch (error) {
      if (own !== undefined) own.state = "here";
      throw error;
    }
  }

  /** Of users whom Redis cannot be asked about: the devices on this node. */
  async devicesOf(userIds: string[]): Promise<Map<string, DevicePresence[]>> {
    const found = new Map<string, DevicePresence[]>();
    await Promise.all(
      userIds.map(async (userId) => {
        const devices = await this.#devicesOf(userId);
        if (devices.length > 0) found.set(userId, devices);
      }),
    );
    return found;
  }

  async sweep(): Promise<string[]> {
    const { commands, nodes, now } = this.options;
    if (!commands.isReady || now() < this.#trustAfter) return [];
    try {
      for (const instance of await nodes.dead()) {
        await Promise.all(buckets.map((bucket) => this.#sweepBucket(bucket, instance)));
        await nodes.remove(instance);
      }
    } catch (error) {
      if (this.#lost.length === 0) throw error;
    }
    return this.#lost.splice(0);
  }

  /** Of the whole cluster; of this node while Redis is away. */
  async stats(): Promise<{ users: number; devices: number }> {
    const { commands, keys } = this.options;
    try {
      const counts = await Promise.all(
        buckets.map((bucket) => commands.call("hmget", keys.counts(bucket), "users", "devices")),
      );
      const sum = (field: number) => (counts as (string | null)[][]).reduce((all, of) => all + Number(of[field]), 0);
      return { users: sum(0), devices: sum(1) };
    } catch (error) {
      if (!(error instanceof RedisUnavailable)) throw error;
      return this.#own.count();
    }
  }

  /** Puts back this node's devices, and takes out what it has not, where Redis may have others than this node. @throws RedisUnavailable */
  async restore(): Promise<void> {
    await Promise.all(buckets.map((it) => this.#restoreBucket(it)));
  }

  isWhole(userIds: string[]): boolean {
    if (!this.options.commands.isReady || this.#doubtful.values().some(({ mayLack }) => mayLack)) return false;
    return !userIds.some((userId) => this.#unread.has(bucketOf(userId)));
  }

  /** A node is on the list again with the heartbeat that puts its devices back. */
  isSettled(): boolean {
    return this.options.nodes.areAllListed;
  }

  recheck(): void {
    for (const bucket of buckets) {
      this.#doubtful.set(bucket, { mayLack: this.#doubtful.get(bucket)?.mayLack === true });
    }
  }

  onRestored(listener: (userIds: string[]) => void): void {
    this.#onRestored = listener;
  }

  onSuperseded(listener: (devices: DevicePresence[]) => void): void {
    this.#onSuperseded = listener;
  }

  /** Whether no device of this node is left. */
  get isEmpty(): boolean {
    return this.#own.isEmpty;
  }

  async #devicesOf(userId: string): Promise<DevicePresence[]> {
    const bucket = bucketOf(userId);
    try {
      const { commands, keys } = this.options;
      const texts = (await commands.call("hvals", keys.devices(userId))) as string[];
      this.#unread.delete(bucket);
      return texts.map(readEntry);
    } catch (error) {
      if (!(error instanceof RedisUnavailable)) throw error;
      this.#unread.add(bucket);
      return this.#own.ofUser(userId).map((entry) => ({ ...entry }));
    }
  }

  #doubt(bucket: number): void {
    this.#doubtful.set(bucket, { mayLack: true });
  }

  async #sweepBucket(bucket: number, instance: string): Promise<void> {
    const { commands, keys } = this.options;
    for (;;) {
      const [left, ...userIds] = (await commands.run(
        sweepScript,
        [keys.counts(bucket), keys.owned(bucket, instance)],
        [keys.devicesPrefix(bucket), instance, share],
      )) as [number, ...string[]];
      this.#lost.push(...userIds);
      if (left === 0) return;
    }
  }

  async #restoreBucket(bucket: number): Promise<void> {
    const owned = this.options.keys.owned(bucket, this.options.instance);
    const entries = this.#own.ofBucket(bucket);
    const doubt = this.#doubtful.get(bucket);
    const usersMost = this.#own.usersCount(bucket);
    const usersThere = Number(await this.options.commands.call("scard", owned));
    // Who comes or leaves meanwhile is taken in here before, and let go of after, Redis has done it.
    const hasStrangers = usersThere > Math.max(usersMost, this.#own.usersCount(bucket));
    const lacksSome = usersThere < new Set(entries.map(({ userId }) => userId)).size;
    if (usersThere > 0 && (doubt !== undefined || hasStrangers)) await this.#takeOutStrangers(bucket, owned);
    if (doubt !== undefined || lacksSome) await this.#putBack(bucket, owned, entries);
    if (this.#doubtful.get(bucket) === doubt) this.#doubtful.delete(bucket);
  }

  /** Nobody else would: this node lives, so no other sweeps what is under its name. */
  async #takeOutStrangers(bucket: number, owned: string): Promise<void> {
    const { commands, instance, keys } = this.options;
    const users = (await commands.call("smembers", owned)) as string[];
    for (let start = 0; start < users.length; start += share) {
      const asked = [keys.devicesPrefix(bucket), instance, ...users.slice(start, start + share)];
      const entries = ((await commands.run(ownedScript, [owned], asked)) as string[]).map(readEntry);
      // Where the device is here by another connection that one takes its place.
      const strangers = entries.filter((entry) => !this.#own.has(entry));
      await Promise.all(strangers.map((entry) => this.#removeThere(entry)));
      if (strangers.length > 0) this.#onRestored([...new Set(strangers.map(({ userId }) => userId))]);
    }
  }

  async #putBack(bucket: number, owned: string, entries: DevicePresence[]): Promise<void> {
    const { commands, keys } = this.options;
    for (let start = 0; start < entries.length; start += share) {
      // Whoever has begun to leave meanwhile is not put back.
      const some = entries.slice(start, start + share).filter((entry) => this.#own.get(entry)?.state === "here");
      if (some.length === 0) continue;
      const texts = some.map((entry) => this.#write(entry));
      const prefixes = [keys.devicesPrefix(bucket), keys.ownedPrefix(bucket)];
      const [missing, superseded] = (await commands.run(
        restoreScript,
        [keys.counts(bucket), owned],
        [...prefixes, ...texts],
      )) as [string[], string[]];
      if (missing.length > 0) this.#onRestored(missing);
      const gone = some.filter(({ connectionId }) => superseded.includes(connectionId));
      for (const device of gone) this.#own.delete(device);
      if (gone.length > 0) this.#onSuperseded(gone);
    }
  }

  /** @throws RedisUnavailable */
  async #removeThere({ userId, deviceId, connectionId }: DeviceKey) {
    const { commands, keys } = this.options;
    const bucket = bucketOf(userId);
    return (await commands.run(
      removeScript,
      [keys.devices(userId), keys.counts(bucket)],
      [deviceId, connectionId, keys.ownedPrefix(bucket), userId],
    )) as ["removed" | "other" | "missing", number];
  }

  #write(entry: DevicePresence): string {
    return JSON.stringify({ ...entry, owner: this.options.instance });
  }
}

function readEntry(text: string): DevicePresence {
  const { owner: _, ...entry } = JSON.parse(text) as DevicePresence & { owner: string };
  return entry;
}
