/** Keeps the presence records of all nodes in Redis: written where nothing has changed meanwhile, and told in the same step [PRE1]. */
import { pages } from "../../ground/pages.ts";
import type {
  LeftBehind,
  PresenceRecord,
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
import { presenceScripts, type Script } from "./scripts.ts";
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

/** How long a record without devices is kept, ms. */
const keptMs = 120_000;
/** Records that one script reads, and users of a dead node that are taken out of a bucket at once. */
const [readAtOnce, sweptAtOnce] = [100, 25];
/** Each round one of those who want the same record wins. */
const attemptsMax = 64;

export class RedisPresenceRegistry implements PresenceRegistry {
  /** By bucket: of a Redis Cluster one master alone may lose what it had; one server loses all at once. */
  readonly #registryMarks: RegistryMark[];
  /** Redis's clock is so much ahead of this node's, ms. */
  #aheadMs = 0;
  #isTellingLoss = false;
  #onWord: Listener<[PresenceWord]> = () => {};
  #onLoss: Listener<[]> = () => {};

  constructor(private readonly options: RedisPresenceOptions) {
    const { bus, commands, keys, newMark, settlingMs } = options;
    const markOf = (bucket: number) => new RegistryMark({ commands, keys: keys.presence(bucket), newMark, settlingMs });
    this.#registryMarks = commands.isCluster ? buckets.map(markOf) : Array(buckets.length).fill(markOf(0));
    // The last that was asked for may not have been done.
    commands.onReady(() => this.#tellLoss());
    bus.onPresenceWord((word) => {
      this.#onWord(word);
      const registryMark = this.#registryMarks[bucketOf(word.userId)]!;
      // A node that has seen a new mark speaks under it before this one has looked.
      if (word.mark !== registryMark.known) void this.#look(registryMark).catch(() => {});
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
    let before = known ?? (await this.#readOne(userId));
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const { put, result } = step(before.record);
      if (put === null) return { now: before, result };
      const change = { userId, record: put, ...(causeDevice === undefined ? {} : { causeDevice }) };
      const { isWritten, now } = await this.#write(change, before);
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
      [...Map.groupBy(new Set(userIds), this.options.commands.isCluster ? bucketOf : () => 0)].flatMap(
        ([bucket, users]) =>
          pages(users, readAtOnce).map(async (page) => {
            const answer = await unlessAway(() => this.#runRead(bucket, page));
            if (answer === null || answer.isSettling) return;
            for (const [at, userId] of page.entries()) found.set(userId, versioned(answer, answer.rest[at]));
          }),
      ),
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
    const looked = await Promise.allSettled(
      [...new Set(this.#registryMarks)].map((registryMark) => this.#look(registryMark)),
    );
    for (const result of looked) if (result.status === "rejected") throw result.reason;
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

  async #readOne(userId: string): Promise<VersionedRecord> {
    const answer = await this.#runRead(bucketOf(userId), [userId]);
    return versioned(answer, answer.rest[0]);
  }

  /** @returns what stands there now: what was written, or what has come before it */
  async #write(
    change: { userId: string; record: PresenceRecord; causeDevice?: string },
    before: VersionedRecord,
  ): Promise<{ isWritten: boolean; now: VersionedRecord }> {
    const { commands, keys, run } = this.options;
    const { userId, record } = change;
    const bucket = bucketOf(userId);
    const [runs, runsBefore] = [runsOf(record), runsOf(before.record)];
    const left = [...runsBefore].filter((it) => !runs.has(it));
    const devices = record.devices.length - (before.record?.devices.length ?? 0);
    const users = Number(runs.size > 0) - Number(runsBefore.size > 0);
    const channels = [keys.topicChannel(`presence:${userId}`), keys.topicChannel(`user:${userId}`)];
    const lists = [...runs, ...left].map((it) => keys.usersOf(bucket, it));
    const answer = await this.#run(presenceScripts.write, {
      bucket,
      keys: [keys.record(userId), keys.totals(bucket), ...channels, ...lists],
      args: [
        ...[before.mark, before.version],
        ...[JSON.stringify(record), runs.size > 0 ? 0 : keptMs],
        ...[userId, users, devices, runs.size],
        commands.isCluster ? "spublish" : "publish",
        // The script closes it.
        JSON.stringify({ from: run, presence: change }).slice(0, -2),
      ],
    });
    const [isWritten, there] = answer.rest as [number, string | null | undefined];
    if (isWritten === 0) return { isWritten: false, now: versioned(answer, there) };
    return { isWritten: true, now: { ...markedBy(answer), version: Number(there), record } };
  }

  #runRead(bucket: number, userIds: string[]): Promise<MarkedAnswer> {
    const { keys } = this.options;
    return this.#run(presenceScripts.read, { bucket, keys: userIds.map((it) => keys.record(it)), args: [] });
  }

  async #run(
    script: Script,
    { bucket, keys, args }: { bucket: number; keys: string[]; args: (string | number)[] },
  ): Promise<MarkedAnswer> {
    const registryMark = this.#registryMarks[bucket]!;
    return this.#noted(registryMark, () => registryMark.run(script, keys, args));
  }

  #look(registryMark: RegistryMark): Promise<MarkedAnswer> {
    return this.#noted(registryMark, () => registryMark.look());
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

const runsOf = (record: PresenceRecord | null) => new Set(record?.devices.map(({ run }) => run));

const markedBy = ({ mark, isSettling }: MarkedAnswer) => (isSettling ? { mark, isPartial: true } : { mark });

/** Reads a record as it is stored: `<version> <JSON>`. */
function versioned(answer: MarkedAnswer, stored: unknown): VersionedRecord {
  if (typeof stored !== "string") return { ...markedBy(answer), version: 0, record: null };
  const end = stored.indexOf(" ");
  const record = JSON.parse(stored.slice(end + 1)) as PresenceRecord;
  return { ...markedBy(answer), version: Number(stored.slice(0, end)), record };
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
