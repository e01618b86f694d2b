/** Reads what a list of conversations is drawn from in the SQLite file, by steps into indexes [REC3]. */
import type { Database } from "bun:sqlite";
import { conversationTopic } from "../../protocol/topic.ts";
import { lastMessageBytesMax, type Overview, type OverviewQuery, receiptsToldMax } from "../overview-store.ts";
import type { LoggedEvent } from "../ports.ts";
import { eventColumns } from "./event-log-statements.ts";
import type { ReceiptTable } from "./receipts.ts";

export type OverviewEntries = [conversationId: string, overview: Overview][];

function prepare(database: Database) {
  const by = <Row, Arguments extends (string | number)[]>(sql: string) => database.prepare<Row, Arguments>(sql);
  return {
    lastMessage: by<{ position: number; bytes: number }, [number]>(
      `SELECT position, octet_length(payload) + coalesce(octet_length(reactions), 0) AS bytes FROM events INDEXED BY messages_by_seq
       WHERE topic_id = ? AND sender_id IS NOT NULL ORDER BY seq DESC LIMIT 1`,
    ),
    at: by<LoggedEvent, [number]>(
      `SELECT ${eventColumns} FROM events AS e CROSS JOIN topics AS t USING (topic_id) WHERE e.position = ?`,
    ),
    // Neither who has only joined, nor read for himself, nor who has left.
    receipts: by<{ receipts: string }, [number, string, number]>(
      `SELECT json_group_array(json_object('user_id', user_id, 'read_seq', read_seq, 'delivered_seq', delivered_seq)) AS receipts
       FROM (
         SELECT user_id, coalesce(max(seq) FILTER (WHERE kind = 'read'), 0) AS read_seq,
           max(seq) FILTER (WHERE kind IN ('read', 'delivered')) AS delivered_seq,
           max(moved_at) FILTER (WHERE kind IN ('read', 'delivered')) AS moved
         FROM receipts WHERE topic_id = ?1 AND user_id <> ?2 GROUP BY user_id
         HAVING moved IS NOT NULL AND max(kind = 'left') = 0
         ORDER BY moved DESC, user_id LIMIT ?3)`,
    ),
  };
}

export class OverviewTables {
  readonly #database: Database;
  readonly #receipts: ReceiptTable;
  readonly #sql: ReturnType<typeof prepare>;

  constructor(database: Database, receipts: ReceiptTable) {
    this.#database = database;
    this.#receipts = receipts;
    this.#sql = prepare(database);
  }

  /** Conversations without events are left out. */
  read(query: OverviewQuery): { entries: OverviewEntries; bytes: number } {
    return this.#database.transaction(() => this.#read(query)).deferred();
  }

  #read({ userId, conversations, bytesMax }: OverviewQuery) {
    const entries: OverviewEntries = [];
    let bytes = 0;
    /** Keeps what there is still room for; beyond that nothing more is kept, however small. */
    const takeRoom = (more: number) => (bytes += more) <= bytesMax;
    for (const { conversationId, isTold } of conversations) {
      const place = this.#receipts.placeIn(conversationTopic(conversationId), userId);
      if (place === null) continue;
      const { topicId, ...counted } = place;
      const last = this.#sql.lastMessage.get(topicId);
      const isShown = last !== null && last.bytes <= lastMessageBytesMax && takeRoom(last.bytes);
      const receipts = isTold ? this.#sql.receipts.get(topicId, userId, receiptsToldMax)!.receipts : undefined;
      const areShown = receipts !== undefined && takeRoom(Buffer.byteLength(receipts));
      const lastMessage = last === null ? null : isShown ? this.#sql.at.get(last.position)! : undefined;
      entries.push([conversationId, { ...counted, lastMessage, receipts: areShown ? receipts : undefined }]);
    }
    return { entries, bytes };
  }
}
