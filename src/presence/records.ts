/** Reads presence records, filled in from the storage where the registry has none, and keeps there when users were last seen [PRE1]. */

import type { PresenceRecord, PresenceRegistry, VersionedRecord } from "../cluster/ports.ts";
import { createBatches, itemsMax } from "../ground/batches.ts";
import { pages } from "../ground/pages.ts";
import type { StatusStore, UserStatus } from "../storage/ports.ts";
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

/** All of it rejects where the storage is away, but for `noteLastSeen`. */
export class Records {
  readonly #statusesOf;
  readonly #setLastSeen;
  readonly #storing;

  constructor(private readonly options: RecordsOptions) {
    const { statuses, logger } = options;
    this.#statusesOf = createBatches((userIds: string[]) => statuses.get([...new Set(userIds)]));
    this.#setLastSeen = createBatches(async (seen: { userId: string; at: number }[]) => {
      for (const [at, some] of Map.groupBy(seen, (it) => it.at)) {
        const userIds = some.map(({ userId }) => userId);
        await statuses.setLastSeen(userIds, at);
      }
    });
    this.#storing = warnsOnce(logger, "last seen could not be stored", "last seen is stored again");
  }

  /** @returns one for each user asked for */
  async read(userIds: string[]): Promise<Map<string, FilledRecord>> {
    const stored = pages(userIds, itemsMax).map((page) => this.#statusesOf(page));
    const [versioned, ...found] = await Promise.all([this.options.registry.read(userIds), ...stored]);
    const statuses = new Map(found.flatMap((page) => [...page]));
    return new Map(
      userIds.map((userId) => {
        const known = versioned.get(userId) ?? { mark: "", version: -1, record: null };
        const { status: byHand = null, lastSeenAt = null } = statuses.get(userId) ?? {};
        return [userId, { ...known, record: known.record ?? { devices: [], byHand, lastSeenAt } }];
      }),
    );
  }

  async readOne(userId: string): Promise<FilledRecord> {
    return (await this.read([userId])).get(userId)!;
  }

  async statusOf(userId: string): Promise<UserStatus | null> {
    return (await this.#statusesOf([userId])).get(userId)?.status ?? null;
  }

  /** Notes users for whom it is that moment; not worth failing for, as that somebody is gone matters more than since when. */
  async noteLastSeen(userIds: string[], at: number): Promise<void> {
    for (const page of pages(userIds, itemsMax)) {
      const seen = page.map((userId) => ({ userId, at }));
      await this.#storing.attempt(this.#setLastSeen(seen), { users: seen.length });
    }
  }

  /** Clears statuses that have run out; nobody is told because of it. */
  async clearExpired(now: number): Promise<void> {
    while ((await this.options.statuses.clearExpired(now, itemsMax)) === itemsMax);
  }
}
