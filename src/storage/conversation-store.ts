/** Describes as a port what keeps of single conversations less than the log does [LOG9]. */
import { limits } from "../protocol/limits.ts";

/** No conversation keeps its events for less (ms): nodes that missed one must have the time to read it in the log. */
export const retentionMsMin = limits.retentionMinutesMin * 60_000;
/** More (ms) is the same: the log keeps nothing for as long. */
export const retentionMsMax = limits.retentionDaysMax * 86_400_000;

/** Says how a page of conversations has ended. */
export interface ExpiredPage {
  removed: number;
  /** Where the next page begins; null: the round is over. */
  next: string | null;
  /** Conversations whose retention, as the application has written it, says nothing: theirs is the log's. */
  unclear: string[];
}

export interface ConversationStore {
  /**
   * Has a conversation, known or not, keep its events for so long; null: as the log does.
   * @throws DirectoryReadOnly where a view of the application's says it
   */
  setRetention(conversationId: string, retentionMs: number | null): Promise<void>;
  /**
   * Removes events that are older than their conversation keeps them, of a page of conversations. It is done as compaction is:
   * nothing that was missed is said to be lost, and numbers go on.
   * @returns null where it was not time for a round
   * @param query `after`: null begins a round, of which there is one in `everyMs` over all nodes; else the `next` of the page before
   */
  expire(query: { after: string | null; now: number; everyMs: number }): Promise<ExpiredPage | null>;
}

/** Conversations that one page looks at. */
export const conversationsPerPage = 500;
/** Events that one page looks at to remove them. */
export const expiredPerPage = 1_000;
/** After so many events of a conversation that are young, and stay, the others of it are not looked at: clocks differ a little. */
export const youngPassedMax = 50;
/** After so many a page may have had no room for more, also where some of those that it looked at stay: the next one begins where it did. */
export const expiredPerPageMany = expiredPerPage / 2;
