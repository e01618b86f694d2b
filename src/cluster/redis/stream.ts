/** Reads a Redis stream as an inbox: entries that applications add, taken in order by one node at a time [PUB2]. */

import type { ClientTlsFiles } from "../../config/client-tls.ts";
import type { Inbox, InboxEntry, RejectedEntry } from "../../storage/inbox.ts";
import { parseRedisUrl } from "./address.ts";
import { Commands } from "./commands.ts";
import { openCommandClient } from "./connection.ts";
import type { Keys } from "./keys.ts";
import { streamScripts } from "./scripts.ts";

export interface RedisStreamOptions {
  /** As `cluster.url`. */
  url: string;
  /** As `cluster.nat_map` and `cluster.tls`. */
  natMap?: Readonly<Record<string, string>>;
  tls?: ClientTlsFiles | null;
  keys: Pick<Keys, "lease">;
  stream: string;
  group: string;
  newId: () => string;
  /** Milliseconds since 1970. */
  now: () => number;
  /** So long has a node the lease that says nothing; default 3,000. */
  leaseMs?: number;
}

/** Says nothing of its own: the one who drains the inbox says that it waits, and why. */
const untold = { info() {}, warn() {}, error() {} };

/** Longer than a read blocks. */
const commandTimeoutMs = 5_000;
const blockMs = 1_000;
const takenMax = 500;
const takenBytesMax = 4 * 1024 * 1024;
/** Rejected entries that are kept. */
const rejectedMax = 10_000;
const beginning = "0-0";

/** Names what is touched on Redis. */
export interface StreamKeys {
  stream: string;
  lease: string;
  rejected: string;
}

export function streamKeys(
  keys: Pick<Keys, "lease">,
  { stream, group }: { stream: string; group: string },
): StreamKeys {
  return { stream, lease: keys.lease(stream, group), rejected: `${stream}:rejected` };
}

type RawEntry = [id: string, fields: string[]];

/**
 * Entries are removed once they are durable and no other group waits for them, so what is in the stream is what waits
 * for one of its groups.
 * The holder of the lease is written beside the stream, and a read looks at that in the same step: a node that lost the lease
 * unawares reads nothing new. What it had read before is still pending, and comes first for whoever has the lease now.
 */
export class RedisStream implements Inbox {
  readonly name = "stream";
  readonly #commands: Commands;
  readonly #keys: StreamKeys;
  readonly #token: string;
  /** The newest entry that is known; null while another node has the lease. */
  #lastId: string | null = null;

  constructor(private readonly options: RedisStreamOptions) {
    const { url, natMap = {}, tls = null, keys, stream, group, newId, now } = options;
    const client = openCommandClient(parseRedisUrl(url, { natMap, tls }), { commandTimeoutMs });
    this.#commands = new Commands({ client, logger: untold, now, publishesMax: 0, refusalLastsMs: 0 });
    this.#token = newId();
    this.#keys = streamKeys(keys, { stream, group });
  }

  /** Redis may be away: the first `take` that finds it goes on. */
  async start(): Promise<void> {
    await this.#commands.connect().catch(() => {});
  }

  async take(): Promise<InboxEntry[] | null> {
    const { group, leaseMs = 3_000 } = this.options;
    const { stream, lease } = this.#keys;
    this.#lastId = null;
    const answer = (await this.#commands.run(
      streamScripts.take,
      [stream, lease],
      [this.#token, leaseMs, group, takenMax, takenBytesMax],
    )) as [mine: number, entries?: RawEntry[], lastId?: string];
    const [mine, entries = [], lastId = beginning] = answer;
    if (mine === 0) return null;
    this.#lastId = lastId;
    return entries.map((entry) => this.#toEntry(entry));
  }

  async remove(ids: string[]): Promise<void> {
    await this.#commands.run(streamScripts.remove, [this.#keys.stream], [this.options.group, ...ids]);
  }

  async reject(rejected: RejectedEntry[]): Promise<void> {
    for (const { entry, reason, isForgotten } of rejected) {
      const fields = Object.entries(entry.fields).flatMap(([name, value]) =>
        value === undefined || (isForgotten && name === "payload") ? [] : [name, value],
      );
      const { rejected: key } = this.#keys;
      await this.#commands.call(
        ...(["xadd", key, "maxlen", "~", rejectedMax, "*", "entry_id", entry.id, "reason", reason, ...fields] as const),
      );
      await this.remove([entry.id]);
    }
  }

  async wait(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, blockMs);
    const end = () => resolve();
    signal.addEventListener("abort", end);
    if (this.#lastId !== null) {
      this.#commands
        .call("xread", "count", 1, "block", blockMs, "streams", this.#keys.stream, this.#lastId)
        // An error shows again in the next take, and waits its second here.
        .then(
          (found) => (found === null ? undefined : resolve()),
          () => {},
        );
    }
    await promise;
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }

  async lag(): Promise<{ entries: number; oldestMs: number }> {
    const lag = await this.#commands.run(streamScripts.lag, [this.#keys.stream], [this.options.group]);
    const [entries, oldest] = lag as [number, string | null | undefined];
    const oldestMs = oldest == null ? 0 : Math.max(0, this.options.now() - Number.parseInt(oldest, 10));
    return { entries: Number(entries), oldestMs };
  }

  async stop(): Promise<void> {
    const { lease } = this.#keys;
    // Another node goes on at once; what is under way ends with the connection.
    await this.#commands.run(streamScripts.release, [lease], [this.#token]).catch(() => {});
    this.#commands.stop();
  }

  #toEntry([id, flat]: RawEntry): InboxEntry {
    const fields: Record<string, string> = {};
    for (let at = 0; at + 1 < flat.length; at += 2) fields[flat[at]!] = flat[at + 1]!;
    // Its content is part of its name: a stream that is made anew may give out an id once more.
    const hash = new Bun.CryptoHasher("sha1").update(JSON.stringify([this.#keys.stream, flat])).digest("base64url");
    return { id, key: `stream:${id}:${hash}`, fields };
  }
}
