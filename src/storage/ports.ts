/** Describes as ports what must survive: every method rejects with `Unavailable` (part `storage`) while the engine is away or refuses. */
import type { AtOnce } from "../ground/at-once.ts";
import type { Amendment, AmendmentRefusal } from "./amendments.ts";
import type { ConversationStore } from "./conversation-store.ts";
import type { Directory } from "./directory-store.ts";
import type { Epochs } from "./epochs.ts";
import type { ErasureStore } from "./erasure-store.ts";
import type { Inbox } from "./inbox.ts";
import type { LoggedEvent } from "./logged-event.ts";
import type { OverviewStore } from "./overview-store.ts";
import type { PushStore } from "./push-store.ts";
import type { ReceiptStore, Telling } from "./receipt-store.ts";
import type { StatusStore, UserStatus } from "./status-store.ts";

export type { Marked, ReceiptKind, ReceiptMark, ReceiptStore, Telling, UnsentReceipt } from "./receipt-store.ts";
export type { LoggedEvent, StatusStore, UserStatus };

export interface NewEvent {
  id: string;
  topic: string;
  type: string;
  /** JSON text of an object. */
  payload: string;
  createdAt: number;
  once?: Once;
  /** Only the newest event of one topic and key is kept [LOG7]. */
  compactionKey?: string;
  /** Set on messages (`message.new`) only: who sent it; counts towards unread and is what receipts speak of. */
  senderId?: string;
  /** Changes a message of its topic in the same transaction as it says; where that cannot be, nothing is appended [MSG2] [MSG3]. */
  amendment?: Amendment;
  /** Tells of a receipt in the same transaction; where it was told beyond `sentSeq`, or is being moved, nothing is appended [REC2]. */
  tells?: Telling;
}

/** Under which keys an event is appended once within the retention time [LOG2]. */
export interface Once {
  /** Hold their scope and so their topic, such as `sent:u1:c1:<client_message_id>`; an event that has one of them is this event. */
  keys: string[];
  /** Of what was said: under a key that is known another one is a conflict. Left out: whatever is said is the same. */
  digest?: string;
  /** The event is a message whose id its publisher has chosen: it is a conflict where another message of the topic has it. */
  isNamed?: boolean;
}

export interface AppendedEvent {
  topic: string;
  seq: number;
  position: number;
  id: string;
  createdAt: number;
  /** A key was known: nothing was appended, and these are the first event's numbers. */
  duplicate: boolean;
  /** Something else was said under it than this time, or two keys are of two events. */
  conflict?: true;
  /**
   * Why its amendment was not made. Nothing was appended, `duplicate` is true, and there are no numbers (0); so it is without a
   * refusal where the message is already as it says, or where the receipt is not its own to tell.
   */
  refusal?: AmendmentRefusal;
  /** Nothing was appended, and nothing is known: others wait for a topic of its unit. */
  deferred?: true;
}

export interface AppendResult {
  /**
   * The position below the first of this batch, where its positions follow each other: what is known up to it makes what is
   * known contiguous with the batch. Where others' came in between, that of its last event; where nothing was appended, any.
   */
  previousPosition: number;
  /** One for each event given, in the same order; events of one topic get `seq` in the order given. */
  appended: AppendedEvent[];
}

export interface TopicHead {
  /** Last `seq` given out; 0 for a topic without events. */
  seq: number;
  /** Position of that event; 0 for a topic without events. */
  position: number;
  /** Position of the last event that retention (not compaction) has removed; 0 for none [LOG5]. */
  trimmedPosition: number;
}

export interface EventPage {
  /** Oldest first. */
  events: LoggedEvent[];
  /** There are more in the direction that was asked for, or may be. */
  more: boolean;
}

/** Events of the topics with a position above the one asked for. */
export interface ReplayPage extends EventPage {
  /** The heads of all topics asked for, from the same snapshot as the events. */
  heads: Map<string, TopicHead>;
  /** Every event with a position up to it was visible to this page. Above it a topic has no hole, but another topic may have. */
  watermark: number;
}

