/** Turns watermarks that moved into logged receipts, at most one per conversation, user and kind in a short while [REC2]. */

import type { Audience } from "../broadcast/broadcaster.ts";
import type { Publisher } from "../broadcast/publisher.ts";
import type { DirectoryView } from "../directory/directory.ts";
import { momentText } from "../ground/moments.ts";
import { pages } from "../ground/pages.ts";
import { SharedWrites } from "../ground/shared-writes.ts";
import { limits } from "../protocol/limits.ts";
import type { ServerPayload } from "../protocol/server.ts";
import { conversationTopic, userTopic } from "../protocol/topic.ts";
import type {
  Marked,
  NewEvent,
  ReceiptKind,
  ReceiptMark,
  ReceiptStore,
  Telling,
  UnsentReceipt,
} from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";

export interface ReceiptRelayOptions {
  store: ReceiptStore;
  publisher: Pick<Publisher, "appendAll">;
  directory: Pick<DirectoryView, "toldOfReceipts">;
  /** How long receipts are gathered, ms. */
  windowMs: number;
  /** How long marks wait for those of others, ms: a statement has many of them. */
  paceMs?: number;
  now: () => number;
  newId: () => string;
  logger: Logger;
}

/** Gathers receipts of one conversation and user. */
interface Gathering {
  conversationId: string;
  userId: string;
  audience: Audience;
  /** How far whom the audience leaves out has come by its own marks, whose answers have told it. */
  ownSeqs: Map<ReceiptKind, number>;
  /** Owed by what the marks have found; null: it is to be asked. */
  owed: Map<ReceiptKind, UnsentReceipt> | null;
}

const eventTypes = { delivered: "message.delivered", read: "message.read", read_private: "message.read" } as const;
/** A watermark older than this that nobody told of was left behind by a node that died. */
const leftBehindAfterMs = 5_000;
const sweepIntervalMs = 5_000;
const sweepBatch = 100;
/** Users in conversations that are told of together: messages wait behind them. */
const toldAtOnce = 100;

/** Tries of a stop to tell what others are at. */
const stopRoundsMax = 5;

/** A receipt with the event that tells of it. */
interface Owed {
  receipt: UnsentReceipt;
  event: NewEvent;
}

/** @returns what is owed of a user and conversation with what a mark has found, null where that is to be asked */
function withOwed(owed: Gathering["owed"], found: UnsentReceipt): Gathering["owed"] {
  if (owed === null) return null;
  const delivered = owed.get("delivered");
  if (found.kind === "read" && delivered !== undefined) {
    // It tells of what was delivered too; where that goes further, what is owed of it begins there now.
    if (delivered.upToSeq > found.upToSeq) return null;
    owed.delete("delivered");
  }
  return owed.set(found.kind, found);
}

const keyOf = ({ conversationId, userId }: { conversationId: string; userId: string }) => `${conversationId} ${userId}`;

export class ReceiptRelay {
  readonly #marks: SharedWrites<ReceiptMark, Marked>;
  /** Holds what has moved in this window, by conversation and user. */
  readonly #gathering = new Map<string, Gathering>();
  /** Conversations and users that are being told of: what they move meanwhile stays gathered. */
  readonly #telling = new Set<string>();
  readonly #sending = new Set<Promise<unknown>>();
  #window: Timer | null = null;
  #sweeping: Timer | null = null;
  #isSweeping = false;

  readonly #outage: Outage;

