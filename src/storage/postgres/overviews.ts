/** Reads what a list of conversations is drawn from in PostgreSQL: many of them by one statement [REC3]. */
import { conversationTopic } from "../../protocol/topic.ts";
import {
  emptyOverview,
  lastMessageBytesMax,
  type Overview,
  type OverviewStore,
  receiptsToldMax,
} from "../overview-store.ts";
import type { LoggedEvent } from "../ports.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";

/** Events of a conversation among which its last message is looked for. */
const eventsLookedAt = 5_000;

interface OverviewRow extends Omit<LoggedEvent, "id"> {
  asOfSeq: number;
  readSeq: number;
  deliveredSeq: number;
  unread: number;
  hasNoMessage: boolean;
  receipts: string | null;
  used: number;
  /** Null: the event is left out. */
  id: string | null;
}

export function createOverviewStore(pool: Pool, ws: string): OverviewStore {
  const text = `SELECT topic, as_of_seq AS "asOfSeq", read_seq AS "readSeq", delivered_seq AS "deliveredSeq", unread,
      has_no_message AS "hasNoMessage", receipts, used, seq, position, id, type, payload, created_at AS "createdAt"
    FROM ${ws}.overviews($1, $2, $3, ${lastMessageBytesMax}, $4, ${eventsLookedAt}, ${receiptsToldMax})`;
  return {
    async read({ userId, conversations, bytesMax }) {
      const overviews = new Map(
        conversations.map(({ conversationId, isTold }) => [conversationId, emptyOverview(isTold)]),
      );
      const topics = conversations.map(({ conversationId }) => conversationTopic(conversationId));
      const told = conversations.map(({ isTold }) => `${isTold}`);
      const rows = await pool.query<OverviewRow>(text, [userId, arrayOf(topics), arrayOf(told), bytesMax]);
      const beyond: string[] = [];
      let bytes = 0;
      for (const row of rows) {
        const conversationId = row.topic.slice(conversationTopic("").length);
        overviews.set(conversationId, overviewOf(row));
        if (row.used <= bytesMax) bytes = row.used;
        else beyond.push(conversationId);
      }
      return { overviews, bytes, beyond };
    },
  };
}

function overviewOf({
  asOfSeq,
  readSeq,
  deliveredSeq,
  unread,
  hasNoMessage,
  receipts,
  used,
  id,
  ...event
}: OverviewRow): Overview {
  return {
    asOfSeq,
    readSeq,
    deliveredSeq,
    unread,
    lastMessage: id !== null ? { ...event, id } : hasNoMessage ? null : undefined,
    receipts: receipts ?? undefined,
  };
}
