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
import type { ReceiptTable, Watermark } from "./receipts.ts";

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
  kind: Watermark["kind"];
  seq: number;
  movedAt: number;
}

/** How a conversation stands, for all who ask. */
interface Standing {
  topicId: number;
  seq: number;
  /** Null: it has no message. */
  last: { seq: number; bytes: number; event: LoggedEvent | null } | null;
  /** Null: its members are not told of each other's receipts. */
  receipts: Receipts | null;
}

interface Receipts {
  /** Of each user. */
  watermarks: Map<string, WatermarkRow[]>;
  /** JSON text of each who has marked anything and is still there, who moved last first; private reads are nobody else's. */
  told: { userId: string; text: string }[];
}

/** Conversations that are kept, and characters of their last messages, in a storm of those who come back to the same. */
const keptMax = 500;
const keptCharactersMax = 1024 * 1024;

function prepare(database: Database) {
  const by = <Row, Arguments extends (string | number)[]>(sql: string) => database.prepare<Row, Arguments>(sql);
  return {
    // Its payload is not read where there is no room for it.
    lastMessage: by<LastMessage, [number, number]>(
      `SELECT e.seq, e.position, e.id, e.type, e.created_at AS createdAt, ${payloadBytes} AS bytes,
         CASE WHEN ${payloadBytes} <= ?2 THEN ${payload} END AS payload
       FROM topics AS t CROSS JOIN events AS e INDEXED BY events_by_seq USING (topic_id) ${shown}
       WHERE t.topic_id = ?1 AND e.seq <= t.message_seq AND e.sender_id IS NOT NULL ORDER BY e.seq DESC LIMIT 1`,
    ),
    // Grouped and sorted here, for that takes SQLite ten times as long as it takes to find them.
    watermarks: by<WatermarkRow, [number]>(
      "SELECT user_id AS userId, kind, seq, moved_at AS movedAt FROM receipts WHERE topic_id = ?",
    ),
    // Changes with every commit of another connection, and never with our own.
    foreignVersion: by<{ data_version: number }, []>("PRAGMA data_version"),
  };
}

export interface OverviewTablesOptions {
  /**
   * Whether others alone write to the file, and not this connection: what was read then holds until one of them has. Its owner has it
   * read in a transaction, so that all of an answer is of one moment.
   */
  onlyReads: boolean;
}

export class OverviewTables {
  readonly #receipts: ReceiptTable;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #readAtOnce;
  /** By topic; of the file as it was at that version. */
  readonly #kept = new Map<string, Standing>();
  #keptCharacters = 0;
  #version: number | null = null;
  /** Whether that is so in the transaction that is read in. */
  #isCurrent = false;

  constructor(
    database: Database,
    receipts: ReceiptTable,
    private readonly options: OverviewTablesOptions,
  ) {
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
    if (!this.options.onlyReads) return this.#readAtOnce.deferred(query, behindMax);
    this.#forgetChanged();
    return this.#read(query, behindMax);
  }

