/** Turns watermarks that moved into logged receipts, at most one per conversation, user and kind in a short while [REC2]. */

import type { Audience } from "../broadcast/broadcaster.ts";
import { idempotencyKey } from "../broadcast/idempotency-key.ts";
import type { Publisher } from "../broadcast/publisher.ts";
import type { DirectoryView } from "../directory/directory.ts";
import { limits } from "../protocol/limits.ts";
import { conversationTopic, userTopic } from "../protocol/topic.ts";
import type { ReceiptKind, ReceiptStore, UnsentReceipt } from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";

export interface ReceiptRelayOptions {
  store: ReceiptStore;
  publisher: Pick<Publisher, "append">;
  directory: Pick<DirectoryView, "toldOfReceipts">;
  /** How long receipts of one conversation and user are gathered, ms. */
  windowMs: number;
  now: () => number;
  newId: () => string;
  logger: Logger;
}

export interface ReceiptMark {
  conversationId: string;
  userId: string;
  kind: ReceiptKind;
  messageIds?: string[] | undefined;
  upToSeq?: number | undefined;
}

/** Gathers receipts of one conversation and user. */
interface Gathering {
  timer: Timer;
  audience: Audience;
  /** How far whom the audience leaves out has come by its own marks, whose answers have told it. */
  ownSeqs: Map<ReceiptKind, number>;
}

const eventTypes = { delivered: "message.delivered", read: "message.read", read_private: "message.read" } as const;
/** A watermark older than this that nobody told of was left behind by a node that died. */
const leftBehindAfterMs = 5_000;
const sweepIntervalMs = 5_000;
const sweepBatch = 100;

export class ReceiptRelay {
  /** Conversations and users whose receipts are being gathered. */
  readonly #gathering = new Map<string, Gathering>();
  readonly #sending = new Set<Promise<unknown>>();
  #timer: Timer | null = null;
  #isSweeping = false;

  readonly #outage: Outage;

  constructor(private readonly options: ReceiptRelayOptions) {
    const { logger } = options;
    this.#outage = warnsOnce(logger, "receipts wait", "receipts go on");
  }

  /** Sends what a crash left untold, now and from time to time. */
  start(): void {
    const { now } = this.options;
    this.#timer = setInterval(() => this.#sweep(now() - leftBehindAfterMs), sweepIntervalMs);
    this.#sweep(now());
  }

  /** Sends at once what is being gathered, and ends a sweep with the page that it is at. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    // A watermark that moved while it was told of is gathered anew.
    while (this.#gathering.size > 0 || this.#sending.size > 0) {
      for (const [key, { timer }] of this.#gathering) {
        clearTimeout(timer);
        this.#sendGathered(key);
      }
      await Promise.all(this.#sending);
    }
  }

  /** Moves the watermark durably, then tells of it within the window. @returns where the watermark is now */
  async advance(mark: ReceiptMark, audience: Audience): Promise<number> {
    const { upToSeq, advanced } = await this.options.store.advance(mark);
    if (advanced) this.#gather({ ...mark, upToSeq }, audience);
    return upToSeq;
  }

  #gather({ conversationId, userId, kind, upToSeq }: Omit<UnsentReceipt, "sentSeq">, audience: Audience): void {
    const key = `${conversationId} ${userId}`;
    const gathering = this.#gathering.get(key);
    if (gathering === undefined) {
      const timer = setTimeout(() => this.#sendGathered(key), this.options.windowMs);
      this.#gathering.set(key, { timer, audience, ownSeqs: new Map([[kind, upToSeq]]) });
    } else if (gathering.audience.except === audience.except) {
      gathering.ownSeqs.set(kind, Math.max(upToSeq, gathering.ownSeqs.get(kind) ?? 0));
    } else {
      // Two devices caused it: each of them is told of what the other did.
      gathering.audience = {};
    }
  }

  #sendGathered(key: string): void {
    const { audience, ownSeqs } = this.#gathering.get(key)!;
    this.#gathering.delete(key);
    const [conversationId, userId] = key.split(" ") as [string, string];
    // Leaves nobody out of what goes beyond its own marks: another device's is claimed with them, of another node or of this very moment.
    const audienceOf = ({ kind, upToSeq }: UnsentReceipt) => (upToSeq <= (ownSeqs.get(kind) ?? 0) ? audience : {});
    this.#track(this.#sendClaimed({ conversationId, userId }, audienceOf));
  }

  #sweep(movedBefore: number): void {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    this.#track(this.#sendLeftBehind(movedBefore).finally(() => (this.#isSweeping = false)));
  }

  async #sendLeftBehind(movedBefore: number): Promise<void> {
    while ((await this.#sendClaimed({ movedBefore }, () => ({}))) === sweepBatch && this.#timer !== null);
  }

  /** Stopping waits for it. */
  #track(work: Promise<unknown>): void {
    const sending = work.finally(() => this.#sending.delete(sending));
    this.#sending.add(sending);
  }

  /** @returns how many it was given to tell; 0 where that failed */
  async #sendClaimed(
    query: Parameters<ReceiptStore["claim"]>[0],
    audienceOf: (receipt: UnsentReceipt) => Audience,
  ): Promise<number> {
    try {
      const claimed = await this.options.store.claim(query, sweepBatch);
      for (const receipt of claimed) {
        await this.#send(receipt, audienceOf(receipt));
        // The node that moved it meanwhile could not tell of it.
        if (await this.options.store.markSent(receipt)) this.#gather(receipt, {});
      }
      this.#outage.ended();
      return claimed.length;
    } catch (error) {
      // They stay unsent in the store; a later sweep takes them.
      this.#outage.began(error);
      return 0;
    }
  }

  async #send({ conversationId, userId, kind, sentSeq, upToSeq }: UnsentReceipt, audience: Audience): Promise<void> {
    const { store, publisher, now, newId } = this.options;
    const isPrivate = kind === "read_private" || !(await this.#isToldIn(conversationId));
    // Where others are not told one's other devices need to know what is read, and nobody what was delivered.
    if (isPrivate && kind === "delivered") return;
    const told = isPrivate ? "read_private" : kind;
    const at = now();
    const covered = { conversationId, userId, afterSeq: sentSeq, throughSeq: upToSeq, limit: limits.toldMessageIds };
    const messageIds = await store.covered(covered);
    // Only receipts or messages of their own were passed. Telling of it would be one more event to mark, without end.
    if (messageIds.length === 0) return;
    const payload = {
      conversation_id: conversationId,
      user_id: userId,
      message_ids: messageIds,
      up_to_seq: upToSeq,
      at: new Date(at).toISOString(),
      ...(isPrivate ? { private: true } : {}),
    };
    await publisher.append(
      {
        id: newId(),
        topic: isPrivate ? userTopic(userId) : conversationTopic(conversationId),
        type: eventTypes[kind],
        payload,
        createdAt: at,
        compactionKey: `${told}:${conversationId}:${userId}`,
        once: { keys: [idempotencyKey(["receipt", told, conversationId, userId], upToSeq)] },
      },
      { audience },
    );
  }

  async #isToldIn(conversationId: string): Promise<boolean> {
    return (await this.options.directory.toldOfReceipts([conversationId])).has(conversationId);
  }
}