  constructor(private readonly options: ReceiptRelayOptions) {
    const { logger, store, paceMs = 0 } = options;
    this.#marks = new SharedWrites<ReceiptMark, Marked>({
      write: (marks) => store.advance(marks, limits.toldMessageIds),
      keyOf,
      weightOf: ({ messageIds = [] }) => messageIds.length,
      paceMs,
    });
    this.#outage = warnsOnce(logger, "receipts wait", "receipts go on");
  }

  /** Sends what a crash left untold, now and from time to time. */
  start(): void {
    const { now } = this.options;
    this.#sweeping = setInterval(() => this.#sweep(now() - leftBehindAfterMs), sweepIntervalMs);
    this.#sweep(now());
  }

  /** Sends at once what is being gathered, and ends a sweep with the page that it is at. */
  async stop(): Promise<void> {
    if (this.#sweeping !== null) clearInterval(this.#sweeping);
    this.#sweeping = null;
    // A watermark that moved while it was told of is gathered anew; what others are still at is left to a sweep.
    for (let round = 0; round < stopRoundsMax && (this.#gathering.size > 0 || this.#sending.size > 0); round++) {
      this.#sendGathered();
      await Promise.all(this.#sending);
    }
  }

  /** Moves the watermark durably, then tells of it within the window. */
  async advance(mark: ReceiptMark, audience: Audience): Promise<Marked> {
    const marked = await this.#marks.write(mark);
    if (marked.advanced) this.#gather({ ...mark, upToSeq: marked.upToSeq }, audience, marked.owed);
    return marked;
  }

  /** Has marks that wait for others' written now. */
  hurry(): void {
    this.#marks.hurry();
  }

  #gather(
    { conversationId, userId, kind, upToSeq }: Omit<Telling, "sentSeq">,
    audience: Audience,
    owed?: Marked["owed"],
  ): void {
    const key = keyOf({ conversationId, userId });
    let gathering = this.#gathering.get(key);
    if (gathering === undefined) {
      gathering = { conversationId, userId, audience, ownSeqs: new Map([[kind, upToSeq]]), owed: new Map() };
      this.#gathering.set(key, gathering);
    } else if (gathering.audience.except === audience.except) {
      gathering.ownSeqs.set(kind, Math.max(upToSeq, gathering.ownSeqs.get(kind) ?? 0));
    } else {
      // Two devices caused it: each of them is told of what the other did.
      gathering.audience = {};
    }
    if (owed === undefined) gathering.owed = null;
    else gathering.owed = withOwed(gathering.owed, { conversationId, userId, kind, upToSeq, ...owed });
    this.#window ??= setTimeout(() => this.#sendGathered(), this.options.windowMs);
  }

  #sendGathered(): void {
    if (this.#window !== null) clearTimeout(this.#window);
    this.#window = null;
    const due = [...this.#gathering].filter(([key]) => !this.#telling.has(key));
    for (const [key] of due) {
      this.#gathering.delete(key);
      this.#telling.add(key);
    }
    for (const page of pages(due, toldAtOnce)) this.#track(this.#sendPage(new Map(page)));
  }

  async #sendPage(gathered: Map<string, Gathering>): Promise<void> {
    // Leaves nobody out of what goes beyond its own marks: another device's is told with them, of another node or of this very moment.
    const audienceOf = (receipt: UnsentReceipt): Audience => {
      const { audience, ownSeqs } = gathered.get(keyOf(receipt))!;
      return receipt.upToSeq <= (ownSeqs.get(receipt.kind) ?? 0) ? audience : {};
    };
    const all = [...gathered.values()];
    const known = all.flatMap(({ owed }) => [...(owed?.values() ?? [])]);
    const of = all
      .filter(({ owed }) => owed === null)
      .map(({ conversationId, userId }) => ({ conversationId, userId }));
    const find = async () => (of.length === 0 ? known : [...known, ...(await this.#unsent({ of }))]);
    await this.#send(find, audienceOf);
    for (const key of gathered.keys()) this.#telling.delete(key);
    if (this.#gathering.size > 0) this.#window ??= setTimeout(() => this.#sendGathered(), this.options.windowMs);
  }

  #sweep(movedBefore: number): void {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    this.#track(this.#sendLeftBehind(movedBefore).finally(() => (this.#isSweeping = false)));
  }

  async #sendLeftBehind(movedBefore: number): Promise<void> {
    const find = () => this.#unsent({ movedBefore, limit: sweepBatch });
    while ((await this.#send(find, () => ({}))) === sweepBatch && this.#sweeping !== null);
  }

  /** Stopping waits for it. */
  #track(work: Promise<unknown>): void {
    const sending = work.finally(() => this.#sending.delete(sending));
    this.#sending.add(sending);
  }

  #unsent(query: Parameters<ReceiptStore["unsent"]>[0]): Promise<UnsentReceipt[]> {
    return this.options.store.unsent(query, limits.toldMessageIds);
  }

  /** @returns how many are told now; fewer than were found where others are at them, 0 where that failed */
  async #send(find: () => Promise<UnsentReceipt[]>, audienceOf: (receipt: UnsentReceipt) => Audience): Promise<number> {
    const { store, directory } = this.options;
    try {
      const unsent = await find();
      const openIn = await directory.toldOfReceipts([...new Set(unsent.map(({ conversationId }) => conversationId))]);
      const passed: Telling[] = [];
      const owed: Owed[] = [];
      // Reads of both kinds may go to one topic, which keeps the newest of them.
      for (const receipt of unsent.toSorted((one, other) => one.upToSeq - other.upToSeq)) {
        const { conversationId, kind, messageIds, ...rest } = receipt;
        const isPrivate = kind === "read_private" || !openIn.has(conversationId);
        // Where others are not told one's other devices need to know what is read, and nobody what was delivered. Where only receipts
        // or messages of their own were passed, telling of it would be one more event to mark, without end.
        if ((isPrivate && kind === "delivered") || messageIds.length === 0)
          passed.push({ conversationId, kind, ...rest });
        else owed.push({ receipt, event: this.#eventOf(receipt, isPrivate) });
      }
      if (passed.length > 0) await store.passOver(passed);
      const told = await this.#tell(owed, audienceOf);
      this.#outage.ended();
      return passed.length + told;
    } catch (error) {
      // They stay unsent in the store; a later sweep takes them.
      this.#outage.began(error);
      return 0;
    }
  }

  /** Tells of all together; those of one topic in one transaction. @returns of how many */
  async #tell(owed: Owed[], audienceOf: (receipt: UnsentReceipt) => Audience): Promise<number> {
    const byTopic = Map.groupBy(owed, ({ event }) => event.topic);
    const told = await Promise.all([...byTopic.values()].map((some) => this.#append(some, audienceOf)));
    return told.reduce((sum, count) => sum + count, 0);
  }

  async #append(owed: Owed[], audienceOf: (receipt: UnsentReceipt) => Audience): Promise<number> {
    const audiences = new Map(owed.map(({ event, receipt }) => [event.id, audienceOf(receipt)]));
    const appended = await this.options.publisher.appendAll(
      owed.map(({ event }) => event),
      { audienceOf: ({ id }) => audiences.get(id)! },
    );
    const contested = owed.filter((_, index) => appended[index]!.duplicate);
    // Another node has told, or somebody marks at this moment: what is owed now is looked up anew.
    for (const { receipt } of contested) this.#gather(receipt, audienceOf(receipt));
    return owed.length - contested.length;
  }

  #eventOf({ messageIds, ...telling }: UnsentReceipt, isPrivate: boolean): NewEvent {
    const { conversationId, userId, kind, upToSeq } = telling;
    const at = this.options.now();
    const payload: ServerPayload<"message.read"> = {
      conversation_id: conversationId,
      user_id: userId,
      message_ids: messageIds,
      up_to_seq: upToSeq,
      at: momentText(at),
      ...(isPrivate ? { private: true } : {}),
    };
    return {
      id: this.options.newId(),
      topic: isPrivate ? userTopic(userId) : conversationTopic(conversationId),
      type: eventTypes[kind],
      payload: JSON.stringify(payload),
      createdAt: at,
      compactionKey: `${isPrivate ? "read_private" : kind}:${conversationId}:${userId}`,
      tells: telling,
    };
  }
}
