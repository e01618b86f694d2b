/** Keeps the receipts in PostgreSQL: forward-only watermarks and what of them was told [REC1]. */
import { pages } from "../../ground/pages.ts";
import { conversationTopic } from "../../protocol/topic.ts";
import type { Marked, ReceiptStore, Telling, UnsentReceipt } from "../ports.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";

/** Where a conversation's id begins in the name of its topic, counted from 1. */
const idAt = conversationTopic("").length + 1;
const conversationId = `substr(topic, ${idAt}) AS "conversationId"`;

/** Conversations whose unread messages are counted by one statement. */
const statesPerStatement = 500;

function statements(ws: string) {
  return {
    advance: `SELECT n, up_to_seq AS "upToSeq", advanced, unread, as_of_seq AS "asOfSeq", sent_seq AS "sentSeq",
        newest_first AS "newestFirst"
      FROM ${ws}.mark_receipts($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    unsent: `SELECT ${conversationId}, user_id AS "userId", kind, sent_seq AS "sentSeq", up_to_seq AS "upToSeq",
        newest_first AS "messageIds"
      FROM ${ws}.unsent_receipts($1, $2, $3, $4, $5, $6)`,
    passOver: `SELECT ${ws}.tell_receipts($1, NULL)`,
    states: `SELECT ${conversationId}, as_of_seq AS "asOfSeq", read_seq AS "readSeq", delivered_seq AS "deliveredSeq", unread
      FROM ${ws}.receipt_states($1, $2)`,
  };
}

interface MarkedRow extends Omit<Marked, "owed"> {
  n: number;
  /** Up to where it was told. */
  sentSeq: number;
  /** Ids of others' messages that are not told of; null where it has not moved, or nothing was asked. */
  newestFirst: string[] | null;
}

/** Makes what `tell_receipts` is given of them; each has a number by which it is named where it was not told. */
export const tellingsText = (tellings: (Telling & { n: number })[]): string =>
  JSON.stringify(
    tellings.map(({ n, conversationId, userId, kind, sentSeq, upToSeq }) => ({
      n,
      topic: conversationTopic(conversationId),
      user_id: userId,
      kind,
      sent_seq: sentSeq,
      up_to_seq: upToSeq,
    })),
  );

/** Names the topic of each conversation once. @returns the names, and of each that was given which of them, from 1 */
function placesOf(items: { conversationId: string }[]): [names: string, places: string] {
  const places = new Map<string, number>();
  for (const { conversationId } of items) if (!places.has(conversationId)) places.set(conversationId, places.size + 1);
  const placed = items.map(({ conversationId }) => places.get(conversationId)!);
  return [arrayOf([...places.keys()].map(conversationTopic)), arrayOf(placed)];
}

/** @param now milliseconds since 1970 */
export function createReceiptStore(pool: Pool, schema: string, now: () => number): ReceiptStore {
  const sql = statements(schema);
  return {
    async advance(marks, messageIdsMax = 0) {
      let idsGiven = 0;
      const rows = await pool.query<MarkedRow>(sql.advance, [
        ...placesOf(marks),
        arrayOf(marks.map(({ userId }) => userId)),
        arrayOf(marks.map(({ kind }) => kind)),
        arrayOf(marks.map(({ upToSeq = 0 }) => upToSeq)),
        arrayOf(marks.flatMap(({ messageIds = [] }) => messageIds)),
        arrayOf(marks.map(({ messageIds = [] }) => (idsGiven += messageIds.length))),
        now(),
        messageIdsMax,
      ]);
      const marked: Marked[] = marks.map(() => ({ upToSeq: 0, advanced: false, unread: 0, asOfSeq: 0 }));
      for (const { n, upToSeq, advanced, unread, asOfSeq, sentSeq, newestFirst } of rows) {
        marked[n - 1] = { upToSeq, advanced, unread, asOfSeq };
        if (newestFirst !== null) marked[n - 1]!.owed = { sentSeq, messageIds: newestFirst.toReversed() };
      }
      return marked;
    },

    async unsent(query, messageIdsMax) {
      const parameters =
        "of" in query
          ? [...placesOf(query.of), arrayOf(query.of.map(({ userId }) => userId)), null, null]
          : ["{}", "{}", "{}", query.movedBefore, query.limit];
      const rows = await pool.query<UnsentReceipt>(sql.unsent, [...parameters, messageIdsMax]);
      return rows.map((row) => ({ ...row, messageIds: row.messageIds.toReversed() }));
    },

    async passOver(tellings) {
      await pool.query(sql.passOver, [tellingsText(tellings.map((telling, n) => ({ ...telling, n })))]);
    },

    async states(userId, conversationIds) {
      const states = new Map(conversationIds.map((id) => [id, { asOfSeq: 0, readSeq: 0, deliveredSeq: 0, unread: 0 }]));
      for (const page of pages([...states.keys()], statesPerStatement)) {
        const topics = arrayOf(page.map(conversationTopic));
        type Row = { conversationId: string; asOfSeq: number; readSeq: number; deliveredSeq: number; unread: number };
        for (const row of await pool.query<Row>(sql.states, [userId, topics])) {
          const { conversationId, asOfSeq, readSeq, deliveredSeq, unread } = row;
          states.set(conversationId, { asOfSeq, readSeq, deliveredSeq, unread });
        }
      }
      return states;
    },
  };
}
