/** Takes everything of a user out of the SQLite file, a page at a time, and keeps how far that has come [BAK4]; runs in the worker only. */
import type { Database } from "bun:sqlite";
import {
  digestOfUser,
  type ErasedRows,
  type ErasureJob,
  type ErasureProgress,
  type ErasureStore,
  isKeyOf,
  keyPart,
  type NamingEvent,
  type NamingPage,
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
import { ForgottenEvents } from "./forgotten-events.ts";

export type ErasureRequest = Parameters<ErasureStore["request"]>[0];
export type ErasureLease = Parameters<ErasureStore["claim"]>[0];
export type NamingQuery = Parameters<ErasureStore["naming"]>[0];
export type EventPlace = Pick<NamingEvent, "topic" | "position">;

/** Bytes of payloads that a page goes past: to the sender, who stands behind its text in the row, the engine reads all of a message. */
const lookedAtBytes = 32 * 1024 * 1024;

const jobColumns = `user_id AS userId, requested_by AS requestedBy, started_at AS startedAt, turn, step, place, through, messages`;

function prepare(database: Database) {
  const by = <Row, Arguments extends (string | number)[]>(sql: string) => database.prepare<Row, Arguments>(sql);
  return {
    request: by<null, [string, string, string, number]>(
      `INSERT INTO erasures (user_digest, user_id, requested_by, requested_at, messages, step, place, through, log_end, turn, due_at)
       VALUES (?, ?, ?, ?, 0, 0, '', 0, 0, 0, 0)
       ON CONFLICT (user_digest) DO UPDATE SET user_id = excluded.user_id, requested_by = excluded.requested_by,
         requested_at = excluded.requested_at, started_at = NULL, finished_at = NULL, messages = 0, step = 0, place = '',
         through = 0, log_end = 0, due_at = 0 WHERE finished_at IS NOT NULL`,
    ),
    find: by<ErasureProgress, [string]>(
      `SELECT requested_at AS requestedAt, started_at AS startedAt, finished_at AS finishedAt, messages,
         CASE WHEN finished_at IS NOT NULL THEN 100 WHEN log_end = 0 THEN 0 ELSE min(99, through * 100 / log_end) END AS percent
       FROM erasures WHERE user_digest = ?`,
    ),
    running: by<{ running: number }, []>("SELECT count(*) AS running FROM erasures WHERE finished_at IS NULL"),
    claim: by<ErasureJob, [number, number]>(
      `UPDATE erasures SET turn = turn + 1, due_at = ?1 + ?2, started_at = coalesce(started_at, ?1) WHERE erasure_row = (
         SELECT erasure_row FROM erasures INDEXED BY erasures_due WHERE finished_at IS NULL AND due_at <= ?1
         ORDER BY due_at LIMIT 1) RETURNING ${jobColumns}`,
    ),
    release: by<null, []>("UPDATE erasures SET due_at = 0 WHERE finished_at IS NULL"),
    keep: by<null, [number, string, number, number, number, string, number]>(
      `UPDATE erasures SET step = ?, place = ?, through = ?, messages = ?, due_at = ?
       WHERE user_id = ? AND turn = ? AND finished_at IS NULL`,
    ),
    noteEnd: by<null, [number, string]>("UPDATE erasures SET log_end = max(log_end, ?) WHERE user_id = ?"),
    finish: by<null, [number, number, string, number]>(
      `UPDATE erasures SET user_id = NULL, finished_at = ?, messages = ?,
         requested_by = CASE WHEN requested_by = user_id THEN '' ELSE requested_by END
       WHERE user_id = ? AND turn = ? AND finished_at IS NULL`,
    ),
    deletion: by<null, []>("UPDATE log_state SET deletions = deletions + 1"),
    forget: by<null, [number, number]>(
      `DELETE FROM erasures WHERE erasure_row IN (SELECT erasure_row FROM erasures INDEXED BY erasures_by_age
         WHERE finished_at < ? ORDER BY finished_at LIMIT ?)`,
    ),
    end: by<{ position: number }, []>("SELECT position FROM log_end"),
    sizes: by<{ position: number; bytes: number }, [number, number]>(
      "SELECT position, octet_length(payload) AS bytes FROM events WHERE position > ? ORDER BY position LIMIT ?",
    ),
    naming: by<NamingEvent, [number, number, string, string, number]>(
      `SELECT t.name AS topic, e.position, e.id, e.type, CASE WHEN e.sender_id IS NULL THEN e.payload END AS payload
       FROM events AS e CROSS JOIN topics AS t USING (topic_id) WHERE e.position > ? AND e.position <= ?
         AND (e.sender_id = ? OR e.sender_id IS NULL AND instr(e.payload, ?) > 0)
       ORDER BY e.position LIMIT ?`,
    ),
    reactionsOf: by<ReactionOfUser, [string, number]>(
      `SELECT t.name AS topic, e.id AS messageId, r.reaction FROM reactions AS r
       CROSS JOIN topics AS t ON t.topic_id = r.topic_id
       CROSS JOIN events AS e INDEXED BY events_by_seq ON e.topic_id = r.topic_id AND e.seq = r.seq
       WHERE r.user_id = ? LIMIT ?`,
    ),
    rewrite: by<null, [string, number]>("UPDATE events SET payload = ? WHERE position = ?"),
    memberships: by<null, [string, number]>(
      "DELETE FROM members WHERE member_row IN (SELECT member_row FROM members WHERE user_id = ? LIMIT ?)",
    ),
    topics: by<{ count: number; topicId: number | null }, [number, number]>(
      `SELECT count(*) AS count, max(topic_id) AS topicId
       FROM (SELECT topic_id FROM topics WHERE topic_id > ? ORDER BY topic_id LIMIT ?)`,
    ),
    receipts: by<null, [number, number, string]>(
      `DELETE FROM receipts WHERE receipt_id IN (
         SELECT r.receipt_id FROM topics AS t CROSS JOIN receipts AS r ON r.topic_id = t.topic_id
         WHERE t.topic_id > ? AND t.topic_id <= ? AND r.user_id = ?)`,
    ),
    keyPage: by<{ count: number; keyId: number | null }, [number, number]>(
      `SELECT count(*) AS count, max(key_id) AS keyId
       FROM (SELECT key_id FROM idempotency_keys WHERE key_id > ? ORDER BY key_id LIMIT ?)`,
    ),
    keys: by<{ keyId: number; key: string }, [number, number, string]>(
      `SELECT key_id AS keyId, key FROM idempotency_keys
       WHERE key_id > ? AND key_id <= ? AND instr(':' || key || ':', ?) > 0`,
    ),
    removeKey: by<null, [number]>("DELETE FROM idempotency_keys WHERE key_id = ?"),
    reactions: by<null, [string]>("DELETE FROM reactions WHERE user_id = ?"),
    cursors: by<null, [string]>("DELETE FROM cursors WHERE user_id = ?"),
    statuses: by<null, [string]>("DELETE FROM statuses WHERE user_id = ?"),
    users: by<null, [string]>("DELETE FROM users WHERE user_id = ? AND disabled = 0"),
    askedBy: by<null, [string]>("UPDATE erasures SET requested_by = '' WHERE requested_by = ?1 AND user_id IS NOT ?1"),
    changes: by<null, [string]>("UPDATE directory_changes SET user_id = '' WHERE user_id = ?"),
  };
}

export class ErasureTables {
  readonly #database: Database;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #forgotten: ForgottenEvents;

  constructor(database: Database) {
    this.#database = database;
    this.#sql = prepare(database);
    this.#forgotten = new ForgottenEvents(database);
  }

  running(): number {
    return this.#sql.running.get()!.running;
  }

  request({ userId, by, now }: ErasureRequest): void {
    this.#sql.request.run(digestOfUser(userId), userId, by, Math.floor(now));
  }

  find(userId: string): ErasureProgress | null {
    return this.#sql.find.get(digestOfUser(userId));
  }

  claim({ ms, now }: ErasureLease): ErasureJob | null {
    return this.#sql.claim.get(Math.floor(now), ms);
  }

  /** Has those that a process of before had be due: it is no more. */
  release(): void {
    this.#sql.release.run();
  }

  keep({ userId, turn, step, place, through, messages }: ErasureJob, dueAt: number): boolean {
    return this.#sql.keep.run(step, place, through, messages, Math.ceil(dueAt), userId, turn).changes > 0;
  }

  /** Has the file owe that it is cleaned of what is left beside its rows. */
  finish({ userId, turn, messages }: ErasureJob, now: number): boolean {
    return this.#atomically(() => {
      this.#sql.changes.run(userId);
      this.#sql.deletion.run();
      return this.#sql.finish.run(Math.floor(now), messages, userId, turn).changes > 0;
    });
  }

  forget(finishedBefore: number, limit: number): number {
    return this.#sql.forget.run(finishedBefore, limit).changes;
  }

  naming({ userId, afterPosition }: NamingQuery): NamingPage {
    return this.#atomically(() => {
      const end = this.#sql.end.get()!.position;
      this.#sql.noteEnd.run(end, userId);
      const through = this.#reachOf(afterPosition) ?? Math.max(afterPosition, end);
      const events: NamingEvent[] = [];
      let bytes = 0;
      let isCut = false;
      for (const event of this.#sql.naming.iterate(afterPosition, through, userId, quotedId(userId), namingPerPage)) {
        events.push(event);
        bytes += Buffer.byteLength(event.payload ?? "");
        isCut = events.length === namingPerPage || bytes >= pageBytesMax;
        if (isCut) break;
      }
      return { events, through: isCut ? events.at(-1)!.position : through, end };
    });
  }

  /** @returns the last position of the page; null: no more follow it */
  #reachOf(afterPosition: number): number | null {
    let [events, bytes] = [0, 0];
    for (const { position, bytes: more } of this.#sql.sizes.iterate(afterPosition, rowsPerPage)) {
      events++;
      bytes += more;
      if (events === rowsPerPage || bytes >= lookedAtBytes) return position;
    }
    return null;
  }

  reactionsOf(userId: string): ReactionOfUser[] {
    return this.#sql.reactionsOf.all(userId, reactionsPerPage);
  }

  forgetEvents(events: EventPlace[]): void {
    this.#atomically(() => {
      for (const [topic, some] of Map.groupBy(events, (event) => event.topic)) {
        const topicId = this.#forgotten.topicIdOf(topic);
        if (topicId !== null) this.#forgotten.forget(topicId, some);
      }
    });
  }

  rewrite({ position }: EventPlace, payload: string): void {
    this.#sql.rewrite.run(payload, position);
  }

  removeRows(rows: ErasedRows, userId: string, after: string): RowsPage {
    return this.#atomically(() => {
      switch (rows) {
        case "memberships": {
          const { changes } = this.#sql.memberships.run(userId, removedPerPage);
          // Triggers count as well.
          return { next: changes >= removedPerPage ? "more" : null };
        }
        case "receipts":
          return this.#removeReceipts(userId, Number(after));
        case "keys":
          return this.#removeKeys(userId, Number(after));
        case "own":
          return this.#removeOwn(userId);
      }
    });
  }

  #removeReceipts(userId: string, after: number): RowsPage {
    const { count, topicId } = this.#sql.topics.get(after, rowsPerPage)!;
    if (topicId !== null) this.#sql.receipts.run(after, topicId, userId);
    return { next: count < rowsPerPage ? null : String(topicId) };
  }

  #removeKeys(userId: string, after: number): RowsPage {
    const { count, keyId: last } = this.#sql.keyPage.get(after, rowsPerPage)!;
    for (const { keyId, key } of last === null ? [] : this.#sql.keys.all(after, last, keyPart(userId)))
      if (isKeyOf(userId, key)) this.#sql.removeKey.run(keyId);
    return { next: count < rowsPerPage ? null : String(last) };
  }

  #removeOwn(userId: string): RowsPage {
    for (const name of topicsOfUser(userId)) {
      const topicId = this.#forgotten.topicIdOf(name);
      const events = topicId === null ? [] : [...this.#forgotten.oldest(topicId, removedPerPage)];
      if (events.length === 0) continue;
      this.#forgotten.forget(topicId!, events);
      return { next: "more" };
    }
    for (const remove of ["reactions", "cursors", "statuses", "users", "askedBy"] as const)
      this.#sql[remove].run(userId);
    return { next: null };
  }

  #atomically<Result>(work: () => Result): Result {
    return this.#database.transaction(work).immediate();
  }
}
