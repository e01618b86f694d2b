/** Describes as a port how far users have received and read conversations, and what of it others were told. */
export type ReceiptKind = "delivered" | "read" | "read_private";

export interface ReceiptMark {
  conversationId: string;
  userId: string;
  kind: ReceiptKind;
  messageIds?: string[] | undefined;
  upToSeq?: number | undefined;
}

/** Where a mark has come to. */
export interface Marked {
  /** The watermark as it is now. */
  upToSeq: number;
  /** Whether this mark moved it. */
  advanced: boolean;
  /** Of the user in the conversation, in the moment in which its last number was `asOfSeq`; as `states` counts. */
  unread: number;
  asOfSeq: number;
  /** Owed since it has moved, where the engine finds that with the move; it may be told meanwhile. */
  owed?: Pick<UnsentReceipt, "sentSeq" | "messageIds">;
}

/** Says from where to where a watermark is told of. */
export interface Telling {
  conversationId: string;
  userId: string;
  kind: ReceiptKind;
  /** The watermark that was last told. */
  sentSeq: number;
  upToSeq: number;
}

/** A watermark that has moved and whose event is not in the log yet. */
export interface UnsentReceipt extends Telling {
  /** Ids of others' messages that are newly covered: the newest so many, oldest first. */
  messageIds: string[];
}

/** Keeps forward-only watermarks per conversation, user and kind [REC1]. The log's topic of a conversation is `conversation:<id>`. */
export interface ReceiptStore {
  /**
   * Moves watermarks forward, each to the highest `seq` named: by ids (unknown ids and the user's own messages are ignored) or
   * by number (cut to the topic's head). Moving `read` moves `delivered` silently; moving `read` or `read_private` both
   * count for the user's own `read_seq`. Durable when the promise resolves.
   * @param marks one of a user and conversation at most
   * @param messageIdsMax so many ids of what is owed are looked up at most; left out: nothing of it is
   * @returns one for each, in the same order
   */
  advance(marks: ReceiptMark[], messageIdsMax?: number): Promise<Marked[]>;
  /**
   * Finds watermarks above what was told: of users in conversations, or `limit` of all that moved before a moment (crashed in
   * between), the oldest first. An event that `tells` of one moves what was told; of many that do one is appended.
   */
  unsent(
    query: { of: { conversationId: string; userId: string }[] } | { movedBefore: number; limit: number },
    messageIdsMax: number,
  ): Promise<UnsentReceipt[]>;
  /** Notes as told what no event is to tell of, where it was told up to `sentSeq`. */
  passOver(tellings: Telling[]): Promise<void>;
  /**
   * Says how far the caller has come in conversations; `unread` counts others' messages above `readSeq`. Both begin where the user
   * has joined by `addMembers`, or by a row of the engine's own table of members [REC3]. `asOfSeq` is the conversation's last
   * number in the moment of counting.
   */
  states(
    userId: string,
    conversationIds: string[],
  ): Promise<Map<string, { asOfSeq: number; readSeq: number; deliveredSeq: number; unread: number }>>;
}
