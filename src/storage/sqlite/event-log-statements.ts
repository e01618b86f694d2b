/** Prepares the SQL of the event log, each statement with the index that serves it. */
import type { Database } from "bun:sqlite";
import { shownPayload } from "../amendments.ts";
import type { First } from "../once.ts";
import type { LoggedEvent, TopicHead } from "../ports.ts";

export interface TopicRow extends TopicHead {
  topicId: number;
  topic: string;
  events: number;
  /** No message of the topic has a higher number. */
  messageSeq: number;
}

/** Keys that one event may have: it has one, or two. A file has its keys by this number. */
const keysMax = 8;

/** @returns the number of an event's key, by the event's position and which of its keys it is */
export const keyIdOf = (position: number, index: number) => position * keysMax + index;

/** Names an event by where it is. */
export interface EventRef {
  topicId: number;
  seq: number;
  position: number;
}

/** How many events a topic has. */
interface SizeRow {
  topicId: number;
  /** Where the next page begins after it. */
  place: number;
  events: number;
  /** Rows, for it. */
  lookedAt: number;
}

/** An event of which only the type is looked at. */
interface TypeRow {
  position: number;
  seq: number;
  type: string;
}

const topicColumns = `topic_id AS topicId, name AS topic, seq, position, trimmed_position AS trimmedPosition,
  events, message_seq AS messageSeq`;
/** Has beside each event `e` the reactions `s` that are shown on it; null: none are. */
export const shown = "LEFT JOIN shown_reactions AS s ON s.position = e.position";
/** Of an event `e` and `shown`: its payload as it is shown. */
export const payload = shownPayload(
  { payload: "e.payload", reactions: "s.reactions" },
  (text) => `substr(${text}, 1, length(${text}) - 1)`,
);
/** Of them: bytes of that; the payload itself is not read for it. */
export const payloadBytes = "octet_length(e.payload) + coalesce(octet_length(s.reactions), 0)";
const eventColumns = `t.name AS topic, e.seq, e.position, e.id, e.type, ${payload} AS payload, e.created_at AS createdAt`;

/** Counts events that were removed, up to a position: the log ends where it did, whether or not that event is there. */
export const noteRemoved = "UPDATE log_state SET removed = removed + ?, position = max(position, ?)";

// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a table, a line or a statement for each name.
export function prepareEventLog(database: Database) {
  const by = <Row, Arguments extends (string | number | null)[]>(sql: string) => database.prepare<Row, Arguments>(sql);
  return {
    end: by<{ position: number }, []>("SELECT position FROM log_end"),
    removed: by<{ removed: number }, []>("SELECT removed FROM log_state"),
    noteRemoved: by<null, [number, number]>(noteRemoved),
    topic: by<TopicRow, [string]>(`SELECT ${topicColumns} FROM topics WHERE name = ?`),
    addTopic: by<TopicRow, [string]>(
      `INSERT INTO topics (name, seq, position, trimmed_position, events) VALUES (?, 0, 0, 0, 0) RETURNING ${topicColumns}`,
    ),
    setTopic: by<null, [number, number, number, number, number]>(
      "UPDATE topics SET seq = ?, position = ?, events = ?, message_seq = ? WHERE topic_id = ?",
    ),
    trimTopic: by<null, [number, number, number]>(
      "UPDATE topics SET events = events - ?, trimmed_position = max(trimmed_position, ?) WHERE topic_id = ?",
    ),
    topics: by<TopicRow, [string]>(
      `SELECT ${topicColumns} FROM json_each(?) AS wanted CROSS JOIN topics ON name = wanted.value`,
    ),
    moved: by<{ topic: string; seq: number; position: number; events: number }, [number, number]>(
      `SELECT t.name AS topic, max(newer.seq) AS seq, max(newer.position) AS position, count(*) AS events
       FROM (SELECT topic_id, seq, position FROM events WHERE position > ? ORDER BY position LIMIT ?) AS newer
       CROSS JOIN topics AS t USING (topic_id) GROUP BY topic_id ORDER BY max(newer.position)`,
    ),
    sizesFrom: by<SizeRow, [number, number]>(
      `SELECT topic_id AS topicId, topic_id AS place, events, 1 AS lookedAt FROM topics
       WHERE topic_id > ? ORDER BY topic_id LIMIT ?`,
    ),
    sizesOfMoved: by<SizeRow, [number, number]>(
      `SELECT topic_id AS topicId, max(newer.position) AS place, t.events, count(*) AS lookedAt
       FROM (SELECT topic_id, position FROM events WHERE position > ? ORDER BY position LIMIT ?) AS newer
       CROSS JOIN topics AS t USING (topic_id) GROUP BY topic_id ORDER BY max(newer.position)`,
    ),
    topicCount: by<{ topics: number | null }, []>("SELECT max(topic_id) AS topics FROM topics"),
    key: by<First, [string]>(
      `SELECT t.name AS topic, k.seq, k.position, k.event_id AS id, k.created_at AS createdAt, k.digest
       FROM idempotency_keys AS k JOIN topics AS t USING (topic_id) WHERE k.key = ?`,
    ),
    // Equals no digest: what was said then is not known.
    messageById: by<First, [string, string]>(
      `SELECT t.name AS topic, e.seq, e.position, e.id, e.created_at AS createdAt, '' AS digest
       FROM events AS e INDEXED BY messages_by_id CROSS JOIN topics AS t USING (topic_id)
       WHERE t.name = ? AND e.id = ? AND e.sender_id IS NOT NULL LIMIT 1`,
    ),
    addKey: by<null, [number, string, number, number, number, string, number, string | null]>(
      `INSERT INTO idempotency_keys (key_id, key, topic_id, seq, position, event_id, created_at, digest)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    firstKeys: by<{ keyId: number; createdAt: number }, [number]>(
      "SELECT key_id AS keyId, created_at AS createdAt FROM idempotency_keys WHERE key_id > 0 ORDER BY key_id LIMIT ?",
    ),
    removeKeys: by<null, [string]>("DELETE FROM idempotency_keys WHERE key_id IN (SELECT value FROM json_each(?))"),
    // The one that retention begins in stays.
    forgetEpochs: by<null, [number]>("DELETE FROM epochs WHERE no < (SELECT max(no) FROM epochs WHERE created_at < ?)"),
    addEvent: by<null, [number, number, number, string, string, string, number, string | null, string | null]>(
      `INSERT INTO events (position, topic_id, seq, id, type, payload, created_at, compaction_key, sender_id)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    compact: by<null, [number, string]>("DELETE FROM events WHERE topic_id = ? AND compaction_key = ?"),
    /** Where the events of a topic that stand at or below a number end. */
    lastThrough: by<EventRef, [number, number]>(
      `SELECT topic_id AS topicId, seq, position FROM events INDEXED BY events_by_seq
       WHERE topic_id = ? AND seq <= ? ORDER BY seq DESC LIMIT 1`,
    ),
    firstAbove: by<EventRef, [number, number, number]>(
      `SELECT topic_id AS topicId, seq, position FROM events INDEXED BY events_by_seq
       WHERE topic_id = ? AND seq > ? AND position > ? ORDER BY seq LIMIT 1`,
    ),
    bytesAt: by<{ bytes: number }, [string]>(
      `SELECT coalesce(sum(${payloadBytes}), 0) AS bytes
       FROM json_each(?) AS wanted CROSS JOIN events AS e ON e.position = wanted.value ${shown}`,
    ),
    at: by<LoggedEvent, [string]>(
      `SELECT ${eventColumns} FROM json_each(?) AS wanted CROSS JOIN events AS e ON e.position = wanted.value
       JOIN topics AS t USING (topic_id) ${shown} ORDER BY wanted.key`,
    ),
    after: by<LoggedEvent, [number, number]>(
      `SELECT ${eventColumns} FROM events AS e CROSS JOIN topics AS t USING (topic_id) ${shown}
       WHERE e.position > ? ORDER BY e.position LIMIT ?`,
    ),
    lastTrimmed: by<{ position: number | null }, []>(
      "SELECT max(trimmed_position) AS position FROM topics INDEXED BY topics_by_trim WHERE trimmed_position > 0",
    ),
    between: by<LoggedEvent, [number, number, number, number]>(
      `SELECT ${eventColumns} FROM events AS e INDEXED BY events_by_seq JOIN topics AS t USING (topic_id) ${shown}
       WHERE e.topic_id = ? AND e.seq > ? AND e.seq <= ? ORDER BY e.seq LIMIT ?`,
    ),
    below: by<LoggedEvent, [number, number, number]>(
      `SELECT ${eventColumns} FROM events AS e INDEXED BY events_by_seq JOIN topics AS t USING (topic_id) ${shown}
       WHERE e.topic_id = ? AND e.seq < ? ORDER BY e.seq DESC LIMIT ?`,
    ),
    typesAbove: by<TypeRow, [number, number, number]>(
      `SELECT position, seq, type FROM events INDEXED BY events_by_seq
       WHERE topic_id = ? AND seq > ? ORDER BY seq LIMIT ?`,
    ),
    typesBelow: by<TypeRow, [number, number, number]>(
      `SELECT position, seq, type FROM events INDEXED BY events_by_seq
       WHERE topic_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?`,
    ),
    first: by<EventRef & { createdAt: number }, [number]>(
      `SELECT topic_id AS topicId, seq, position, created_at AS createdAt FROM events
       WHERE position > 0 ORDER BY position LIMIT ?`,
    ),
    remove: by<null, [string]>("DELETE FROM events WHERE position IN (SELECT value FROM json_each(?))"),
    removeOldest: by<EventRef, [number, number]>(
      `DELETE FROM events WHERE position IN (
         SELECT position FROM events INDEXED BY events_by_seq WHERE topic_id = ? ORDER BY seq LIMIT ?)
       RETURNING topic_id AS topicId, seq, position`,
    ),
  };
}

export type EventLogStatements = ReturnType<typeof prepareEventLog>;
