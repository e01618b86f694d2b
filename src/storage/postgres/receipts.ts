/** Keeps the receipts in PostgreSQL: forward-only watermarks and what of them was told [REC1]. */
import { pages } from "../../ground/pages.ts";
import { conversationTopic } from "../../protocol/topic.ts";
import { type ReceiptStore, receiptLeaseMs, type UnsentReceipt } from "../ports.ts";
import { sqlOf } from "../sql-text.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";
import advance from "./queries/receipts-advance.sql" with { type: "text" };

/** Where a conversation's id begins in the name of its topic, counted from 1. */
const idAt = conversationTopic("").length + 1;
const conversationIdOf = `substr(t.name, ${idAt}) AS "conversationId"`;
/** A claim that was not marked as sent is told of up to where its first holder may have told of it. */
const claim = "claimed_seq = coalesce(r.claimed_seq, r.seq), claimed_at";
const claimed = `${conversationIdOf}, r.user_id AS "userId", r.kind, r.sent_seq AS "sentSeq", r.claimed_seq AS "upToSeq"`;

/** Conversations whose unread messages are counted by one statement. */
const statesPerStatement = 500;

function statements(ws: string) {
  return {
    advance: sqlOf(advance, { ws }),
    claimOf: `UPDATE ${ws}.receipts AS r SET ${claim} = $3::bigint FROM ${ws}.topics AS t
      WHERE t.name = $1 AND r.topic_id = t.topic_id AND r.user_id = $2 AND r.sent_seq < r.seq
        AND (r.claimed_seq IS NULL OR r.claimed_at <= $4)
      RETURNING ${claimed}`,
    claimBefore: `UPDATE ${ws}.receipts AS r SET ${claim} = $3::bigint FROM ${ws}.topics AS t, (
        SELECT topic_id, user_id, kind FROM ${ws}.receipts
        WHERE sent_seq < seq AND moved_at < $1 AND (claimed_seq IS NULL OR claimed_at <= $4)
        ORDER BY moved_at LIMIT $2 FOR UPDATE SKIP LOCKED) AS old
      WHERE r.topic_id = old.topic_id AND r.user_id = old.user_id AND r.kind = old.kind AND t.topic_id = r.topic_id
      RETURNING ${claimed}`,
    covered: `SELECT e.id FROM ${ws}.topics AS t JOIN ${ws}.events AS e USING (topic_id)
      WHERE t.name = $1 AND e.sender_id NOT IN ('', $2) AND e.seq > $3 AND e.seq <= $4
      ORDER BY e.seq DESC LIMIT $5`,
    markSent: `UPDATE ${ws}.receipts AS r SET sent_seq = greatest(r.sent_seq, $4), claimed_seq = NULL FROM ${ws}.topics AS t
      WHERE t.name = $1 AND r.topic_id = t.topic_id AND r.user_id = $2 AND r.kind = $3 AND r.claimed_seq = $4
      RETURNING r.sent_seq < r.seq AS "movedOn"`,
    states: `SELECT substr(topic, ${idAt}) AS "conversationId", as_of_seq AS "asOfSeq", read_seq AS "readSeq",
        delivered_seq AS "deliveredSeq", unread
      FROM ${ws}.receipt_states($1, $2)`,
  };
}

/** @param now milliseconds since 1970 */
export function createReceiptStore(pool: Pool, schema: string, now: () => number): ReceiptStore {
  const sql = statements(schema);
  return {
    async advance({ conversationId, userId, kind, messageIds = [], upToSeq = 0 }) {
      const parameters = [conversationTopic(conversationId), userId, kind, arrayOf(messageIds), upToSeq, now()];
      const [row] = await pool.query<{ upToSeq: number; advanced: boolean }>(sql.advance, parameters);
      return { upToSeq: row!.upToSeq, advanced: row!.advanced };
    },

    async claim(query, limit) {
      const lease = [now(), now() - receiptLeaseMs];
      const rows =
        "movedBefore" in query
          ? await pool.query<UnsentReceipt>(sql.claimBefore, [query.movedBefore, limit, ...lease])
          : await pool.query<UnsentReceipt>(sql.claimOf, [
              conversationTopic(query.conversationId),
              query.userId,
              ...lease,
            ]);
      return [...rows];
    },

    async covered({ conversationId, userId, afterSeq, throughSeq, limit }) {
      const parameters = [conversationTopic(conversationId), userId, afterSeq, throughSeq, limit];
      const rows = await pool.query<{ id: string }>(sql.covered, parameters);
      return rows.map(({ id }) => id).reverse();
    },

    async markSent({ conversationId, userId, kind, upToSeq }) {
      const parameters = [conversationTopic(conversationId), userId, kind, upToSeq];
      const [row] = await pool.query<{ movedOn: boolean }>(sql.markSent, parameters);
      return row?.movedOn === true;
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
