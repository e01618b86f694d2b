/** The receipts on PostgreSQL: forward-only watermarks and what of them was told [REC1]. */
import { type ReceiptStore, receiptLeaseMs, type UnsentReceipt } from "../ports.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";

const topicPrefix = "conversation:";
const topicOf = (conversationId: string) => `${topicPrefix}${conversationId}`;
const conversationIdOf = `substr(t.name, ${topicPrefix.length + 1}) AS "conversationId"`;
/** A claim that was not marked as sent is told of up to where its first holder may have told of it. */
const claim = "claimed_seq = coalesce(r.claimed_seq, r.seq), claimed_at";
const claimed = `${conversationIdOf}, r.user_id AS "userId", r.kind, r.sent_seq AS "sentSeq", r.claimed_seq AS "upToSeq"`;

/** Conversations whose unread messages are counted by one statement. */
const statesPerStatement = 500;

function statements(ws: string) {
  return {
    // moved_at stays at the first move that is not told yet, so that later ones cannot put its event off for ever.
    // The read event tells of what was delivered too: no delivered event is owed for what it covers. What was there
    // before the user has joined is nobody's to tell.
    advance: `WITH topic AS (SELECT topic_id, ${ws}.head_seq(topic_id) AS seq FROM ${ws}.topics WHERE name = $1),
      named AS (
        SELECT max(e.seq) AS seq FROM topic AS t JOIN ${ws}.events AS e USING (topic_id)
        WHERE e.id = ANY ($4::text[]) AND e.sender_id IS NOT NULL AND e.sender_id <> $2),
      target AS (
        SELECT t.topic_id, greatest(coalesce(n.seq, 0), least($5::bigint, t.seq)) AS seq
        FROM topic AS t CROSS JOIN named AS n),
      current AS (
        SELECT coalesce(max(r.seq), 0) AS seq, coalesce(max(r.seq) FILTER (WHERE r.kind = 'joined'), 0) AS joined
        FROM topic AS t JOIN ${ws}.receipts AS r USING (topic_id) WHERE r.user_id = $2 AND r.kind IN ($3, 'joined')),
      moved AS (
        INSERT INTO ${ws}.receipts AS r (topic_id, user_id, kind, seq, sent_seq, moved_at)
          SELECT t.topic_id, $2, $3, t.seq, c.joined, $6::bigint FROM target AS t, current AS c WHERE t.seq > c.seq
        ON CONFLICT (topic_id, user_id, kind) DO UPDATE SET seq = excluded.seq,
          moved_at = CASE WHEN r.sent_seq < r.seq THEN r.moved_at ELSE excluded.moved_at END
          WHERE r.seq < excluded.seq
        RETURNING r.topic_id, r.seq),
      moved_silently AS (
        INSERT INTO ${ws}.receipts AS r (topic_id, user_id, kind, seq, sent_seq, moved_at)
          SELECT topic_id, $2, 'delivered', seq, seq, $6::bigint FROM moved WHERE $3 = 'read'
        ON CONFLICT (topic_id, user_id, kind) DO UPDATE SET
          seq = greatest(r.seq, excluded.seq), sent_seq = greatest(r.sent_seq, excluded.sent_seq))
      SELECT greatest(coalesce((SELECT seq FROM target), 0), coalesce((SELECT seq FROM current), 0)) AS "upToSeq",
        EXISTS (SELECT FROM moved) AS advanced`,
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
      WHERE t.name = $1 AND e.sender_id IS NOT NULL AND e.sender_id <> $2 AND e.seq > $3 AND e.seq <= $4
      ORDER BY e.seq DESC LIMIT $5`,
    markSent: `UPDATE ${ws}.receipts AS r SET sent_seq = greatest(r.sent_seq, $4), claimed_seq = NULL FROM ${ws}.topics AS t
      WHERE t.name = $1 AND r.topic_id = t.topic_id AND r.user_id = $2 AND r.kind = $3 AND r.claimed_seq = $4
      RETURNING r.sent_seq < r.seq AS "movedOn"`,
    states: `SELECT substr(topic, ${topicPrefix.length + 1}) AS "conversationId", read_seq AS "readSeq",
        delivered_seq AS "deliveredSeq", unread
      FROM ${ws}.receipt_states($1, $2)`,
  };
}

/** @param now milliseconds since the epoch */
export function createReceiptStore(pool: Pool, schema: string, now: () => number): ReceiptStore {
  const sql = statements(schema);
  return {
    async advance({ conversationId, userId, kind, messageIds = [], upToSeq = 0 }) {
      const parameters = [topicOf(conversationId), userId, kind, arrayOf(messageIds), upToSeq, now()];
      const [row] = await pool.query<{ upToSeq: number; advanced: boolean }>(sql.advance, parameters);
      return { upToSeq: row!.upToSeq, advanced: row!.advanced };
    },

    async claim(query, limit) {
      const lease = [now(), now() - receiptLeaseMs];
      const rows =
        "movedBefore" in query
          ? await pool.query<UnsentReceipt>(sql.claimBefore, [query.movedBefore, limit, ...lease])
          : await pool.query<UnsentReceipt>(sql.claimOf, [topicOf(query.conversationId), query.userId, ...lease]);
      return [...rows];
    },

    async covered({ conversationId, userId, afterSeq, throughSeq, limit }) {
      const parameters = [topicOf(conversationId), userId, afterSeq, throughSeq, limit];
      const rows = await pool.query<{ id: string }>(sql.covered, parameters);
      return rows.map(({ id }) => id).reverse();
    },

    async markSent({ conversationId, userId, kind, upToSeq }) {
      const parameters = [topicOf(conversationId), userId, kind, upToSeq];
      const [row] = await pool.query<{ movedOn: boolean }>(sql.markSent, parameters);
      return row?.movedOn === true;
    },

    async states(userId, conversationIds) {
      const states = new Map(conversationIds.map((id) => [id, { readSeq: 0, deliveredSeq: 0, unread: 0 }]));
      const asked = [...states.keys()];
      for (let start = 0; start < asked.length; start += statesPerStatement) {
        const topics = arrayOf(asked.slice(start, start + statesPerStatement).map(topicOf));
        type Row = { conversationId: string; readSeq: number; deliveredSeq: number; unread: number };
        for (const row of await pool.query<Row>(sql.states, [userId, topics])) {
          const { conversationId, readSeq, deliveredSeq, unread } = row;
          states.set(conversationId, { readSeq, deliveredSeq, unread });
        }
      }
      return states;
    },
  };
}
