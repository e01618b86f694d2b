/** Takes everything of a user out of PostgreSQL, a page at a time, and keeps how far that has come [BAK4]. */

import {
  digestOfUser,
  type ErasedRows,
  type ErasureJob,
  type ErasureProgress,
  type ErasureStore,
  isKeyOf,
  keyPart,
  type NamingEvent,
  namingPerPage,
  quotedId,
  type ReactionOfUser,
  type RowsPage,
  reactionsPerPage,
  removedPerPage,
  rowsPerPage,
  topicsOfUser,
} from "../erasure-store.ts";
import { pageBytesMax } from "../ports.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";

const serverNow = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

function statements(ws: string) {
  return {
    request: `INSERT INTO ${ws}.erasures AS e (user_digest, user_id, requested_by, requested_at) VALUES ($1, $2, $3, $4)
      ON CONFLICT (user_digest) DO UPDATE SET user_id = excluded.user_id, requested_by = excluded.requested_by,
        requested_at = excluded.requested_at, started_at = NULL, finished_at = NULL, messages = 0, step = 0, place = '',
        through = 0, log_end = 0, due_at = 0
      WHERE e.finished_at IS NOT NULL`,
    running: `SELECT count(*)::integer AS running FROM ${ws}.erasures WHERE finished_at IS NULL`,
    find: `SELECT requested_at AS "requestedAt", started_at AS "startedAt", finished_at AS "finishedAt", messages,
        CASE WHEN finished_at IS NOT NULL THEN 100 WHEN log_end = 0 THEN 0 ELSE least(99, through * 100 / log_end) END AS percent
      FROM ${ws}.erasures WHERE user_digest = $1`,
    claim: `UPDATE ${ws}.erasures AS e SET turn = e.turn + 1, due_at = ${serverNow} + $1::bigint,
        started_at = coalesce(e.started_at, $2::bigint)
      FROM (SELECT user_digest FROM ${ws}.erasures WHERE finished_at IS NULL AND due_at <= ${serverNow}
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED) AS due
      WHERE e.user_digest = due.user_digest
      RETURNING e.user_id AS "userId", e.requested_by AS "requestedBy", e.started_at AS "startedAt", e.turn, e.step, e.place,
        e.through, e.messages`,
    keep: `UPDATE ${ws}.erasures SET step = $3, place = $4, through = $5, messages = $6, due_at = ${serverNow} + $7::bigint
      WHERE user_id = $1 AND turn = $2 AND finished_at IS NULL RETURNING 1`,
    noteEnd: `UPDATE ${ws}.erasures SET log_end = $2 WHERE user_id = $1 AND log_end < $2`,
    finish: `UPDATE ${ws}.erasures SET user_id = NULL, finished_at = $3, messages = $4,
        requested_by = CASE WHEN requested_by = $1 THEN '' ELSE requested_by END
      WHERE user_id = $1 AND turn = $2 AND finished_at IS NULL RETURNING 1`,
    forget: `WITH old AS (
        SELECT user_digest FROM ${ws}.erasures WHERE finished_at < $1 ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)
      DELETE FROM ${ws}.erasures AS e USING old WHERE e.user_digest = old.user_digest RETURNING 1`,
    naming: `SELECT * FROM (
        SELECT through, log_end AS "end", topic, position, id, type, payload, count(*) OVER () AS found,
          sum(octet_length(payload)) OVER (ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM ${ws}.naming($1, $2, $3, $4, $5)) AS n
      WHERE coalesce(before, 0) < ${pageBytesMax} ORDER BY position`,
    reactionsOf: `SELECT t.name AS topic, e.id AS "messageId", r.reaction FROM (
        SELECT topic_id, seq, reaction FROM ${ws}.reactions WHERE user_id = $1 LIMIT ${reactionsPerPage}) AS r
      JOIN ${ws}.topics AS t ON t.topic_id = r.topic_id JOIN ${ws}.events AS e ON e.topic_id = r.topic_id AND e.seq = r.seq`,
    forgetEvents: `SELECT ${ws}.forget_events(t.topic_id, array_agg(g.position))
      FROM unnest($1::text[], $2::bigint[]) AS g (topic, position) JOIN ${ws}.topics AS t ON t.name = g.topic GROUP BY t.topic_id`,
    rewrite: `UPDATE ${ws}.events AS e SET payload = $3 FROM ${ws}.topics AS t
      WHERE t.name = $1 AND e.topic_id = t.topic_id AND e.position = $2`,
    memberships: `WITH theirs AS (
        SELECT conversation_id FROM ${ws}.members WHERE user_id = $1 ORDER BY conversation_id LIMIT ${removedPerPage} FOR UPDATE)
      DELETE FROM ${ws}.members AS m USING theirs AS t WHERE m.conversation_id = t.conversation_id AND m.user_id = $1 RETURNING 1`,
    receipts: `SELECT ${ws}.erase_receipts($1, $2, ${rowsPerPage})::text AS next`,
    keys: `WITH page AS MATERIALIZED (
        SELECT key FROM ${ws}.idempotency_keys WHERE key > $1 ORDER BY key LIMIT ${rowsPerPage})
      SELECT CASE WHEN count(*) = ${rowsPerPage} THEN max(key) END AS next,
        coalesce(json_agg(key) FILTER (WHERE strpos(':' || key || ':', $2) > 0), '[]')::text AS keys FROM page`,
    removeKeys: `DELETE FROM ${ws}.idempotency_keys WHERE key = ANY ($1::text[])`,
    topic: `SELECT ${ws}.erase_topic($1, ${removedPerPage}) AS removed`,
    own: `WITH cursors AS (DELETE FROM ${ws}.cursors WHERE user_id = $1),
        reactions AS (DELETE FROM ${ws}.reactions WHERE user_id = $1),
        statuses AS (DELETE FROM ${ws}.statuses WHERE user_id = $1),
        users AS (DELETE FROM ${ws}.users WHERE user_id = $1 AND NOT disabled),
        waiting AS (DELETE FROM ${ws}.outbox WHERE topic = ANY ($2::text[])
          OR (type = 'message.new' AND payload ->> 'sender_id' = $1)),
        rejected AS (DELETE FROM ${ws}.outbox_rejected WHERE topic = ANY ($2::text[]) OR strpos(payload::text, $3) > 0),
        asked AS (UPDATE ${ws}.erasures SET requested_by = '' WHERE requested_by = $1 AND user_id IS DISTINCT FROM $1)
      SELECT 1`,
  };
}

