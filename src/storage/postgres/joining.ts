/** Notes where members have joined by a view of the application's that says when (`joined_at`): what was before is read [REC3]. */
import { parseTopic } from "../../protocol/topic.ts";
import type { UserOnTopic } from "../push-store.ts";
import { sqlOf } from "../sql-text.ts";
import { arrayOf } from "./connection.ts";
import { notAnId, quoted } from "./directory.ts";
import type { Pool } from "./pool.ts";
import joined from "./queries/receipts-joined.sql" with { type: "text" };
import { tryView } from "./view-check.ts";

export interface JoiningOptions {
  pool: Pool;
  schema: string;
  /** The view, as `schema.name`. */
  view: string;
}

export function createJoining({ pool, schema: ws, view }: JoiningOptions) {
  const members = quoted(view);
  let saysWhen = false;
  /** Of one user: $1 as the view has it, $3 as a text; in conversations, $2. */
  const note = (among: string) =>
    sqlOf(joined, {
      ws,
      joinings: `SELECT 'conversation:' || conversation_id::text, $3::text, joined_at FROM ${members} WHERE user_id = $1 AND ${among}`,
    });
  const byId = note("conversation_id = ANY ($2)");
  const byText = note("conversation_id::text = ANY ($2::text[])");
  /** Of many: users, $1, and conversations, $2, as the view has them, and the pairs of them that are meant, $3 and $4. */
  const many = sqlOf(joined, {
    ws,
    joinings: `SELECT m.topic, m.user_id, v.joined_at FROM ${members} AS v
      JOIN unnest($3::text[], $4::text[]) AS m (topic, user_id)
        ON m.topic = 'conversation:' || v.conversation_id::text AND m.user_id = v.user_id::text
      WHERE v.user_id = ANY ($1) AND v.conversation_id = ANY ($2)`,
  });

  return {
    /** Looks whether the view says when. @throws StartError where that cannot be read */
    async check(): Promise<void> {
      const [row] = await pool.query<{ found: boolean }>(`SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
        WHERE attrelid = '${members}'::regclass AND attname = 'joined_at' AND NOT attisdropped) AS found`);
      saysWhen = row!.found;
      if (!saysWhen) return;
      await tryView(pool, { kind: "members", name: view }, `SELECT joined_at::timestamptz FROM ${members} LIMIT 0`);
    },

    /** Notes it of members whom the view has just named, each on the topic of a conversation. */
    async noteMembers(pairs: UserOnTopic[]): Promise<void> {
      if (!saysWhen || pairs.length === 0) return;
      const [topics, userIds] = [pairs.map(({ topic }) => topic), pairs.map(({ userId }) => userId)];
      const conversationIds = [...new Set(topics)].map((topic) => parseTopic(topic)!.key);
      const parameters = [[...new Set(userIds)], conversationIds, topics, userIds].map(arrayOf);
      await pool.query(many, parameters);
    },

    /** Notes it, before it is read how far the user has come in these conversations. */
    async note(userId: string, conversationIds: string[]): Promise<void> {
      if (!saysWhen || conversationIds.length === 0) return;
      const parameters = [userId, arrayOf(conversationIds), userId];
      try {
        await pool.query(byId, parameters);
      } catch (error) {
        if (!notAnId.test(String((error as { code?: unknown }).code))) throw error;
        // Fails again where the user's id cannot be one; where a conversation's cannot, the others still count.
        await pool.query(byText, parameters).catch((again: unknown) => {
          if (!notAnId.test(String((again as { code?: unknown }).code))) throw again;
        });
      }
    },
  };
}
