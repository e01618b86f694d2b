/** Reads presence records, filled in from the storage where the registry has none, and keeps there when users were last seen [PRE1]. */

import type { PresenceRecord, PresenceRegistry, VersionedRecord } from "../cluster/ports.ts";
import { type AtOnce, atOnce, type Steps } from "../ground/at-once.ts";
import { Gathering } from "../ground/gathering.ts";
import { itemsMax, pages } from "../ground/pages.ts";
import type { StatusStore, UserStatus } from "../storage/ports.ts";
import type { StoredStatus } from "../storage/status-store.ts";
import { type OutageLogger, warnsOnce } from "../telemetry/outage.ts";

/** A record with what the storage knows, where the registry has none or cannot say: then the version is below 0. */
export interface FilledRecord extends VersionedRecord {
  record: PresenceRecord;
}

export const isUnknown = ({ version }: FilledRecord) => version < 0;

export interface RecordsOptions {
  registry: Pick<PresenceRegistry, "read">;
  statuses: StatusStore;
  logger: OutageLogger;
}

/** Statements under way that note who has gone: one that hangs keeps the others waiting no longer than need be. */
const underWayMax = 4;

/** All of it rejects where the storage is away, but for `noteLastSeen` and `noteGone`. */
export class Records {
  /** Users who have gone, and that moment, which those of one statement share. */
  readonly #gone: Gathering<[userId: string, at: number], undefined>;
  readonly #storing;

  constructor(private readonly options: RecordsOptions) {
    this.#gone = new Gathering({
      async ask(gone) {
        const userIds = gone.map(([userId]) => userId);
        await options.statuses.setLastSeen(userIds, gone[0]![1]);
        return gone.map(() => undefined);
      },
      atOnceMax: itemsMax,
      underWayMax,
    });
    this.#storing = warnsOnce(options.logger, "last seen could not be stored", "last seen is stored again");
  }

  /** @returns one for each user asked for */
  async read(userIds: string[]): Promise<Map<string, FilledRecord>> {
    const stored = pages(userIds, itemsMax).map((page) => this.options.statuses.get(page));
    const [versioned, ...found] = await Promise.all([this.options.registry.read(userIds), ...stored]);
    const statuses = new Map(found.flatMap((page) => [...page]));
    return new Map(userIds.map((userId) => [userId, filled(versioned.get(userId), statuses.get(userId))]));
  }

  readOne(userId: string): AtOnce<FilledRecord> {
    return atOnce(this.#readOne(userId));
  }

  *#readOne(userId: string): Steps<FilledRecord> {
    // Asked side by side.
    const stored = this.options.statuses.get([userId]);
    const versioned = this.options.registry.read([userId]);
    if (stored instanceof Promise || versioned instanceof Promise) yield Promise.all([stored, versioned]);
    const record = versioned instanceof Promise ? yield versioned : versioned;
    const status = stored instanceof Promise ? yield stored : stored;
    return filled(record.get(userId), status.get(userId));
  }

  async statusOf(userId: string): Promise<UserStatus | null> {
    return (await this.options.statuses.get([userId])).get(userId)?.status ?? null;
  }

  /** Notes users for whom it is that moment; not worth failing for, as that somebody is gone matters more than since when. */
  async noteLastSeen(userIds: string[], at: number): Promise<void> {
    for (const page of pages(userIds, itemsMax)) {
      await this.#storing.attempt(this.options.statuses.setLastSeen(page, at), { users: page.length });
    }
  }

  /** Notes that a user has gone at that moment; many of them go together. */
  async noteGone(userId: string, at: number): Promise<void> {
    await this.#storing.attempt(this.#gone.ask([userId, at], at), { users: 1 });
  }

  /** Clears statuses that have run out; nobody is told because of it. */
  async clearExpired(now: number): Promise<void> {
    while ((await this.options.statuses.clearExpired(now, itemsMax)) === itemsMax);
  }
}

function filled(
  known: VersionedRecord = { mark: "", version: -1, record: null },
  { status: byHand, lastSeenAt }: StoredStatus = { status: null, lastSeenAt: null },
): FilledRecord {
  return { ...known, record: known.record ?? { devices: [], byHand, lastSeenAt } };
}