export interface ErasureStoreOptions {
  pool: Pool;
  schema: string;
  /** Whether the table of members is this service's own. */
  ownsMembers: boolean;
}

export function createErasureStore({ pool, schema, ownsMembers }: ErasureStoreOptions): ErasureStore {
  const sql = statements(schema);
  return {
    async request({ userId, by, now }) {
      await pool.query(sql.request, [digestOfUser(userId), userId, by, Math.floor(now)]);
    },
    running: async () => (await pool.query<{ running: number }>(sql.running))[0]!.running,
    async find(userId) {
      const [row] = await pool.query<ErasureProgress>(sql.find, [digestOfUser(userId)]);
      return row === undefined ? null : { ...row };
    },
    async claim({ ms, now }) {
      const [job] = await pool.query<ErasureJob>(sql.claim, [ms, Math.floor(now)]);
      return job === undefined ? null : { ...job };
    },
    async keep({ userId, turn, step, place, through, messages }, dueInMs) {
      const parameters = [userId, turn, step, place, through, messages, Math.ceil(dueInMs)];
      return (await pool.query(sql.keep, parameters)).length > 0;
    },
    async finish({ userId, turn, messages }, now) {
      return (await pool.query(sql.finish, [userId, turn, Math.floor(now), messages])).length > 0;
    },
    forget: async (finishedBefore, limit) => (await pool.query(sql.forget, [Math.floor(finishedBefore), limit])).length,
    removeRows: (rows, userId, after) => removeRows({ pool, sql, ownsMembers }, { rows, userId, after }),
    async naming({ userId, afterPosition }) {
      type Row = NamingEvent & { through: number; end: number; found: number };
      const parameters = [userId, quotedId(userId), afterPosition, rowsPerPage, namingPerPage];
      const found = await pool.query<Row>(sql.naming, parameters);
      const { through, end, found: all } = found[0]!;
      await pool.query(sql.noteEnd, [userId, end]);
      const events = found.flatMap(({ topic, position, id, type, payload }) =>
        topic === null ? [] : [{ topic, position, id, type, payload }],
      );
      const isCut = events.length === namingPerPage || found.length < all;
      return { events, through: isCut ? events.at(-1)!.position : through, end };
    },
    reactionsOf: async (userId) => [...(await pool.query<ReactionOfUser>(sql.reactionsOf, [userId]))],
    async forgetEvents(events) {
      const topics = arrayOf(events.map(({ topic }) => topic));
      await pool.query(sql.forgetEvents, [topics, arrayOf(events.map(({ position }) => position))]);
    },
    async rewrite({ topic, position }, payload) {
      await pool.query(sql.rewrite, [topic, position, payload]);
    },
  };
}

interface Tools {
  pool: Pool;
  sql: ReturnType<typeof statements>;
  ownsMembers: boolean;
}

async function removeRows(
  { pool, sql, ownsMembers }: Tools,
  { rows, userId, after }: { rows: ErasedRows; userId: string; after: string },
): Promise<RowsPage> {
  switch (rows) {
    case "memberships": {
      const removed = ownsMembers ? (await pool.query(sql.memberships, [userId])).length : 0;
      return { next: removed === removedPerPage ? "more" : null };
    }
    case "receipts": {
      const [row] = await pool.query<RowsPage>(sql.receipts, [userId, Number(after)]);
      return { next: row!.next };
    }
    case "keys": {
      const [row] = await pool.query<{ next: string | null; keys: string }>(sql.keys, [after, keyPart(userId)]);
      const keys = (JSON.parse(row!.keys) as string[]).filter((key) => isKeyOf(userId, key));
      if (keys.length > 0) await pool.query(sql.removeKeys, [arrayOf(keys)]);
      return { next: row!.next };
    }
    case "own": {
      for (const topic of topicsOfUser(userId)) {
        const [row] = await pool.query<{ removed: number }>(sql.topic, [topic]);
        if (row!.removed > 0) return { next: "more" };
      }
      await pool.query(sql.own, [userId, arrayOf(topicsOfUser(userId)), quotedId(userId)]);
      return { next: null };
    }
  }
}