/** Topics with an event above a position, each with its newest on this page. */
export interface MovedPage {
  heads: { topic: string; seq: number; position: number }[];
  /** All that was up to it is on this page or was on those before. */
  position: number;
  more: boolean;
  watermark: number;
  /** Position of the last event that is visible: no cursor of this log lies above. */
  end: number;
}

/** Events of all topics with a position above the one asked for, in the order of the log [BAK2]. */
export interface FeedPage extends EventPage {
  /** The last event, or the watermark where no more follow; that may be below where this page began: go on from the higher. */
  position: number;
  /** Position of the last event that is visible: no cursor of this log lies above. */
  end: number;
  /** Position of the last event that retention (not compaction) has removed, of whatever topic; 0 for none. */
  trimmedPosition: number;
}

export interface RetentionPolicy {
  /** Events created before this moment (ms since 1970) go. */
  createdBefore: number;
  /** At most so many of the newest events of a topic stay. */
  eventsPerTopic: number;
  /** At most so many rows are removed by one call; the caller comes again while `more`. */
  batch: number;
}

/**
 * Topics, or conversations, of one question: beyond it there are more of them, in turns. For as many overviews a statement of
 * PostgreSQL takes 50 to 140 ms, for which it has one of the connections that all questions share.
 */
export const namesPerQuestion = 1_000;

/** Bytes of payload after which a page that is read ends, whatever its limit; it has one event at least. */
export const pageBytesMax = 1024 * 1024;

/** Events that one call looks at for those of some types: a rare type costs many calls, and none that is long. */
export const lookedAtMax = 2_000;

/** Keeps the durable, ordered log [LOG1–LOG8]. */
export interface EventLog {
  /** Knows what cursors of this log are worth; filled once the storage has started [LOG4]. */
  readonly epochs: Epochs;
  /** Takes an event that somebody else says is committed; the log's own appends and reads are known to it. */
  note(event: LoggedEvent): void;
  /**
   * Appends all events in one transaction, durable when the promise resolves; where one changes what another of them has made, an engine
   * may take more than one, in their order.
   * @param units one number for each event. Where they are given, and others wait already for whoever is appending to a topic,
   * the units with an event of that topic are left alone, whole (`deferred`); an engine with one writer has none
   */
  append(events: NewEvent[], units?: number[]): Promise<AppendResult>;
  /**
   * Finds what an append under the keys would be answered with, and appends nothing; undefined: none of them is known [LOG2]. An
   * append that is still on its way is not seen.
   */
  find(once: Omit<Once, "isNamed">): Promise<AppendedEvent | undefined>;
  replay(query: { topics: string[]; afterPosition: number; limit: number }): Promise<ReplayPage>;
  /** Reads events of one topic with `afterSeq` < seq ≤ `throughSeq`, oldest first; compacted and trimmed ones are missing. */
  range(query: { topic: string; afterSeq: number; throughSeq: number; limit: number }): Promise<EventPage>;
  /**
   * Reads a page for scrolling: the newest events below `beforeSeq` (or of all), or the oldest above `afterSeq`; always oldest
   * first [LOG8]. It ends after `bytesMax` of payload, where that is less than any page may have.
   */
  page(query: {
    topic: string;
    beforeSeq?: number;
    afterSeq?: number;
    limit: number;
    bytesMax?: number;
  }): Promise<EventPage>;
  /**
   * Reads those of some types among the next `lookedAtMax` events, in the direction that `page` has, oldest first. While there
   * are `more`, the next call goes on from `through`, also where this one has found none [LOG8].
   */
  pageOf(query: {
    topic: string;
    types: string[];
    beforeSeq?: number;
    afterSeq?: number;
    limit: number;
    bytesMax?: number;
  }): Promise<EventPage & { through: number }>;
  heads(topics: string[]): AtOnce<ReplayPage["heads"]>;
  /** The same of a few, where it can be told in this very turn; null where it has to be asked for. */
  headsNow?(topics: string[]): ReplayPage["heads"] | null;
  /** Reads a page of the whole log, whatever the topic, from one snapshot [BAK2]. */
  feed(query: { afterPosition: number; limit: number }): Promise<FeedPage>;
  /** Finds topics that moved after a position, by position, at most `limit` of them, up to the watermark; where the log is not what it was, `epochs` has told so by then [LOG4]. */
  movedSince(position: number, limit: number): Promise<MovedPage>;
  /**
   * Finds those of the topics that have events with `afterPosition` < position ≤ `throughPosition`, each with the newest of these:
   * one look at each topic, whatever moves elsewhere.
   */
  movedAmong(query: { topics: string[]; afterPosition: number; throughPosition: number }): Promise<MovedPage["heads"]>;
  /**
   * Says up to which position every event is visible to whoever reads after this; of those above some may still be on their
   * way, in an order of their own [LOG4]. 0 for an empty log.
   */
  watermark(): Promise<number>;
  /** Removes what the policy does not keep, never blocking appends for longer than one batch [LOG7]. */
  trim(policy: RetentionPolicy): Promise<{ removed: number; more: boolean }>;
  /** Counts them, exactly while they are few, by the engine's estimate beyond; `position` is the last one given out. */
  stats(): Promise<{ events: number; topics: number; position: number }>;
  /** For how long (ms) appends under way have held everybody's cursor; an engine where none can has no such method. */
  heldMs?(): number;
}