  #read({ userId, conversations, bytesMax }: OverviewQuery, behindMax: number): OverviewRows | undefined {
    const entries: OverviewRows["entries"] = [];
    const beyond: string[] = [];
    const room = new Room(bytesMax);
    for (const { conversationId, isTold } of conversations) {
      const topic = conversationTopic(conversationId);
      const standing = this.#standingOf(topic, { isTold, isRead: !room.isFull });
      if (standing === null) continue;
      const place = this.#placeOf(userId, standing, behindMax);
      if (place === undefined) return undefined;
      const bytesBefore = room.taken;
      const lastMessage = standing.last === null ? null : fitting(standing.last, room);
      const areTold = isTold && !room.isFull && standing.receipts !== null;
      const receipts = areTold ? receiptsFor(userId, standing.receipts!) : undefined;
      const areShown = receipts !== undefined && room.take(receipts.length);
      const overview = { asOfSeq: standing.seq, ...place, lastMessage, receipts: areShown ? receipts : undefined };
      entries.push([conversationId, overview]);
      if (!room.isFull) continue;
      room.taken = bytesBefore;
      beyond.push(conversationId);
    }
    return { entries, bytes: room.taken, beyond };
  }

  #placeOf(userId: string, { topicId, seq, last, receipts }: Standing, behindMax: number) {
    const watermarks = receipts?.watermarks.get(userId) ?? (receipts === null ? undefined : []);
    const place = this.#receipts.placeOf(topicId, userId, watermarks);
    if (last === null || last.seq <= place.readSeq) return { ...place, unread: 0 };
    return seq - place.readSeq > behindMax
      ? undefined
      : { ...place, unread: this.#receipts.unreadOf(topicId, userId, place.readSeq) };
  }

  /** @param isRead whether its last message and its receipts are wanted */
  #standingOf(topic: string, { isTold, isRead }: { isTold: boolean; isRead: boolean }): Standing | null {
    const kept = this.#kept.get(topic);
    if (kept !== undefined && (kept.receipts !== null || !isTold)) return kept;
    const found = this.#receipts.topicOf(topic);
    if (found === null) return null;
    const { topicId, seq } = found;
    const last = lastOf(topic, this.#sql.lastMessage.get(topicId, isRead ? lastMessageBytesMax : -1));
    const receipts = isTold && isRead ? receiptsAmong(this.#sql.watermarks.all(topicId)) : null;
    const standing = { topicId, seq, last, receipts };
    if (this.options.onlyReads && isRead) this.#keep(topic, standing);
    return standing;
  }

  /** A transaction begins: what was read before may be otherwise by now. */
  begin(): void {
    this.#isCurrent = false;
  }

  #forgetChanged(): void {
    if (this.#isCurrent) return;
    this.#isCurrent = true;
    const { data_version: version } = this.#sql.foreignVersion.get()!;
    if (version !== this.#version) this.#forget();
    this.#version = version;
  }

  #keep(topic: string, standing: Standing): void {
    if (this.#kept.size >= keptMax || this.#keptCharacters >= keptCharactersMax) this.#forget();
    this.#kept.set(topic, standing);
    this.#keptCharacters += standing.last?.event?.payload.length ?? 0;
  }

  #forget(): void {
    this.#kept.clear();
    this.#keptCharacters = 0;
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

function lastOf(topic: string, row: LastMessage | null): Standing["last"] {
  if (row === null) return null;
  const { bytes, payload, ...event } = row;
  return { seq: row.seq, bytes, event: payload === null ? null : { topic, ...event, payload } };
}

function fitting({ bytes, event }: NonNullable<Standing["last"]>, room: Room): LoggedEvent | undefined {
  return event !== null && room.take(bytes) ? event : undefined;
}

function receiptsAmong(rows: WatermarkRow[]): Receipts {
  const watermarks = Map.groupBy(rows, ({ userId }) => userId);
  const told: { userId: string; text: string; movedAt: number }[] = [];
  for (const [userId, own] of watermarks) {
    const [place, movedAt] = toldOf(own);
    if (place !== null) told.push({ userId, movedAt, text: JSON.stringify({ user_id: userId, ...place }) });
  }
  told.sort((a, b) => b.movedAt - a.movedAt || (a.userId < b.userId ? -1 : 1));
  return { watermarks, told };
}

/** Null: of who has marked nothing, or has left, nobody is told. */
function toldOf(watermarks: WatermarkRow[]) {
  const place = { read_seq: 0, delivered_seq: 0 };
  let movedAt = 0;
  let isTold = false;
  for (const row of watermarks) {
    if (row.kind === "left") return [null, 0] as const;
    if (row.kind !== "read" && row.kind !== "delivered") continue;
    if (row.kind === "read") place.read_seq = row.seq;
    place.delivered_seq = Math.max(place.delivered_seq, row.seq);
    movedAt = Math.max(movedAt, row.movedAt);
    isTold = true;
  }
  return isTold ? ([place, movedAt] as const) : ([null, 0] as const);
}

function receiptsFor(asker: string, { told }: Receipts): string {
  const texts: string[] = [];
  for (const { userId, text } of told) if (userId !== asker && texts.length < receiptsToldMax) texts.push(text);
  return `[${texts.join(",")}]`;
}
