/** Reads what a list of conversations is drawn from in PostgreSQL: many of them by one statement [REC3]. */
import { Gathering } from "../../ground/gathering.ts";
import { conversationTopic } from "../../protocol/topic.ts";
import {
  emptyOverview,
  lastMessageBytesMax,
  type Overview,
  type OverviewPage,
  type OverviewQuery,
  type OverviewStore,
  receiptsToldMax,
} from "../overview-store.ts";
import type { LoggedEvent } from "../ports.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";

/** Events of a conversation among which its last message is looked for. */
const eventsLookedAt = 5_000;

/** Conversations of one question that is asked together with others', and such questions of one statement. */
const gatheredMax = 20;
const atOnceMax = 50;
const underWayMax = 4;

interface OverviewRow extends Omit<LoggedEvent, "id" | "seq"> {
  /** Which question it answers, from 1. */
  asked: number;
  asOfSeq: number;
  readSeq: number;
  deliveredSeq: number;
  unread: number;
  hasNoMessage: boolean;
  receipts: string | null;
  used: number;
  /** Of the last message; null: it is left out. */
  seq: number | null;
  /** Null: it is the one of a row before, for another who asks for the conversation. */
  id: string | null;
}

export function createOverviewStore(pool: Pool, ws: string): OverviewStore {
  const text = `SELECT asked, topic, as_of_seq AS "asOfSeq", read_seq AS "readSeq", delivered_seq AS "deliveredSeq", unread,
      has_no_message AS "hasNoMessage", receipts, used, seq, position, id, type, payload, created_at AS "createdAt"
    FROM ${ws}.overviews($1, $2, $3, $4, $5, ${lastMessageBytesMax}, ${eventsLookedAt}, ${receiptsToldMax})`;

  async function readAll(queries: OverviewQuery[]): Promise<OverviewPage[]> {
    const asked = queries.flatMap(({ userId, conversations, bytesMax }, index) =>
      conversations.map(({ conversationId, isTold }) => ({ index, userId, conversationId, isTold, bytesMax })),
    );
    const rows = await pool.query<OverviewRow>(text, [
      arrayOf(asked.map(({ index }) => index + 1)),
      arrayOf(asked.map(({ userId }) => userId)),
      arrayOf(asked.map(({ conversationId }) => conversationTopic(conversationId))),
      arrayOf(asked.map(({ isTold }) => String(isTold))),
      arrayOf(asked.map(({ bytesMax }) => bytesMax)),
    ]);
    const pages = queries.map(emptyPage);
    const messages = new Map<string, LoggedEvent>();
    for (const row of rows) {
      const { topic, seq, id, position, type, payload, createdAt } = row;
      if (id !== null && seq !== null) messages.set(topic, { topic, seq, id, position, type, payload, createdAt });
      const page = pages[row.asked - 1]!;
      const conversationId = topic.slice(conversationTopic("").length);
      page.overviews.set(conversationId, overviewOf(row, seq === null ? undefined : messages.get(topic)));
      if (row.used <= queries[row.asked - 1]!.bytesMax) page.bytes = row.used;
      else page.beyond.push(conversationId);
    }
    return pages;
  }

  const gathering = new Gathering({ ask: readAll, atOnceMax, underWayMax });
  return {
    async read(query) {
      if (query.conversations.length <= gatheredMax) return gathering.ask(query);
      return (await readAll([query]))[0]!;
    },
  };
}

/** Of conversations that have no events. */
function emptyPage({ conversations }: OverviewQuery): OverviewPage {
  const overviews = new Map(conversations.map(({ conversationId, isTold }) => [conversationId, emptyOverview(isTold)]));
  return { overviews, bytes: 0, beyond: [] };
}

function overviewOf(row: OverviewRow, message: LoggedEvent | undefined): Overview {
  const { asOfSeq, readSeq, deliveredSeq, unread, hasNoMessage, receipts } = row;
  const lastMessage = message ?? (hasNoMessage ? null : undefined);
  return { asOfSeq, readSeq, deliveredSeq, unread, lastMessage, receipts: receipts ?? undefined };
}
