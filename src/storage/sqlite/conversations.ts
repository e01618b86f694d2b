/** Keeps how long the events of single conversations stay, and removes those that have stayed for longer [LOG9]; runs in the worker only. */
import type { Database } from "bun:sqlite";
import { conversationTopic } from "../../protocol/topic.ts";
import {
  type ConversationStore,
  conversationsPerPage,
  type ExpiredPage,
  expiredPerPage,
  expiredPerPageMany,
} from "../conversation-store.ts";
import { ForgottenEvents } from "./forgotten-events.ts";
import { oldRows } from "./old-rows.ts";

export type ExpiryQuery = Omit<Parameters<ConversationStore["expire"]>[0], "everyMs">;

function prepare(database: Database) {
  const by = <Row, Arguments extends (string | number)[]>(sql: string) => database.prepare<Row, Arguments>(sql);
  return {
    set: by<null, [string, number]>(
      `INSERT INTO conversations (conversation_id, retention_ms) VALUES (?, ?)
       ON CONFLICT (conversation_id) DO UPDATE SET retention_ms = excluded.retention_ms`,
    ),
    unset: by<null, [string]>("DELETE FROM conversations WHERE conversation_id = ?"),
    page: by<{ id: string; retentionMs: number }, [string, number]>(
      `SELECT conversation_id AS id, retention_ms AS retentionMs FROM conversations
       WHERE conversation_id > ? ORDER BY conversation_id LIMIT ?`,
    ),
  };
}

export class ConversationTable {
  readonly #database: Database;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #forgotten: ForgottenEvents;

  constructor(database: Database) {
    this.#database = database;
    this.#sql = prepare(database);
    this.#forgotten = new ForgottenEvents(database);
  }

  setRetention(conversationId: string, retentionMs: number | null): void {
    if (retentionMs === null) this.#sql.unset.run(conversationId);
    else this.#sql.set.run(conversationId, retentionMs);
  }

  expire(query: ExpiryQuery): ExpiredPage {
    return this.#database.transaction(() => this.#expire(query)).immediate();
  }

  #expire({ after, now }: ExpiryQuery): ExpiredPage {
    const page = this.#sql.page.all(after ?? "", conversationsPerPage);
    let removed = 0;
    let done = after ?? "";
    for (const { id, retentionMs } of page) {
      removed += this.#expireOne({ id, createdBefore: now - retentionMs, now, limit: expiredPerPage - removed });
      if (removed >= expiredPerPageMany) return { removed, next: done, unclear: [] };
      done = id;
    }
    return { removed, next: page.length < conversationsPerPage ? null : done, unclear: [] };
  }

  #expireOne(given: { id: string; createdBefore: number; now: number; limit: number }): number {
    const { id, createdBefore, now, limit } = given;
    const topicId = this.#forgotten.topicIdOf(conversationTopic(id));
    if (topicId === null) return 0;
    return this.#forgotten.forget(topicId, [
      ...oldRows(this.#forgotten.oldest(topicId, limit), { createdBefore, now }),
    ]);
  }
}
