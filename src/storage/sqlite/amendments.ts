/** Changes messages that are in the log, in the transaction of the event that says so [MSG2] [MSG3]; runs in the worker only. */
import type { Database } from "bun:sqlite";
import {
  type Amendment,
  type AmendmentOutcome,
  deletedPayload,
  editedPayload,
  mayDeleteEdit,
  reactionLimits,
  type ShownReaction,
  senderOf,
} from "../amendments.ts";
import type { NewEvent } from "../ports.ts";
import { keyIdOf } from "./event-log-statements.ts";

interface Place {
  position: number;
  topicId: number;
  seq: number;
  /** Empty: it is deleted. */
  senderId: string;
}

interface Message extends Place {
  id: string;
  payload: string;
  createdAt: number;
}

type Reaction = Extract<Amendment, { kind: "react" | "unreact" }>;
type Deletion = Extract<Amendment, { kind: "delete" }>;

function prepare(database: Database) {
  const by = <Row, Arguments extends (string | number | null)[]>(sql: string) => database.prepare<Row, Arguments>(sql);
  return {
    message: by<Message, [string, string]>(
      `SELECT e.position, e.topic_id AS topicId, e.seq, e.id, e.sender_id AS senderId, e.payload,
         e.created_at AS createdAt
       FROM events AS e INDEXED BY messages_by_id CROSS JOIN topics AS t USING (topic_id)
       WHERE t.name = ? AND e.id = ? AND e.sender_id IS NOT NULL LIMIT 1`,
    ),
    // By indexes, so that a large message is not read for what its row has behind the text.
    place: by<Place, [string, string]>(
      `SELECT e.position, e.topic_id AS topicId, e.seq, (
         SELECT m.sender_id FROM events AS m INDEXED BY events_by_seq
         WHERE m.topic_id = e.topic_id AND m.seq = e.seq AND m.sender_id IS NOT NULL) AS senderId
       FROM events AS e INDEXED BY messages_by_id CROSS JOIN topics AS t USING (topic_id)
       WHERE t.name = ? AND e.id = ? AND e.sender_id IS NOT NULL LIMIT 1`,
    ),
    edit: by<null, [string, number]>("UPDATE events SET payload = ? WHERE position = ?"),
    delete: by<null, [string, number]>("UPDATE events SET payload = ?, sender_id = '' WHERE position = ?"),
    shown: by<{ reactions: string }, [number]>("SELECT reactions FROM shown_reactions WHERE position = ?"),
    show: by<null, [number, string]>("INSERT OR REPLACE INTO shown_reactions (position, reactions) VALUES (?, ?)"),
    showNone: by<null, [number]>("DELETE FROM shown_reactions WHERE position = ?"),
    noteDeletion: by<null, []>("UPDATE log_state SET deletions = deletions + 1"),
    replaced: by<{ position: number }, [number, string]>(
      "SELECT position FROM events WHERE topic_id = ? AND compaction_key = ?",
    ),
    editLeft: by<{ position: number; payload: string }, [string, string]>(
      `SELECT e.position, e.payload
       FROM topics AS t CROSS JOIN events AS e INDEXED BY events_by_compaction USING (topic_id)
       WHERE t.name = ? AND e.compaction_key = ? AND e.compaction_key IS NOT NULL AND e.type = 'message.edited'`,
    ),
    forgetDigests: by<null, [number, number]>(
      "UPDATE idempotency_keys SET digest = NULL WHERE key_id >= ? AND key_id < ?",
    ),
    has: by<{ one: 1 }, [string, number, number, string]>(
      "SELECT 1 AS one FROM reactions WHERE user_id = ? AND topic_id = ? AND seq = ? AND reaction = ?",
    ),
    ofUser: by<{ count: number }, [string, number, number]>(
      "SELECT count(*) AS count FROM reactions WHERE user_id = ? AND topic_id = ? AND seq = ?",
    ),
    addReaction: by<null, [string, number, number, string, number]>(
      "INSERT INTO reactions (user_id, topic_id, seq, reaction, created_at) VALUES (?, ?, ?, ?, ?)",
    ),
    removeReaction: by<null, [string, number, number, string]>(
      "DELETE FROM reactions WHERE user_id = ? AND topic_id = ? AND seq = ? AND reaction = ?",
    ),
    removeReactions: by<null, [number, number]>("DELETE FROM reactions WHERE topic_id = ? AND seq = ?"),
    firstUsers: by<{ userId: string }, [number, number, string, number]>(
      `SELECT user_id AS userId FROM reactions INDEXED BY reactions_by_message
       WHERE topic_id = ? AND seq = ? AND reaction = ? ORDER BY created_at, user_id LIMIT ?`,
    ),
  };
}

export class MessageAmendments {
  readonly #sql: ReturnType<typeof prepare>;

  constructor(database: Database) {
    this.#sql = prepare(database);
  }

