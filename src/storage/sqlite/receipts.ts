/** Keeps the receipts' table: forward-only watermarks and what of them was told [REC1]; runs in the worker only. */
import type { Database } from "bun:sqlite";
import { conversationTopic } from "../../protocol/topic.ts";
import type { Marked, ReceiptKind, ReceiptMark, ReceiptStore, Telling, UnsentReceipt } from "../ports.ts";

export type UnsentQuery = Parameters<ReceiptStore["unsent"]>[0];
export type ReceiptStateEntries = [
  conversationId: string,
  state: { asOfSeq: number; readSeq: number; deliveredSeq: number; unread: number },
][];

/** Where a conversation's id begins in the name of its topic, counted from 1. */
const idAt = conversationTopic("").length + 1;
const tellingColumns = `substr(t.name, ${idAt}) AS conversationId, r.user_id AS userId, r.kind, r.sent_seq AS sentSeq, r.seq AS upToSeq`;

/** One of the rows that say how far a user has come in a topic, and how it came there. */
export interface Watermark {
  kind: ReceiptKind | "joined" | "left" | "replaced";
  seq: number;
}

/** How far a user has come in a topic. */
interface Place {
  readSeq: number;
  deliveredSeq: number;
}

function prepare(database: Database) {
  const by = <Row, Arguments extends (string | number)[]>(sql: string) => database.prepare<Row, Arguments>(sql);
  return {
    topic: by<{ topicId: number; seq: number }, [string]>("SELECT topic_id AS topicId, seq FROM topics WHERE name = ?"),
    watermark: by<{ seq: number }, [number, string, ReceiptKind | "joined"]>(
      "SELECT seq FROM receipts WHERE topic_id = ? AND user_id = ? AND kind = ?",
    ),
    // Of a deleted message only its payload says who had sent it; it is short.
    highestOf: by<{ seq: number | null }, [number, string, string]>(
      `SELECT max(seq) AS seq FROM json_each(?3) AS named
       CROSS JOIN events AS e INDEXED BY messages_by_id ON e.id = named.value
       WHERE e.topic_id = ?1 AND e.sender_id IS NOT NULL AND e.sender_id <> ?2
         AND (e.sender_id <> '' OR instr(e.payload, '"sender_id":' || json_quote(?2)) = 0)`,
    ),
    // moved_at stays at the first move that is not told yet, so that later ones cannot put its event off for ever.
    // Counts as told up to where the user has joined: what was before is nobody's to tell.
    move: by<null, [number, string, ReceiptKind, number, number, number]>(
      `INSERT INTO receipts (topic_id, user_id, kind, seq, sent_seq, moved_at) VALUES (?1, ?2, ?3, ?4, ?6, ?5)
       ON CONFLICT (topic_id, user_id, kind) DO UPDATE SET
         seq = excluded.seq, moved_at = CASE WHEN sent_seq < seq THEN moved_at ELSE excluded.moved_at END
       WHERE seq < excluded.seq`,
    ),
    moveSilently: by<null, [number, string, number, number]>(
      `INSERT INTO receipts (topic_id, user_id, kind, seq, sent_seq, moved_at) VALUES (?1, ?2, 'delivered', ?3, ?3, ?4)
       ON CONFLICT (topic_id, user_id, kind) DO UPDATE SET
         seq = max(seq, excluded.seq), sent_seq = max(sent_seq, excluded.sent_seq)`,
    ),
    tell: by<null, [number, string, string, ReceiptKind, number]>(
      `UPDATE receipts SET sent_seq = ?1
       WHERE topic_id = (SELECT topic_id FROM topics WHERE name = ?2) AND user_id = ?3 AND kind = ?4
         AND sent_seq = ?5 AND seq >= ?1`,
    ),
    unsentOf: by<Telling, [string, string]>(
      `SELECT ${tellingColumns} FROM topics AS t JOIN receipts AS r USING (topic_id)
       WHERE t.name = ? AND r.user_id = ? AND r.sent_seq < r.seq`,
    ),
    unsentBefore: by<Telling, [number, number]>(
      `SELECT ${tellingColumns} FROM receipts AS r INDEXED BY receipts_unsent JOIN topics AS t USING (topic_id)
       WHERE r.sent_seq < r.seq AND r.moved_at < ? ORDER BY r.moved_at LIMIT ?`,
    ),
    covered: by<{ id: string }, [string, string, number, number, number]>(
      `SELECT id FROM events INDEXED BY events_by_seq
       WHERE topic_id = (SELECT topic_id FROM topics WHERE name = ?) AND sender_id IS NOT NULL
         AND sender_id NOT IN ('', ?) AND seq > ? AND seq <= ? ORDER BY seq DESC LIMIT ?`,
    ),
    watermarks: by<Watermark, [number, string]>("SELECT kind, seq FROM receipts WHERE topic_id = ? AND user_id = ?"),
    unread: by<{ unread: number }, [number, string, number]>(
      `SELECT count(*) AS unread FROM events INDEXED BY events_by_seq
       WHERE topic_id = ? AND sender_id IS NOT NULL AND sender_id NOT IN ('', ?) AND seq > ?`,
    ),
  };
}