/** So many devices of a user are remembered: those that were here last. */
export const devicesRememberedMax = 50;

export interface DeviceOfUser {
  userId: string;
  deviceId: string;
}

export interface Acknowledgement extends DeviceOfUser {
  cursor: string;
}

/** Durable acknowledgements per user and device [LOG6]. */
export interface CursorStore {
  /**
   * Keeps cursors of the log, each forward only as long as the one that is stored leads anywhere; of more than
   * `devicesRememberedMax` devices of a user the others are forgotten.
   * @param acknowledgements one of a user at most
   * @returns the cursor of each that is stored now, in the same order
   */
  acknowledge(acknowledgements: Acknowledgement[]): Promise<string[]>;
  acknowledged(userId: string, deviceId: string): Promise<string | null>;
  /** Notes that devices are here, of those that ever acknowledged and were not noted within so long (ms). */
  seen(devices: DeviceOfUser[], unlessWithinMs: number): Promise<void>;
  /** Forgets devices that were last here before a moment (ms since 1970), at most `limit`. @returns how many */
  forget(seenBefore: number, limit: number): Promise<number>;
}

export interface Storage {
  log: EventLog;
  receipts: ReceiptStore;
  overviews: OverviewStore;
  cursors: CursorStore;
  statuses: StatusStore;
  push: PushStore;
  directory: Directory;
  conversations: ConversationStore;
  erasures: ErasureStore;
  /** Takes what applications leave in their own transactions, where the engine has that [PUB2]; started by who reads it. */
  outbox?: Inbox;
  /** Opens it; rejects where the engine is away or its schema is of another version. */
  start(): Promise<void>;
  /**
   * Names this installation among all: made with the log and kept in it, so that no setting can be forgotten. Of a copy of
   * the database it is another one.
   */
  installation(): Promise<string>;
  /** Resolves while the engine takes writes and answers reads, which it shows by one of each [END2]; rejects with the engine's reason. */
  prove(): Promise<void>;
  /** Whether it has refused a write, and neither taken one nor proven itself since [END2]. */
  hasRefused(): boolean;
  stop(): Promise<void>;
}

/** Says from which version to which a schema was brought: equal numbers mean that nothing was done, 0 that there was none before. */
export interface Migration {
  from: number;
  to: number;
}
