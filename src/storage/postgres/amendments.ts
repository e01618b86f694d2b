/** Makes of a batch's amendments what `append` is given of them: the payloads that messages will have are made here, not in SQL [MSG2]. */
import { deletedPayload, editedPayload, mayDeleteEdit, senderOf } from "../amendments.ts";
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
 * Parts a batch where an event amends a message of the batch itself, which must be in the log before it. Seldom more than one: only
 * an application that publishes both at once does that.
 */
export function partsOf(events: NewEvent[]): NewEvent[][] {
  if (!hasAmendments(events)) return [events];
  const parts: NewEvent[][] = [[]];
  let messages = new Set<string>();
  for (const event of events) {
    if (event.amendment !== undefined && messages.has(nameOf(event.topic, event.amendment.messageId))) {
      parts.push([]);
      messages = new Set();
    }
    parts.at(-1)!.push(event);
    if (event.senderId !== undefined) messages.add(nameOf(event.topic, event.id));
  }
  return parts;
}

/** A topic's name holds no space. */
const nameOf = (topic: string, id: string) => `${topic} ${id}`;

/**
 * Looks up the messages that are edited or deleted. What is not an amendment's never changes in a message, so what is made of it here
 * is right whoever else changes it before the topic is locked.
 */
export async function amendmentRows(
  events: NewEvent[],
  { pool, schema }: { pool: Pool; schema: string },
): Promise<string> {
  const payloads = await readPayloads(events, { pool, schema });
  const rows = events.flatMap((event, index) => (event.amendment === undefined ? [] : [rowOf(event, index, payloads)]));
  return `{${rows.map((row) => arrayOf(row)).join(",")}}`;
}

/** Of the messages that are edited or deleted, by topic and id. */
async function readPayloads(events: NewEvent[], { pool, schema }: { pool: Pool; schema: string }) {
  const payloads = new Map<string, Stored>();
  const wanted = events.flatMap(({ topic, amendment }) =>
    amendment?.kind === "edit" || amendment?.kind === "delete" ? [{ topic, id: amendment.messageId }] : [],
  );
  if (wanted.length === 0) return payloads;
  type Row = { topic: string; id: string } & Stored;
  const text = `SELECT topic, id, payload, is_left AS "isLeft" FROM ${schema}.messages_of($1, $2)`;
  const found = await pool.query<Row>(text, [
    arrayOf(wanted.map(({ topic }) => topic)),
    arrayOf(wanted.map(({ id }) => id)),
  ]);
  for (const { topic, id, payload, isLeft } of found) payloads.set(nameOf(topic, id), { payload, isLeft });
  return payloads;
}

/** @param payloads as they are when this event's turn comes; changed to what it makes of them */
function rowOf({ topic, amendment }: NewEvent, index: number, payloads: Map<string, Stored>): Cell[] {
  const { messageId, kind } = amendment!;
  const row = (done: string, payload: string | null = null): Cell[] => {
    const isReaction = amendment!.kind === "react" || amendment!.kind === "unreact";
    const reaction = isReaction ? [amendment!.userId, amendment!.reaction, amendment!.at] : [null, null, null];
    return [index + 1, done, messageId, payload, ...reaction];
  };
  if (amendment!.kind !== "edit" && amendment!.kind !== "delete") return row(kind);
  const { sentBy } = amendment!;
  const name = nameOf(topic, messageId);
  const stored = payloads.get(name);
  if (stored === undefined) return row("unknown");
  const { payload, isLeft } = stored;
  if (isLeft) {
    if (amendment!.kind !== "delete" || !mayDeleteEdit(payload, sentBy)) return row("unknown");
    payloads.delete(name);
    return row("delete_left");
  }
  if (sentBy !== undefined && senderOf(payload) !== sentBy) return row("unknown");
  const changed =
    amendment!.kind === "edit" ? editedPayload(payload, amendment!) : deletedPayload(payload, amendment!.at);
  if (changed === null) return row("unchanged");
  payloads.set(name, { payload: changed, isLeft });
  return row(kind, changed);
}