export class ReceiptTable {
  readonly #database: Database;
  readonly #sql: ReturnType<typeof prepare>;

  constructor(database: Database) {
    this.#database = database;
    this.#sql = prepare(database);
  }

  /** @param now when they move, ms since 1970 */
  advance(marks: ReceiptMark[], now: number): Marked[] {
    return this.#database.transaction(() => marks.map((mark) => this.#advance(mark, now))).immediate();
  }

  #advance(mark: ReceiptMark, now: number): Marked {
    const topic = conversationTopic(mark.conversationId);
    const moved = this.#move(topic, mark, now);
    const found = this.topicOf(topic);
    if (found === null) return { ...moved, unread: 0, asOfSeq: 0 };
    const { topicId, seq: asOfSeq } = found;
    const { readSeq } = this.placeOf(topicId, mark.userId);
    return { ...moved, unread: this.unreadOf(topicId, mark.userId, readSeq), asOfSeq };
  }

  #move(name: string, { userId, kind, messageIds, upToSeq }: ReceiptMark, now: number) {
    const topic = this.#sql.topic.get(name);
    if (!topic) return { upToSeq: 0, advanced: false };
    const { topicId } = topic;
    const joined = this.#sql.watermark.get(topicId, userId, "joined")?.seq ?? 0;
    const current = Math.max(joined, this.#sql.watermark.get(topicId, userId, kind)?.seq ?? 0);
    const named = messageIds ? (this.#sql.highestOf.get(topicId, userId, JSON.stringify(messageIds))?.seq ?? 0) : 0;
    const target = Math.max(named, Math.min(upToSeq ?? 0, topic.seq));
    if (target <= current) return { upToSeq: current, advanced: false };
    this.#sql.move.run(topicId, userId, kind, target, now, joined);
    // The read event tells it too: no delivered event is owed for what it covers.
    if (kind === "read") this.#sql.moveSilently.run(topicId, userId, target, now);
    return { upToSeq: target, advanced: true };
  }

  unsent(query: UnsentQuery, messageIdsMax: number): UnsentReceipt[] {
    const tellings =
      "of" in query
        ? query.of.flatMap(({ conversationId, userId }) =>
            this.#sql.unsentOf.all(conversationTopic(conversationId), userId),
          )
        : this.#sql.unsentBefore.all(query.movedBefore, query.limit);
    return tellings.map((telling) => ({ ...telling, messageIds: this.#covered(telling, messageIdsMax) }));
  }

  #covered({ conversationId, userId, sentSeq, upToSeq }: Telling, limit: number): string[] {
    const rows = this.#sql.covered.all(conversationTopic(conversationId), userId, sentSeq, upToSeq, limit);
    return rows.reverse().map(({ id }) => id);
  }

  passOver(tellings: Telling[]): void {
    this.#database.transaction(() => tellings.map((telling) => this.tell(telling))).immediate();
  }

  /** Within the transaction that appends the event, before it is added. @returns whether it is the event's to tell */
  tell({ conversationId, userId, kind, sentSeq, upToSeq }: Telling): boolean {
    return this.#sql.tell.run(upToSeq, conversationTopic(conversationId), userId, kind, sentSeq).changes > 0;
  }

  states(userId: string, conversationIds: string[]): ReceiptStateEntries;
  /** @returns undefined where there are more than so many events behind the user, among which to count */
  states(userId: string, conversationIds: string[], behindMax: number): ReceiptStateEntries | undefined;
  /** Conversations without events are left out. */
  states(userId: string, conversationIds: string[], behindMax = Number.POSITIVE_INFINITY) {
    const entries: ReceiptStateEntries = [];
    for (const conversationId of conversationIds) {
      const topic = this.topicOf(conversationTopic(conversationId));
      if (topic === null) continue;
      const { topicId, seq: asOfSeq } = topic;
      const place = this.placeOf(topicId, userId);
      if (asOfSeq - place.readSeq > behindMax) return undefined;
      entries.push([conversationId, { asOfSeq, ...place, unread: this.unreadOf(topicId, userId, place.readSeq) }]);
    }
    return entries;
  }

  /** @returns null where the topic has no events; `seq`: its last number */
  topicOf(name: string): { topicId: number; seq: number } | null {
    return this.#sql.topic.get(name);
  }

  /** @param watermarks all of the user there, where they are known */
  placeOf(topicId: number, userId: string, watermarks = this.#sql.watermarks.all(topicId, userId)): Place {
    const seqs = { delivered: 0, read: 0, read_private: 0, joined: 0, left: 0, replaced: 0 };
    for (const { kind, seq } of watermarks) seqs[kind] = seq;
    const readSeq = Math.max(seqs.read, seqs.read_private, seqs.joined);
    return { readSeq, deliveredSeq: Math.max(seqs.delivered, readSeq) };
  }

  /** Others' messages above what the user has read. */
  unreadOf(topicId: number, userId: string, readSeq: number): number {
    return this.#sql.unread.get(topicId, userId, readSeq)!.unread;
  }
}
