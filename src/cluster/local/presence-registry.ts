/** Holds the presence records of a node that is alone, in memory, and over its restart in the storage [PRE1]. */
import { pages } from "../../ground/pages.ts";
import { Unavailable } from "../../ground/unavailable.ts";
import type { PresentStore } from "../../storage/present-store.ts";
import type {
  DevicePresence,
  LeftBehind,
  PresenceRecord,
  PresenceRegistry,
  PresenceStep,
  PresenceTransactOptions,
  PresenceWord,
  VersionedRecord,
} from "../ports.ts";

export interface LocalPresenceOptions {
  /** Names this run of the node. */
  run: string;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Keeps who is here while the node is restarted; without it all have gone then. */
  store?: PresentStore | undefined;
}

/** A record without devices is dropped at the second look, this long (ms) after the first. */
const keptMs = 120_000;
/** Users of one statement. */
const atOnce = 500;

export class LocalPresenceRegistry implements PresenceRegistry {
  readonly #records = new Map<string, VersionedRecord & { record: PresenceRecord }>();
  /** Users without devices, with the moment (ms) since when; the earliest first. */
  readonly #empty = new Map<string, number>();
  /** Users with devices of the run before, whose grace is not over yet. */
  readonly #inherited = new Set<string>();
  #version = 0;
  #devices = 0;
  #onWord: (word: PresenceWord) => void = () => {};

  constructor(private readonly options: LocalPresenceOptions) {}

  get run(): string {
    return this.options.run;
  }

  now(): number {
    return this.options.now();
  }

  transact<Result>(
    userId: string,
    step: PresenceStep<Result>,
    { known, causeDevice }: PresenceTransactOptions = {},
  ): { now: VersionedRecord; result: Result } {
    const current = this.#get(userId);
    // Filled in from the storage, where there is none here.
    const { record } = known?.mark === current.mark && known.version === current.version ? known : current;
    const { put, result } = step(record);
    if (put === null) return { now: current, result };
    const now = { mark: this.run, version: ++this.#version, record: put };
    this.#put(userId, now);
    this.#onWord({ userId, ...now, ...(causeDevice === undefined ? {} : { causeDevice }) });
    return { now, result };
  }

  read(userIds: string[]): Map<string, VersionedRecord> {
    return new Map(userIds.map((userId) => [userId, this.#get(userId)]));
  }

  onWord(listener: (word: PresenceWord) => void): void {
    this.#onWord = listener;
  }

  /** Never called: what is in this process is lost with it. */
  onLoss(): void {}

  async ownUsers(): Promise<string[]> {
    const isOwn = ({ run }: DevicePresence) => run === this.run;
    return this.present().flatMap(([userId, { devices }]) => (devices.some(isOwn) ? [userId] : []));
  }

  /** Users with devices. */
  present(): [userId: string, record: PresenceRecord][] {
    return [...this.#records].flatMap(([userId, { record }]) => (record.devices.length > 0 ? [[userId, record]] : []));
  }

  /** The run before counts as dead once the grace of its devices is over. */
  async sweep(remove: (left: LeftBehind) => Promise<void>): Promise<boolean> {
    const now = this.now();
    for (const [userId, since] of this.#empty) {
      if (since > now - keptMs) break;
      this.#empty.delete(userId);
      this.#records.delete(userId);
    }
    const removals: Promise<void>[] = [];
    for (const userId of this.#inherited) {
      const strangers = (this.#get(userId).record?.devices ?? []).filter(({ run }) => run !== this.run);
      if (strangers.some(({ leaving }) => leaving !== undefined && leaving.until > now)) continue;
      this.#inherited.delete(userId);
      for (const run of new Set(strangers.map((device) => device.run)))
        removals.push(remove({ userId, run, seenAt: now }));
    }
    await Promise.all(removals);
    return true;
  }

  async stats(): Promise<{ users: number; devices: number }> {
    return { users: this.#records.size - this.#empty.size, devices: this.#devices };
  }

  /** Takes back who was here when the node stopped; a storage that refuses, and says so by itself, keeps no node from starting. */
  async start(): Promise<void> {
    const { store } = this.options;
    for (let full = store !== undefined; full; ) {
      const present = await store!.takePresent(atOnce).catch(nobodyWhereRefused);
      for (const { userId, record } of present) {
        this.#put(userId, { mark: this.run, version: ++this.#version, record: JSON.parse(record) as PresenceRecord });
        this.#inherited.add(userId);
      }
      full = present.length === atOnce;
    }
  }

  /** Keeps who is here, or may come back, for the next start. */
  async stop(): Promise<void> {
    const kept = this.present().map(([userId, record]) => ({ userId, record: JSON.stringify(record) }));
    for (const page of pages(kept, atOnce)) await this.options.store?.keepPresent(page);
  }

  #get(userId: string): VersionedRecord {
    return this.#records.get(userId) ?? { mark: this.run, version: 0, record: null };
  }

  #put(userId: string, next: VersionedRecord & { record: PresenceRecord }): void {
    this.#devices += next.record.devices.length - (this.#records.get(userId)?.record.devices.length ?? 0);
    this.#records.set(userId, next);
    this.#empty.delete(userId);
    if (next.record.devices.length === 0) this.#empty.set(userId, this.now());
  }
}

function nobodyWhereRefused(error: unknown): [] {
  if (error instanceof Unavailable) return [];
  throw error;
}
