/** Reads and writes the presence records under one mark: those of many users by one script, where many come at once. */
import { Gathering } from "../../ground/gathering.ts";
import type { PresenceRecord, VersionedRecord } from "../ports.ts";
import type { Commands } from "./commands.ts";
import { bucketOf, type Keys } from "./keys.ts";
import type { MarkedAnswer, RegistryMark } from "./mark.ts";
import { presenceScripts } from "./scripts.ts";

export interface PresencePartOptions {
  commands: Pick<Commands, "isCluster">;
  keys: Keys;
  registryMark: RegistryMark;
  /** Names this run of this node. */
  run: string;
  /** Takes in what every answer says of the mark and the clock. */
  noted(ask: () => Promise<MarkedAnswer>): Promise<MarkedAnswer>;
}

/** Says what a record is to become. */
export interface RecordChange {
  userId: string;
  record: PresenceRecord;
  causeDevice?: string;
}

/** `now`: what stands there now, which is what was written, or what has come before it. */
export interface Written {
  isWritten: boolean;
  now: VersionedRecord;
}

/** How long a record without devices is kept, ms. */
const keptMs = 120_000;
/** Records that one script reads, and that one writes, which has Redis do more. */
const [readAtOnce, writtenAtOnce] = [100, 25];
/** Scripts of each kind under way: what comes meanwhile goes together. */
const underWayMax = 1;

export class PresencePart {
  readonly #reads: Gathering<string, VersionedRecord>;
  readonly #writes: Gathering<{ change: RecordChange; before: VersionedRecord }, Written>;

  constructor(private readonly options: PresencePartOptions) {
    this.#reads = new Gathering({
      ask: (userIds) => this.#readAll(userIds),
      ...{ atOnceMax: readAtOnce, underWayMax },
    });
    this.#writes = new Gathering({
      ask: (changes) => this.#writeAll(changes),
      ...{ atOnceMax: writtenAtOnce, underWayMax },
    });
  }

  /** The mark that was accepted last. */
  get mark(): string {
    return this.options.registryMark.known;
  }

  /** Looks at the mark alone. @throws RedisUnavailable */
  look(): Promise<MarkedAnswer> {
    const { registryMark, noted } = this.options;
    return noted(() => registryMark.look());
  }

  /** @throws RedisUnavailable */
  read(userId: string): Promise<VersionedRecord> {
    return this.#reads.ask(userId);
  }

  /** Writes where the record is still the one before. @throws RedisUnavailable where it may have been written all the same */
  write(change: RecordChange, before: VersionedRecord): Promise<Written> {
    return this.#writes.ask({ change, before });
  }

  async #readAll(userIds: string[]): Promise<VersionedRecord[]> {
    const { keys, registryMark, noted } = this.options;
    const records = userIds.map((userId) => keys.record(userId));
    const answer = await noted(() => registryMark.run(presenceScripts.read, records, []));
    return userIds.map((_, at) => versioned(answer, answer.rest[at]));
  }

  async #writeAll(changes: { change: RecordChange; before: VersionedRecord }[]): Promise<Written[]> {
    const { commands, registryMark, noted } = this.options;
    const written = changes.map(({ change, before }) => this.#argumentsOf(change, before));
    const keys = written.flatMap((it) => it.keys);
    const args = [commands.isCluster ? "spublish" : "publish", ...written.flatMap((it) => it.args)];
    const answer = await noted(() => registryMark.run(presenceScripts.write, keys, args));
    return changes.map(({ change: { record } }, at) => {
      const [isWritten, there] = answer.rest.slice(2 * at) as [number, string | null | undefined];
      if (isWritten === 0) return { isWritten: false, now: versioned(answer, there) };
      return { isWritten: true, now: { ...markedBy(answer), version: Number(there), record } };
    });
  }

  #argumentsOf(change: RecordChange, before: VersionedRecord): { keys: string[]; args: (string | number)[] } {
    const { keys, run } = this.options;
    const { userId, record } = change;
    const bucket = bucketOf(userId);
    const [runs, runsBefore] = [runsOf(record), runsOf(before.record)];
    const devices = record.devices.length - (before.record?.devices.length ?? 0);
    const users = Number(runs.size > 0) - Number(runsBefore.size > 0);
    const lists = [...runs, ...runsBefore.difference(runs)].map((it) => keys.usersOf(bucket, it));
    const channels = [keys.topicChannel(`presence:${userId}`), keys.topicChannel(`user:${userId}`)];
    return {
      keys: [keys.record(userId), keys.totals(bucket), ...channels, ...lists],
      args: [
        ...[before.mark, before.version],
        ...[JSON.stringify(record), runs.size > 0 ? 0 : keptMs],
        ...[userId, users, devices, lists.length, runs.size],
        // The script closes it.
        JSON.stringify({ from: run, presence: change }).slice(0, -2),
      ],
    };
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
