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

/** Conversations of one question that is asked together with others', and of all of these. */
const gatheredMax = 20;
const atOnceMax = 16;
const underWayMax = 4;

interface OverviewRow extends Omit<LoggedEvent, "id"> {
  /** Which question it answers, from 1. */
  asked: number;
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
  // No topic has a space in its name.
  const text = `SELECT q.n AS asked, topic, as_of_seq AS "asOfSeq", read_seq AS "readSeq", delivered_seq AS "deliveredSeq", unread,
      has_no_message AS "hasNoMessage", receipts, used, seq, position, id, type, payload, created_at AS "createdAt"
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS q (user_id, topics, told, room, n)
    CROSS JOIN LATERAL ${ws}.overviews(q.user_id, string_to_array(q.topics, ' '), string_to_array(q.told, ' ')::boolean[],
      ${lastMessageBytesMax}, q.room, ${eventsLookedAt}, ${receiptsToldMax}) WITH ORDINALITY AS o (topic, as_of_seq, read_seq,
      delivered_seq, unread, has_no_message, receipts, used, seq, position, id, type, payload, created_at, row)
    ORDER BY q.n, o.row`;

  async function readAll(queries: OverviewQuery[]): Promise<OverviewPage[]> {
    const rows = await pool.query<OverviewRow>(text, [
      arrayOf(queries.map(({ userId }) => userId)),
      arrayOf(
        queries.map(({ conversations }) => conversations.map((it) => conversationTopic(it.conversationId)).join(" ")),
      ),
      arrayOf(queries.map(({ conversations }) => conversations.map(({ isTold }) => isTold).join(" "))),
      arrayOf(queries.map(({ bytesMax }) => bytesMax)),
    ]);
    const byQuestion = Map.groupBy(rows, ({ asked }) => asked);
    return queries.map((query, index) => pageOf(query, byQuestion.get(index + 1) ?? []));
  }

  const gathering = new Gathering({ ask: readAll, atOnceMax, underWayMax });
  return {
    async read(query) {
      if (query.conversations.length <= gatheredMax) return gathering.ask(query);
      return (await readAll([query]))[0]!;
    },
  };
}

function pageOf({ conversations, bytesMax }: OverviewQuery, rows: OverviewRow[]): OverviewPage {
  const overviews = new Map(conversations.map(({ conversationId, isTold }) => [conversationId, emptyOverview(isTold)]));
  const beyond: string[] = [];
  let bytes = 0;
  for (const row of rows) {
    const conversationId = row.topic.slice(conversationTopic("").length);
    overviews.set(conversationId, overviewOf(row));
    if (row.used <= bytesMax) bytes = row.used;
    else beyond.push(conversationId);
  }
  return { overviews, bytes, beyond };
}

function overviewOf({
  asked: _,
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
