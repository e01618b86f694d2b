/** Describes as a port what a list of conversations is drawn from [REC3]. */
import type { AtOnce } from "../ground/at-once.ts";
import type { LoggedEvent } from "./logged-event.ts";

/** A conversation as one user has it in a list. */
export interface Overview {
  /** The last number of the conversation in the moment that all of this was read: what has a higher one is not in it yet. */
  asOfSeq: number;
  /** How far the user has come; both begin where the user has joined. */
  readSeq: number;
  deliveredSeq: number;
  /** Others' messages above `readSeq`, of the same moment as the last message. */
  unread: number;
  /** The newest message; null: there is none; undefined: there may be one, which was left out. */
  lastMessage: LoggedEvent | null | undefined;
  /** JSON text of the others' `{user_id, read_seq, delivered_seq}`, who moved last first; undefined: left out. */
  receipts: string | undefined;
}

export interface OverviewQuery {
  userId: string;
  /** At most `namesPerQuestion`, each with whether its members are told of each other's receipts. */
  conversations: { conversationId: string; isTold: boolean }[];
  /** Of last messages and receipts together; what is beyond is left out, and so is all after it. */
  bytesMax: number;
}

export interface OverviewPage {
  /** Of all conversations asked for. */
  overviews: Map<string, Overview>;
  /** Of the last messages and receipts of those that are not `beyond`. */
  bytes: number;
  /** Conversations of which something may be left out for being beyond the bytes asked for, in their order. */
  beyond: string[];
}

/** Bytes of a last message beyond which it is left out: it is read by `history`. */
export const lastMessageBytesMax = 64 * 1024;
/** Others whose receipts are told of one conversation. */
export const receiptsToldMax = 100;

export interface OverviewStore {
  /** Looks at all of them at once, in the order given: that is what counts towards the bytes. */
  read(query: OverviewQuery): AtOnce<OverviewPage>;
}

/** A conversation without events. */
export const emptyOverview = (isTold: boolean): Overview => ({
  asOfSeq: 0,
  readSeq: 0,
  deliveredSeq: 0,
  unread: 0,
  lastMessage: null,
  receipts: isTold ? "[]" : undefined,
});
