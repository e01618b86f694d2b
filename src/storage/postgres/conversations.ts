/** Keeps how long the events of single conversations stay, by a table of its own or a view of the application's, and removes those that have stayed for longer [LOG9]. */
import { parseDuration } from "../../config/values.ts";
import { conversationTopic } from "../../protocol/topic.ts";
import {
  type ConversationStore,
  conversationsPerPage,
  type ExpiredPage,
  expiredPerPage,
  expiredPerPageMany,
  retentionMsMax,
  retentionMsMin,
  youngPassedMax,
} from "../conversation-store.ts";
import { DirectoryReadOnly } from "../directory-store.ts";
import { arrayOf } from "./connection.ts";
import { quoted } from "./directory.ts";
import type { Pool } from "./pool.ts";
import { tryView, viewFault } from "./view-check.ts";

export interface ConversationStoreOptions {
  pool: Pool;
  schema: string;
  /** A view over the application's table, as `schema.name`, with the columns `conversation_id` and `retention`; null: a table of this service's own. */
  view: string | null;
}

interface Row {
  id: string;
  /** Milliseconds of an interval, or a text as it stands. */
  retention: number | string;
}

/** Reads what a view says: its text may be anything, and an interval may be no time, less than that, or more than there is. */
function retentionOf({ retention }: Row): number | null {
  const ms = typeof retention === "number" ? retention : parseDuration(retention.trim());
  return ms === null ? null : Math.min(Math.max(ms, retentionMsMin), retentionMsMax);
}

export function createConversationStore(options: ConversationStoreOptions): ConversationStore & {
  check(): Promise<void>;
} {
  const { pool, schema: ws, view } = options;
  const table = view === null ? `${ws}.conversations` : quoted(view);
  /** An interval as milliseconds, any other type as it stands. */
  let retention = "floor(extract(epoch FROM retention) * 1000)::float8";

  return {
    async setRetention(conversationId, retentionMs) {
      if (view !== null)
        throw new DirectoryReadOnly(`directory.conversations names ${view}, which the application alone writes to.`);
      if (retentionMs === null) await pool.query(`DELETE FROM ${table} WHERE conversation_id = $1`, [conversationId]);
      else
        await pool.query(
          `INSERT INTO ${table} (conversation_id, retention) VALUES ($1, $2::bigint * interval '1 ms')
           ON CONFLICT (conversation_id) DO UPDATE SET retention = excluded.retention`,
          [conversationId, retentionMs],
        );
    },

    async expire({ after, now, everyMs }) {
      if (after === null) {
        const [turn] = await pool.query<{ ours: boolean }>(`SELECT ${ws}.begin_expiry($1) AS ours`, [
          Math.floor(everyMs),
        ]);
        if (!turn!.ours) return null;
      }
      return expirePage(options, { from: { table, retention }, after: after ?? "", now });
    },

    /** @throws StartError where the view is missing, lacks a column, or says how long in another type */
    async check() {
      if (view === null) return;
      if ((await checkedType(pool, view)) !== "interval") retention = "retention::text";
    },
  };
}

interface Page {
  from: { table: string; retention: string };
  /** The empty text: from the beginning. */
  after: string;
  now: number;
}

async function expirePage(
  { pool, schema: ws }: ConversationStoreOptions,
  { from: { table, retention }, after, now }: Page,
): Promise<ExpiredPage> {
  // Ids are compared as the view has them, so that its index serves.
  const rows = await pool.query<Row>(
    `SELECT conversation_id::text AS id, ${retention} AS retention FROM ${table}
     WHERE retention IS NOT NULL ${after === "" ? "" : "AND conversation_id > $1"}
     ORDER BY conversation_id LIMIT ${conversationsPerPage}`,
    after === "" ? [] : [after],
  );
  const kept = rows.map((row) => ({ id: row.id, retentionMs: retentionOf(row) }));
  const unclear = kept.filter(({ retentionMs }) => retentionMs === null).map(({ id }) => id);
  const limited = kept.flatMap(({ id, retentionMs }) => (retentionMs === null ? [] : [{ id, retentionMs }]));
  let removed = 0;
  if (limited.length > 0) {
    const topics = arrayOf(limited.map(({ id }) => conversationTopic(id)));
    const moments = arrayOf(limited.map(({ retentionMs }) => Math.floor(now - retentionMs)));
    const expire = `SELECT ${ws}.expire($1, $2, $3, ${expiredPerPage}, ${youngPassedMax}) AS removed`;
    const [found] = await pool.query<{ removed: number }>(expire, [topics, moments, Math.floor(now)]);
    removed = found!.removed;
  }
  if (removed >= expiredPerPageMany) return { removed, next: after, unclear };
  return { removed, next: rows.length < conversationsPerPage ? null : rows.at(-1)!.id, unclear };
}

/** @returns the type of the column `retention` */
async function checkedType(pool: Pool, view: string): Promise<string> {
  const named = { kind: "conversations", name: view } as const;
  const fault = (why: string) => viewFault(named, why);
  const columns = await pool.query<{ name: string; type: string }>(
    `SELECT attname AS name, atttypid::regtype::text AS type FROM pg_catalog.pg_attribute
     WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped`,
    [quoted(view)],
  );
  if (columns.length === 0) throw fault("there is no such view or table, or the service may not see it");
  const typeOf = (column: string) => columns.find(({ name }) => name === column)?.type;
  if (typeOf("conversation_id") === undefined) throw fault("it has no column conversation_id");
  const type = typeOf("retention");
  if (type === undefined) throw fault("it has no column retention");
  if (type !== "interval" && type !== "text" && type !== "character varying")
    throw fault(`its column retention is of the type ${type}, and has to be an interval or a text such as 24h`);
  await tryView(pool, named, `SELECT conversation_id, retention FROM ${quoted(view)} LIMIT 0`);
  return type;
}
