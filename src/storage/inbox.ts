/** Describes as a port where applications leave events for this service to publish [PUB2]. */
import type { IngestWay } from "../telemetry/stats.ts";

/** One thing to publish, as it was left. */
export interface InboxEntry {
  /** Names it within its inbox. */
  id: string;
  /** Its name for all time: whatever happens in between, it is appended to the log once under it [LOG2]. */
  key: string;
  /** The fields of `publish` as text: `user_ids` and `payload` are JSON. Nothing about them is certain. */
  fields: Readonly<Record<string, string | undefined>>;
}

export interface RejectedEntry {
  entry: InboxEntry;
  /** For people. */
  reason: string;
  /** Keeps nothing of what it says: that was of a message that is deleted [MSG2]. */
  isForgotten?: true;
}

/**
 * Entries stay until they are removed, so that a node that dies in between loses none. Every entry that `take` gives has
 * all earlier ones before it in the same answer, unless they are removed: whoever appends what it was given, together and
 * in that order, keeps the order even where two nodes believe that they hold the lease.
 */
export interface Inbox {
  /** Names it in logs and stats. */
  readonly name: IngestWay;
  start(): Promise<void>;
  /**
   * @returns the first entries, oldest first, bounded in number and bytes; null where it is another node's lease
   * @throws while the inbox is away
   */
  take(): Promise<InboxEntry[] | null>;
  /** Takes away what is in the log. */
  remove(ids: string[]): Promise<void>;
  /** Puts aside what can never be published, with the reason. */
  reject(rejected: RejectedEntry[]): Promise<void>;
  /** Resolves when something may be there to take, after a second at the latest, and at once when aborted. */
  wait(signal: AbortSignal): Promise<void>;
  /** Says how many entries wait (counted up to a bound), and for how long the oldest, ms. */
  lag(): Promise<{ entries: number; oldestMs: number }>;
  /** Gives up the lease and closes. */
  stop(): Promise<void>;
}
