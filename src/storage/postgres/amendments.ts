/** Makes of a batch's amendments what `append` is given of them: the payloads that messages will have are made here, not in SQL [MSG2]. */
import { type Amendment, deletedPayload, editedPayload, mayDeleteEdit, senderOf } from "../amendments.ts";
import type { NewEvent } from "../ports.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";

type Cell = string | number | null;

/** The payload of a message, or of its last edit where retention has left only that. */
interface Stored {
  payload: string;
  isLeft: boolean;
}

export const hasAmendments = (events: NewEvent[]) => events.some(({ amendment }) => amendment !== undefined);

/**
 * Parts a batch where an event amends a message of the batch itself, which must be in the log before it, or edits one to what an edit
 * with a key has said, which is passed over where the key is known. Seldom more than one: only an application that publishes both at
 * once does that.
 */
export function partsOf(events: NewEvent[]): NewEvent[][] {
  if (!hasAmendments(events)) return [events];
  const parts: NewEvent[][] = [[]];
  let messages = new Set<string>();
  let edits = new Map<string, string>();
  for (const event of events) {
    const { topic, amendment, once } = event;
    const name = amendment === undefined ? "" : nameOf(topic, amendment.messageId);
    const content = amendment?.kind === "edit" ? amendment.content : undefined;
    if (messages.has(name) || (content !== undefined && edits.get(name) === content)) {
      parts.push([]);
      messages = new Set();
      edits = new Map();
    }
    parts.at(-1)!.push(event);
    if (event.senderId !== undefined) messages.add(nameOf(topic, event.id));
    if (content !== undefined && once !== undefined) edits.set(name, content);
  }
  return parts;
}

/** A topic's name holds no space. */
const nameOf = (topic: string, id: string) => `${topic} ${id}`;

interface Engine {
  pool: Pick<Pool, "query">;
  schema: string;
}

/** Messages by topic and id as they are when an event's turn comes; null: there is none. */
type Messages = Map<string, Stored | null>;

/** Bytes of messages that are read together, one message at least: a batch may delete any number of large ones. */
const readAtOnceBytes = 8 * 1024 * 1024;
/** Characters of a message that is kept for another event of the batch where this one has left it as it is; larger ones are read again. */
const keptMax = 64 * 1024;

/**
 * Looks up the messages that are edited or deleted, as they come up. What is not an amendment's never changes in a message, so what is
 * made of it here is right whoever else changes it before the topic is locked.
 */
export async function amendmentRows(events: NewEvent[], engine: Engine): Promise<string> {
  const messages: Messages = new Map();
  const rows: Cell[][] = [];
  for (const [index, event] of events.entries()) {
    if (event.amendment === undefined) continue;
    if (changesText(event.amendment) && !messages.has(nameOf(event.topic, event.amendment.messageId)))
      await readMessages(events.slice(index), messages, engine);
    rows.push(rowOf(event, index, messages));
  }
  return `{${rows.map((row) => arrayOf(row)).join(",")}}`;
}

const changesText = ({ kind }: Amendment) => kind === "edit" || kind === "delete";

/** Reads the first of those that the events edit or delete and that are not known. */
async function readMessages(events: NewEvent[], messages: Messages, { pool, schema }: Engine): Promise<void> {
  const wanted = new Map<string, { topic: string; id: string }>();
  for (const { topic, amendment } of events) {
    if (amendment === undefined || !changesText(amendment)) continue;
    const name = nameOf(topic, amendment.messageId);
    if (!messages.has(name)) wanted.set(name, { topic, id: amendment.messageId });
  }
  type Row = { n: number; found: number } & Stored;
  const text = `SELECT n, payload, is_left AS "isLeft", found FROM (
      SELECT m.*, count(*) OVER () AS found,
        sum(octet_length(m.payload)) OVER (ORDER BY m.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
      FROM ${schema}.messages_of($1, $2) AS m) AS q
    WHERE coalesce(q.before, 0) < ${readAtOnceBytes} ORDER BY n`;
  const asked = [...wanted.values()];
  const found = await pool.query<Row>(text, [
    arrayOf(asked.map(({ topic }) => topic)),
    arrayOf(asked.map(({ id }) => id)),
  ]);
  const names = [...wanted.keys()];
  const last = found.at(-1);
  const isCut = last !== undefined && found.length < last.found;
  for (const name of isCut ? names.slice(0, last.n) : names) messages.set(name, null);
  for (const { n, payload, isLeft } of found) messages.set(names[n - 1]!, { payload, isLeft });
}

/** @param messages changed to what the event makes of its message */
function rowOf({ topic, amendment }: NewEvent, index: number, messages: Messages): Cell[] {
  const { messageId, kind } = amendment!;
  const row = (done: string, payload: string | null = null): Cell[] => {
    const isReaction = amendment!.kind === "react" || amendment!.kind === "unreact";
    const reaction = isReaction ? [amendment!.userId, amendment!.reaction, amendment!.at] : [null, null, null];
    return [index + 1, done, messageId, payload, ...reaction];
  };
  if (amendment!.kind !== "edit" && amendment!.kind !== "delete") return row(kind);
  const { sentBy } = amendment!;
  const name = nameOf(topic, messageId);
  const stored = messages.get(name) ?? null;
  if (stored === null) return row("unknown");
  const { payload, isLeft } = stored;
  const leave = (done: string) => {
    if (payload.length > keptMax) messages.delete(name);
    return row(done);
  };
  if (isLeft) {
    if (amendment!.kind !== "delete" || !mayDeleteEdit(payload, sentBy)) return leave("unknown");
    messages.set(name, null);
    return row("delete_left");
  }
  if (sentBy !== undefined && senderOf(payload) !== sentBy) return leave("unknown");
  const changed =
    amendment!.kind === "edit" ? editedPayload(payload, amendment!) : deletedPayload(payload, amendment!.at);
  if (changed === null) return leave("unchanged");
  messages.set(name, { payload: changed, isLeft });
  return row(kind, changed);
}
