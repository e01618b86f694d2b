/** Reads what a list of conversations is drawn from in the SQLite file, by steps into indexes [REC3]. */
import type { Database } from "bun:sqlite";
import { conversationTopic } from "../../protocol/topic.ts";
import type { LoggedEvent } from "../logged-event.ts";
import {
  lastMessageBytesMax,
  type Overview,
  type OverviewPage,
  type OverviewQuery,
  receiptsToldMax,
} from "../overview-store.ts";
import { payload, payloadBytes, shown } from "./event-log-statements.ts";
import type { ReceiptTable } from "./receipts.ts";

export interface OverviewRows extends Pick<OverviewPage, "bytes" | "beyond"> {
  entries: [conversationId: string, overview: Overview][];
}

interface LastMessage extends Omit<LoggedEvent, "topic" | "payload"> {
  bytes: number;
  /** Null: it is too large for a list. */
  payload: string | null;
}

interface WatermarkRow {
  userId: string;
  kind: string;
  seq: number;
  movedAt: number;
}

function prepare(database: Database) {
  const by = <Row, Arguments extends (string | number)[]>(sql: string) => database.prepare<Row, Arguments>(sql);
  return {
    // Its payload is not read where there is no room for it.
    lastMessage: by<LastMessage, [number, number]>(
      `SELECT e.seq, e.position, e.id, e.type, e.created_at AS createdAt, ${payloadBytes} AS bytes,
         CASE WHEN ${payloadBytes} <= min(${lastMessageBytesMax}, ?2) THEN ${payload} END AS payload
       FROM events AS e INDEXED BY messages_by_seq ${shown}
       WHERE e.topic_id = ?1 AND e.sender_id IS NOT NULL ORDER BY e.seq DESC LIMIT 1`,
    ),
    // Grouped and sorted here, for that takes SQLite ten times as long as it takes to find them.
    watermarks: by<WatermarkRow, [number, string]>(
      `SELECT user_id AS userId, kind, seq, moved_at AS movedAt FROM receipts WHERE topic_id = ? AND user_id <> ?`,
    ),
  };
}

export class OverviewTables {
  readonly #receipts: ReceiptTable;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #readAtOnce;

  constructor(database: Database, receipts: ReceiptTable) {
    this.#receipts = receipts;
    this.#sql = prepare(database);
    // Made once: the platform makes five functions of it, and as many properties, each time.
    this.#readAtOnce = database.transaction((query: OverviewQuery, behindMax: number) => this.#read(query, behindMax));
  }

  read(query: OverviewQuery): OverviewRows;
  /** @returns undefined where there are more than so many events behind the user, among which to count */
  read(query: OverviewQuery, behindMax: number): OverviewRows | undefined;
  /** Conversations without events are left out. */
  read(query: OverviewQuery, behindMax = Number.POSITIVE_INFINITY): OverviewRows | undefined {
    return this.#readAtOnce.deferred(query, behindMax);
  }

  #read({ userId, conversations, bytesMax }: OverviewQuery, behindMax: number): OverviewRows | undefined {
    const entries: OverviewRows["entries"] = [];
    const beyond: string[] = [];
    const room = new Room(bytesMax);
    for (const { conversationId, isTold } of conversations) {
      const topic = conversationTopic(conversationId);
      const place = this.#receipts.placeIn(topic, userId, behindMax);
      if (place === undefined) return undefined;
      if (place === null) continue;
      const { topicId, ...counted } = place;
      const bytesBefore = room.taken;
      const last = this.#sql.lastMessage.get(topicId, room.left);
      const lastMessage = last === null ? null : fitting(last, topic, room);
      const receipts = isTold && !room.isFull ? receiptsOf(this.#sql.watermarks.all(topicId, userId)) : undefined;
      const areShown = receipts !== undefined && room.take(receipts.length);
      entries.push([conversationId, { ...counted, lastMessage, receipts: areShown ? receipts : undefined }]);
      if (!room.isFull) continue;
      room.taken = bytesBefore;
      beyond.push(conversationId);
    }
    return { entries, bytes: room.taken, beyond };
  }
}

/** Counts the bytes of an answer; beyond the first that has no room nothing more has, however small. */
class Room {
  taken = 0;
  isFull: boolean;

  constructor(private readonly bytesMax: number) {
    this.isFull = bytesMax < 0;
  }

  get left(): number {
    return this.isFull ? 0 : this.bytesMax - this.taken;
  }

  /** @returns whether there is room */
  take(bytes: number): boolean {
    this.isFull ||= bytes > this.left;
    if (!this.isFull) this.taken += bytes;
    return !this.isFull;
  }
}

function fitting({ bytes, payload, ...event }: LastMessage, topic: string, room: Room): LoggedEvent | undefined {
  if (bytes > lastMessageBytesMax || !room.take(bytes) || payload === null) return undefined;
  return { topic, ...event, payload };
}

/** JSON text of those who have marked anything and are still there, who moved last first; private reads are nobody else's. */
function receiptsOf(rows: WatermarkRow[]): string {
  const others = new Map<string, { user_id: string; read_seq: number; delivered_seq: number; movedAt: number }>();
  const gone = new Set<string>();
  for (const { userId, kind, seq, movedAt } of rows) {
    if (kind === "left") gone.add(userId);
    if (kind !== "read" && kind !== "delivered") continue;
    const other = others.get(userId) ?? { user_id: userId, read_seq: 0, delivered_seq: 0, movedAt: 0 };
    if (kind === "read") other.read_seq = seq;
    other.delivered_seq = Math.max(other.delivered_seq, seq);
    other.movedAt = Math.max(other.movedAt, movedAt);
    others.set(userId, other);
  }
  for (const userId of gone) others.delete(userId);
  const inOrder = [...others.values()].sort((a, b) => b.movedAt - a.movedAt || (a.user_id < b.user_id ? -1 : 1));
  return JSON.stringify(inOrder.slice(0, receiptsToldMax).map(({ movedAt: _, ...place }) => place));
}
