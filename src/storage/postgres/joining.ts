/** Where members have joined by a view of the application's that says when (`joined_at`): what was before is read [REC3]. */
import { arrayOf } from "./connection.ts";
import { notAnId } from "./directory.ts";
import type { Pool } from "./pool.ts";

export interface JoiningOptions {
  pool: Pool;
  schema: string;
  /** The view, quoted. */
  members: string;
}

export function createJoining({ pool, schema: ws, members }: JoiningOptions) {
  let saysWhen = false;
  // Looked for once for each moment of joining: from the newest event back to the last one before it.
  const note = (among: string) => `WITH said AS (
      SELECT 'conversation:' || conversation_id::text AS topic,
        floor(extract(epoch FROM joined_at::timestamptz) * 1000)::bigint AS at
      FROM ${members} WHERE user_id = $1 AND ${among} AND joined_at IS NOT NULL)
    INSERT INTO ${ws}.receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
      SELECT t.topic_id, $3::text, 'joined', coalesce(b.seq, 0), coalesce(b.seq, 0), s.at
      FROM said AS s JOIN ${ws}.topics AS t ON t.name = s.topic
      LEFT JOIN ${ws}.receipts AS k ON k.topic_id = t.topic_id AND k.user_id = $3::text AND k.kind = 'joined'
      LEFT JOIN LATERAL (
        SELECT e.seq FROM ${ws}.events AS e WHERE e.topic_id = t.topic_id AND e.created_at < s.at
        ORDER BY e.seq DESC LIMIT 1) AS b ON true
      WHERE k.moved_at IS DISTINCT FROM s.at
    ON CONFLICT (topic_id, user_id, kind) DO UPDATE
      SET seq = excluded.seq, sent_seq = excluded.sent_seq, moved_at = excluded.moved_at`;
  const byId = note("conversation_id = ANY ($2)");
  const byText = note("conversation_id::text = ANY ($2::text[])");

  return {
    /** Looks whether the view has the column. */
    async check(): Promise<void> {
      const [row] = await pool.query<{ found: boolean }>(`SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
        WHERE attrelid = '${members}'::regclass AND attname = 'joined_at' AND NOT attisdropped) AS found`);
      saysWhen = row!.found;
    },

    /** Before the user's places in these conversations are read. */
    async note(userId: string, conversationIds: string[]): Promise<void> {
      if (!saysWhen || conversationIds.length === 0) return;
      const parameters = [userId, arrayOf(conversationIds), userId];
      try {
        await pool.query(byId, parameters);
      } catch (error) {
        if (!notAnId.test(String((error as { code?: unknown }).code))) throw error;
        // Nobody has such a user id; among the conversations the others still count.
        await pool.query(byText, parameters).catch((again: unknown) => {
          if (!notAnId.test(String((again as { code?: unknown }).code))) throw again;
        });
      }
    },
  };
}
