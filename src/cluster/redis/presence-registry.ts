/** Keeps the presence records of all nodes in Redis: written where nothing has changed meanwhile, and told in the same step [PRE1]. */
import { pages } from "../../ground/pages.ts";
import type {
  LeftBehind,
  PresenceRegistry,
  PresenceStep,
  PresenceTransactOptions,
  PresenceWord,
  VersionedRecord,
} from "../ports.ts";
import type { RedisBus } from "./bus.ts";
import type { Commands } from "./commands.ts";
import { bucketOf, buckets, type Keys } from "./keys.ts";
import { type MarkedAnswer, RegistryMark, type RegistryMarkOptions } from "./mark.ts";
import type { RedisNodeRegistry } from "./nodes.ts";
import { PresencePart } from "./presence-part.ts";
import { RedisUnavailable } from "./unavailable.ts";

export interface RedisPresenceOptions extends Pick<RegistryMarkOptions, "newMark" | "settlingMs"> {
  commands: Commands;
  keys: Keys;
  bus: Pick<RedisBus, "onPresenceWord">;
  nodes: Pick<RedisNodeRegistry, "dead" | "remove">;
  /** Names this run of this node. */
  run: string;
  /** Milliseconds since 1970. */
  now: () => number;
}

type Listener<Told extends unknown[]> = (...told: Told) => void;

/** Users of a dead node that are taken out of a bucket at once. */
const sweptAtOnce = 25;
/** Each round one of those who want the same record wins. */
const attemptsMax = 64;

export class RedisPresenceRegistry implements PresenceRegistry {
  /** By bucket: of a Redis Cluster one master alone may lose what it had; one server loses all at once. */
  readonly #parts: PresencePart[];
  /** Redis's clock is so much ahead of this node's, ms. */
  #aheadMs = 0;
  #isTellingLoss = false;
  #onWord: Listener<[PresenceWord]> = () => {};
  #onLoss: Listener<[]> = () => {};

  constructor(private readonly options: RedisPresenceOptions) {
    const { bus, commands, keys, newMark, settlingMs } = options;
    const partOf = (bucket: number) => {
      const registryMark = new RegistryMark({ commands, keys: keys.presence(bucket), newMark, settlingMs });
      return new PresencePart({ ...options, registryMark, noted: (ask) => this.#noted(registryMark, ask) });
    };
    this.#parts = commands.isCluster ? buckets.map(partOf) : Array(buckets.length).fill(partOf(0));
    // The last that was asked for may not have been done.
    commands.onReady(() => this.#tellLoss());
    bus.onPresenceWord((word) => {
      this.#onWord(word);
      const part = this.#partOf(word.userId);
      // A node that has seen a new mark speaks under it before this one has looked.
      if (word.mark !== part.mark) void part.look().catch(() => {});
    });
  }

  get run(): string {
    return this.options.run;
  }

  now(): number {
    return this.options.now() + this.#aheadMs;
  }

  onWord(listener: Listener<[PresenceWord]>): void {
    this.#onWord = listener;
  }

  onLoss(listener: Listener<[]>): void {
    this.#onLoss = listener;
  }

  async transact<Result>(
    userId: string,
    step: PresenceStep<Result>,
    { known, causeDevice }: PresenceTransactOptions = {},
  ): Promise<{ now: VersionedRecord; result: Result }> {
    const part = this.#partOf(userId);
    let before = known ?? (await part.read(userId));
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const { put, result } = step(before.record);
      if (put === null) return { now: before, result };
      const change = { userId, record: put, ...(causeDevice === undefined ? {} : { causeDevice }) };
      const { isWritten, now } = await part.write(change, before);
      if (isWritten) {
        this.#onWord({ ...now, ...change });
        return { now, result };
      }
      before = now;
    }
    throw new RedisUnavailable("too many want to change this record at once");
  }

  async read(userIds: string[]): Promise<Map<string, VersionedRecord>> {
    const found = new Map<string, VersionedRecord>();
    await Promise.all(
      [...new Set(userIds)].map(async (userId) => {
        const there = await unlessAway(() => this.#partOf(userId).read(userId));
        if (there !== null && there.isPartial !== true) found.set(userId, there);
      }),
    );
    return found;
  }

  async ownUsers(): Promise<string[]> {
    const { commands, keys, run } = this.options;
    const users = await Promise.all(buckets.map((bucket) => commands.call("smembers", keys.usersOf(bucket, run))));
    return (users as string[][]).flat();
  }

  async sweep(remove: (left: LeftBehind) => Promise<void>): Promise<boolean> {
    const { commands, nodes } = this.options;
    if (!commands.isReady) return false;
    for (const { run, seenAt } of await nodes.dead()) {
      const sweepOne = (userId: string) => remove({ userId, run, seenAt });
      // Where one part of a Redis Cluster is away the rest is swept all the same.
      const swept = await Promise.allSettled(buckets.map((bucket) => this.#sweepBucket(bucket, run, sweepOne)));
      for (const result of swept) if (result.status === "rejected") throw result.reason;
      await nodes.remove(run, seenAt);
    }
    return true;
  }

  async stats(): Promise<{ users: number; devices: number }> {
    const { commands, keys } = this.options;
    const totals = await Promise.all(
      buckets.map((bucket) => commands.call("hmget", keys.totals(bucket), "users", "devices")),
    );
    const sum = (field: number) => (totals as (string | null)[][]).reduce((all, of) => all + Number(of[field]), 0);
    return { users: sum(0), devices: sum(1) };
  }

  /** Looks whether anything was lost. @throws RedisUnavailable where not all parts could be looked at; of those that could it is told */
  async look(): Promise<void> {
    const looked = await Promise.allSettled([...new Set(this.#parts)].map((part) => part.look()));
    for (const result of looked) if (result.status === "rejected") throw result.reason;
  }

  #partOf(userId: string): PresencePart {
    return this.#parts[bucketOf(userId)]!;
  }

  /** Says once, of all that is lost at one time. */
  #tellLoss(): void {
    if (this.#isTellingLoss) return;
    this.#isTellingLoss = true;
    void this.look()
      .catch(() => {})
      .then(() => {
        this.#isTellingLoss = false;
        this.#onLoss();
      });
  }

  async #noted(registryMark: RegistryMark, ask: () => Promise<MarkedAnswer>): Promise<MarkedAnswer> {
    const askedAt = this.options.now();
    const answer = await ask();
    const { mark, lost, at } = answer;
    // Between asking and now it was that time there: what is taken for it changes only where that cannot be.
    this.#aheadMs = Math.min(Math.max(this.#aheadMs, at - this.options.now()), at - askedAt);
    if (lost) {
      registryMark.accept(mark);
      this.#tellLoss();
    }
    return answer;
  }

  async #sweepBucket(bucket: number, run: string, remove: (userId: string) => Promise<void>): Promise<void> {
    const { commands, keys } = this.options;
    const users = (await commands.call("smembers", keys.usersOf(bucket, run))) as string[];
    for (const page of pages(users, sweptAtOnce)) await Promise.all(page.map(remove));
  }
}

/** @returns null where Redis cannot be asked */
async function unlessAway<Result>(ask: () => Promise<Result>): Promise<Result | null> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof RedisUnavailable) return null;
    throw error;
  }
}