  /** Within the transaction that appends the event, before it is added. */
  apply({ topic, compactionKey }: NewEvent, amendment: Amendment): AmendmentOutcome {
    if ("reaction" in amendment) return this.#changeReactions(topic, amendment);
    const message = this.#sql.message.get(topic, amendment.messageId);
    if (message === null) return amendment.kind === "delete" ? this.#deleteLeft(topic, amendment) : "unknown";
    if (amendment.sentBy !== undefined && senderOf(message.payload) !== amendment.sentBy) return "unknown";
    return amendment.kind === "edit"
      ? this.#edit(message, amendment, compactionKey)
      : this.#delete(message, amendment, compactionKey);
  }

  #edit(message: Message, edit: { content: string; at: string }, compactionKey: string | undefined): AmendmentOutcome {
    if (message.senderId === "") return "deleted";
    const payload = editedPayload(message.payload, edit);
    if (payload === null) return "unchanged";
    this.#sql.edit.run(payload, message.position);
    this.#sql.noteDeletion.run();
    this.#forgetReplaced(message, compactionKey);
    return "applied";
  }

  #delete(message: Message, { at }: { at: string }, compactionKey: string | undefined): AmendmentOutcome {
    if (message.senderId === "") return "unchanged";
    const { position, topicId, seq } = message;
    this.#sql.delete.run(deletedPayload(message.payload, at), position);
    this.#sql.showNone.run(position);
    this.#sql.noteDeletion.run();
    this.#sql.removeReactions.run(topicId, seq);
    this.#forgetDigests(position);
    this.#forgetReplaced(message, compactionKey);
    return "applied";
  }

  /** Of a message that retention has removed its last edit may be left, which is compacted then. */
  #deleteLeft(topic: string, { messageId, sentBy }: Deletion): AmendmentOutcome {
    const edit = this.#sql.editLeft.get(topic, `edit:${messageId}`);
    if (edit === null || !mayDeleteEdit(edit.payload, sentBy)) return "unknown";
    this.#sql.noteDeletion.run();
    this.#forgetDigests(edit.position);
    return "applied";
  }

  /** Forgets what was said by the edit that is about to be compacted: of a short text a digest tells as much as the text. */
  #forgetReplaced({ topicId }: Message, compactionKey: string | undefined): void {
    const replaced = compactionKey === undefined ? null : this.#sql.replaced.get(topicId, compactionKey);
    if (replaced !== null) this.#forgetDigests(replaced.position);
  }

  /** Of what was said under the keys of the event with that position. */
  #forgetDigests(position: number): void {
    this.#sql.forgetDigests.run(keyIdOf(position, 0), keyIdOf(position + 1, 0));
  }

  /** Members react to whatever anybody has sent. */
  #changeReactions(topic: string, amendment: Reaction): AmendmentOutcome {
    const place = this.#sql.place.get(topic, amendment.messageId);
    if (place === null) return "unknown";
    return amendment.kind === "react" ? this.#react(place, amendment) : this.#unreact(place, amendment);
  }

  #react(message: Place, { userId, reaction, at }: Reaction): AmendmentOutcome {
    if (message.senderId === "") return "deleted";
    const { topicId, seq } = message;
    if (this.#sql.has.get(userId, topicId, seq, reaction) !== null) return "unchanged";
    if (this.#sql.ofUser.get(userId, topicId, seq)!.count >= reactionLimits.ofUser) return "too_many";
    const shown = this.#shownOn(message);
    const isNew = !shown.some((it) => it.reaction === reaction);
    if (isNew && shown.length >= reactionLimits.ofMessage) return "too_many";
    this.#sql.addReaction.run(userId, topicId, seq, reaction, at);
    if (isNew) shown.push({ reaction, count: 0, user_ids: [] });
    this.#show(message, shown, { reaction, more: 1 });
    return "applied";
  }

  #unreact(message: Place, { userId, reaction }: Reaction): AmendmentOutcome {
    const { topicId, seq } = message;
    if (this.#sql.removeReaction.run(userId, topicId, seq, reaction).changes === 0) return "unchanged";
    this.#show(message, this.#shownOn(message), { reaction, more: -1 });
    return "applied";
  }

  /** Counts on from what was shown: a message may have more reactions than should be counted each time. */
  #show(
    { position, topicId, seq }: Place,
    shown: ShownReaction[],
    { reaction, more }: { reaction: string; more: number },
  ): void {
    const usersOf = () =>
      this.#sql.firstUsers.all(topicId, seq, reaction, reactionLimits.usersShown).map(({ userId }) => userId);
    const now = shown
      .map((it) => (it.reaction === reaction ? { reaction, count: it.count + more, user_ids: usersOf() } : it))
      .filter(({ count }) => count > 0);
    if (now.length === 0) this.#sql.showNone.run(position);
    else this.#sql.show.run(position, JSON.stringify(now));
  }

  #shownOn({ position }: Place): ShownReaction[] {
    const row = this.#sql.shown.get(position);
    return row === null ? [] : JSON.parse(row.reactions);
  }
}
