/** Describes as a port what takes everything of a user out of the storage, a page at a time, and what keeps how far that has come [BAK4]. */
import { notificationsTopic, userTopic } from "../protocol/topic.ts";

/** Says how far an erasure is. Moments are ms since 1970. */
export interface ErasureProgress {
  requestedAt: number;
  /** Null: nobody has begun. */
  startedAt: number | null;
  /** Null: it goes on. */
  finishedAt: number | null;
  /** The user's messages that are deleted by now. */
  messages: number;
  /** How much of the log was looked through, 0 to 100. */
  percent: number;
}

/** An erasure in the hands of one node, with the place where it stands. */
export interface ErasureJob {
  userId: string;
  /** Asked for it; others are told that this user has deleted the messages. */
  requestedBy: string;
  startedAt: number;
  /** Counts the nodes that have had it: who had it before cannot say any more how far it is. */
  turn: number;
  /** Which step of the plan is next. */
  step: number;
  /** Where the step goes on; empty: at its beginning. */
  place: string;
  /** The log was looked through up to this position. */
  through: number;
  messages: number;
}

/** An event of the log that is from the user, or names the user as a whole JSON string; messages of others are not among them. */
export interface NamingEvent {
  topic: string;
  position: number;
  id: string;
  type: string;
  /** JSON text of an object; null: it is a message of the user. */
  payload: string | null;
}

export interface NamingPage {
  /** In the order of the log. */
  events: NamingEvent[];
  /** All that is up to it was looked at. */
  through: number;
  /** The last position that was visible. */
  end: number;
}

/** How the user has reacted to a message. */
export interface ReactionOfUser {
  topic: string;
  messageId: string;
  reaction: string;
}

/** A page of rows that were removed. */
export interface RowsPage {
  /** Where the next one begins; null: that was all. */
  next: string | null;
}

/** Rows that are removed page by page; `own`: of the user alone. */
export type ErasedRows = "memberships" | "receipts" | "keys" | "own";

export interface ErasureStore {
  /** Begins one, durable when the promise resolves: from now on the user counts as disabled. One that goes on goes on as it is. */
  request(erasure: { userId: string; by: string; now: number }): Promise<void>;
  find(userId: string): Promise<ErasureProgress | null>;
  /** Counts the users who are to be erased and are not yet. */
  running(): Promise<number>;
  /** Gives one that is due to the caller alone, until the lease runs out; null: there is none. */
  claim(lease: { ms: number; now: number }): Promise<ErasureJob | null>;
  /** Keeps how far it is; it is due again after so long (ms). @returns whether it still is the caller's */
  keep(job: ErasureJob, dueInMs: number): Promise<boolean>;
  /** Forgets who it was, but for a digest by which it can be asked for. @returns whether it was the caller's */
  finish(job: ErasureJob, now: number): Promise<boolean>;
  /** Forgets those that were finished before a moment, at most `limit`. @returns how many */
  forget(finishedBefore: number, limit: number): Promise<number>;
  /** Removes a page of rows. @param after the empty text, or the `next` of the page before */
  removeRows(rows: ErasedRows, userId: string, after: string): Promise<RowsPage>;
  /** Finds some of the reactions of the user, to messages that are there. */
  reactionsOf(userId: string): Promise<ReactionOfUser[]>;
  /** Looks through a page of the log. */
  naming(query: { userId: string; afterPosition: number }): Promise<NamingPage>;
  /** Removes events as compaction does: numbers go on, and nothing counts as missed. */
  forgetEvents(events: Pick<NamingEvent, "topic" | "position">[]): Promise<void>;
  /** Puts another payload in the place of an event's. */
  rewrite(event: Pick<NamingEvent, "topic" | "position">, payload: string): Promise<void>;
}

/** Rows that one page looks at. */
export const rowsPerPage = 5_000;
/** Events of the user on one page, which ends as well after `pageBytesMax` of their payloads. */
export const namingPerPage = 200;
/** Reactions of the user on one page. */
export const reactionsPerPage = 50;
/** Rows that are removed by one page. */
export const removedPerPage = 500;

/** Topics that nobody else hears. */
export const topicsOfUser = (userId: string) => [userTopic(userId), notificationsTopic(userId)];

/** As a payload has the id, among other things. */
export const quotedId = (userId: string) => JSON.stringify(userId);

/** By which an erasure is found once the id is forgotten. */
export const digestOfUser = (userId: string) => new Bun.CryptoHasher("sha256").update(userId).digest("hex");

/** As an idempotency key has the id, among its parts. */
export const keyPart = (userId: string) => `:${userId.replaceAll(":", " ")}:`;

/** Whether an idempotency key was given by the user, or is of a topic of the user's own. */
export function isKeyOf(userId: string, key: string): boolean {
  const id = userId.replaceAll(":", " ");
  const [kind, first, second, third] = key.split(":");
  switch (kind) {
    // sent:<user>:<conversation>:<client_message_id>, event:<user>:…
    case "sent":
    case "event":
      return first === id;
    // receipt:<kind>:<conversation>:<user>:<seq>
    case "receipt":
      return third === id;
    // missed:<caller>:<callee>:<call_id>, unreached:…
    case "missed":
    case "unreached":
      return first === id || second === id;
    // key:<kind of topic>:<its id>:<event_key>, told:<kind of topic>:<its id>:<event>:<page>
    case "key":
    case "told":
    case "id":
      return (first === "user" || first === "notifications") && second === id;
    // outbox:<key>:<topic>
    default:
      return topicsOfUser(userId).some((topic) => key.endsWith(`:${topic}`));
  }
}
