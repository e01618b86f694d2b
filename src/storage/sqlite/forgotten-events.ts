/** Removes events as compaction does, of which nobody is told: numbers go on, and nothing counts as missed; runs in the worker only [LOG9]. */
import type { Database } from "bun:sqlite";

interface Gone {
  id: string;
  isMessage: number;
}

export class ForgottenEvents {
  readonly #remove;
  readonly #removeEdits;
  readonly #noteTopic;
  readonly #noteLog;

  constructor(database: Database) {
    this.#remove = database.prepare<Gone, [string]>(
      `DELETE FROM events WHERE position IN (SELECT value FROM json_each(?))
       RETURNING id, sender_id IS NOT NULL AS isMessage`,
    );
    this.#removeEdits = database.prepare<null, [number, string]>(
      `DELETE FROM events WHERE topic_id = ?1 AND compaction_key IN (SELECT 'edit:' || value FROM json_each(?2))`,
    );
    this.#noteTopic = database.prepare<null, [number, number]>(
      "UPDATE topics SET events = events - ? WHERE topic_id = ?",
    );
    this.#noteLog = database.prepare<null, [number]>("UPDATE log_state SET events = events - ?");
  }

  /** To be called within a transaction. @returns how many of them were still there; of messages the text of their last edit goes as well */
  forget(topicId: number, positions: number[]): number {
    if (positions.length === 0) return 0;
    const gone = this.#remove.all(JSON.stringify(positions));
    const messages = gone.filter(({ isMessage }) => isMessage === 1).map(({ id }) => id);
    const edits = messages.length === 0 ? 0 : this.#removeEdits.run(topicId, JSON.stringify(messages)).changes;
    this.#noteTopic.run(gone.length + edits, topicId);
    this.#noteLog.run(gone.length + edits);
    return gone.length;
  }
}
