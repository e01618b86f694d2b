/** Notes where members have joined by a view of the application's that says when (`joined_at`): what was before is read [REC3]. */
import { parseTopic } from "../../protocol/topic.ts";
import type { UserOnTopic } from "../push-store.ts";
import { sqlOf } from "../sql-text.ts";
import { arrayOf } from "./connection.ts";
import { notAnId } from "./directory.ts";
import type { Pool } from "./pool.ts";
import joined from "./queries/receipts-joined.sql" with { type: "text" };
import joinedMany from "./queries/receipts-joined-many.sql" with { type: "text" };

export interface JoiningOptions {
  pool: Pool;
  schema: string;
  /** The view, quoted. */
  members: string;
}

export function createJoining({ pool, schema: ws, members }: JoiningOptions) {
  let saysWhen = false;
  const note = (among: string) => sqlOf(joined, { ws, members, among });
  const byId = note("conversation_id = ANY ($2)");
  const byText = note("conversation_id::text = ANY ($2::text[])");
  const many = sqlOf(joinedMany, { ws, members });

  return {
    /** Looks whether the view says when. */
    async check(): Promise<void> {
      const [row] = await pool.query<{ found: boolean }>(`SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
        WHERE attrelid = '${members}'::regclass AND attname = 'joined_at' AND NOT attisdropped) AS found`);
      saysWhen = row!.found;
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
