/** Removes events as compaction does, of which nobody is told: numbers go on, and nothing counts as missed; runs in the worker only [LOG9]. */
import type { Database } from "bun:sqlite";
import { noteRemoved } from "./event-log-statements.ts";

interface Gone {
  position: number;
  id: string;
  isMessage: number;
}

interface EventOfTopic {
  position: number;
  createdAt: number;
}

export class ForgottenEvents {
  readonly #topic;
  readonly #oldest;
  readonly #remove;
  readonly #removeEdits;
  readonly #noteTopic;
  readonly #noteLog;

  constructor(database: Database) {
    this.#topic = database.prepare<{ topicId: number }, [string]>(
      "SELECT topic_id AS topicId FROM topics WHERE name = ?",
    );
    this.#oldest = database.prepare<EventOfTopic, [number, number]>(
      `SELECT position, created_at AS createdAt FROM events INDEXED BY events_by_seq
       WHERE topic_id = ? ORDER BY seq LIMIT ?`,
    );
    this.#remove = database.prepare<Gone, [string]>(
      `DELETE FROM events WHERE position IN (SELECT value FROM json_each(?))
       RETURNING position, id, sender_id IS NOT NULL AS isMessage`,
    );
    this.#removeEdits = database.prepare<Pick<Gone, "position">, [number, string]>(
      `DELETE FROM events WHERE topic_id = ?1 AND compaction_key IN (SELECT 'edit:' || value FROM json_each(?2))
       RETURNING position`,
    );
    this.#noteTopic = database.prepare<null, [number, number]>(
      "UPDATE topics SET events = events - ? WHERE topic_id = ?",
    );
    this.#noteLog = database.prepare<null, [number, number]>(noteRemoved);
  }

  /** @returns null where the topic never had an event */
  topicIdOf(topic: string): number | null {
    return this.#topic.get(topic)?.topicId ?? null;
  }

  /** Reads the first events of a topic that are there, as far as they are asked for. */
  oldest(topicId: number, limit: number): Iterable<EventOfTopic> {
    return this.#oldest.iterate(topicId, limit);
  }

  /** To be called within a transaction. @returns how many of them were still there; of messages the text of their last edit goes as well */
  forget(topicId: number, events: Pick<EventOfTopic, "position">[]): number {
    if (events.length === 0) return 0;
    const gone = this.#remove.all(JSON.stringify(events.map(({ position }) => position)));
    const messages = gone.filter(({ isMessage }) => isMessage === 1).map(({ id }) => id);
    const edits = messages.length === 0 ? [] : this.#removeEdits.all(topicId, JSON.stringify(messages));
    const positions = [...gone, ...edits].map(({ position }) => position);
    this.#noteTopic.run(positions.length, topicId);
    this.#noteLog.run(positions.length, Math.max(0, ...positions));
    return gone.length;
  }
}
