/** Reads presence records, filled in from the storage where the registry has none, and keeps there when users were last seen [PRE1]. */
import type { PresenceRecord, PresenceRegistry, VersionedRecord } from "../cluster/ports.ts";
import type { StatusStore, UserStatus } from "../storage/ports.ts";
import { type Outage, type OutageLogger, warnsOnce } from "../telemetry/outage.ts";
import { createBatches, itemsMax } from "./batches.ts";

/** A record with what the storage knows, where the registry has none. */
export interface KnownRecord extends VersionedRecord {
  record: PresenceRecord;
}

export interface FoundRecord {
  /** Null: the registry cannot say now. */
  known: KnownRecord | null;
  /** What is known, or what the storage alone knows. */
  record: PresenceRecord;
}

export interface RecordsOptions {
  registry: Pick<PresenceRegistry, "read">;
  statuses: StatusStore;
  logger: OutageLogger;
}

export class Records {
  readonly #statusesOf;
  readonly #setLastSeen;
  readonly #storing: Outage;

  constructor(private readonly options: RecordsOptions) {
    const { statuses, logger } = options;
    this.#statusesOf = createBatches((userIds: string[]) => statuses.get([...new Set(userIds)]));
    this.#setLastSeen = createBatches(async (seen: { userId: string; at: number }[]) => {
      for (const [at, some] of Map.groupBy(seen, (it) => it.at))
        await statuses.setLastSeen(
          some.map(({ userId }) => userId),
          at,
        );
    });
    this.#storing = warnsOnce(logger, "last seen could not be stored", "last seen is stored again");
  }

  /** One for each user asked for. Rejects where the storage is away. */
  async read(userIds: string[]): Promise<Map<string, FoundRecord>> {
    const [versioned, stored] = await Promise.all([this.options.registry.read(userIds), this.#stored(userIds)]);
    return new Map(
      userIds.map((userId) => {
        const known = versioned.get(userId);
        const { status: byHand = null, lastSeenAt = null } = stored.get(userId) ?? {};
        const record = known?.record ?? { devices: [], byHand, lastSeenAt };
        return [userId, { known: known === undefined ? null : { ...known, record }, record }];
      }),
    );
  }

  async statusOf(userId: string): Promise<UserStatus | null> {
    return (await this.#statusesOf([userId])).get(userId)?.status ?? null;
  }

  async setStatus(userId: string, status: UserStatus | null): Promise<void> {
    await this.options.statuses.set(userId, status);
  }

  /** Never rejects: that somebody is gone matters more than since when. */
  async noteLastSeen(userIds: string[], at: number): Promise<void> {
    for (let start = 0; start < userIds.length; start += itemsMax) {
      const seen = userIds.slice(start, start + itemsMax).map((userId) => ({ userId, at }));
      await this.#storing.attempt(this.#setLastSeen(seen), { users: seen.length });
    }
  }

  /** Clears statuses that have run out; nobody is told because of it. */
  async clearExpired(now: number): Promise<void> {
    while ((await this.options.statuses.takeExpired(now, itemsMax)).length === itemsMax);
  }

  async #stored(userIds: string[]): Promise<Awaited<ReturnType<StatusStore["get"]>>> {
    const found: Awaited<ReturnType<StatusStore["get"]>> = new Map();
    for (let start = 0; start < userIds.length; start += itemsMax)
      for (const [userId, stored] of await this.#statusesOf(userIds.slice(start, start + itemsMax)))
        found.set(userId, stored);
    return found;
  }
}
