/** Appends a batch by one statement, which is given each key once, and finds what a key was given to; repetitions within the batch are answered from here [LOG1] [LOG2]. */
import type { AmendmentOutcome } from "../amendments.ts";
import { type First, notAmended, repetitionOf } from "../once.ts";
import type { AppendedEvent, AppendResult, EventLog, NewEvent } from "../ports.ts";
import { amendmentRows, hasAmendments, partsOf } from "./amendments.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";
import { tellingsText } from "./receipts.ts";

interface AppendRow {
  /** Its number in the batch as it was sent, from 1. */
  n: number;
  /** Null where its unit was left alone. */
  seq: number | null;
  position: number;
  /** Of the first event with a key, one row for each key that is known; null where it was appended. */
  topic: string | null;
  id: string | null;
  createdAt: number | null;
  digest: string | null;
  /** Why its amendment was not made; `unchanged`, too, where its receipt is not its own to tell. */
  outcome: Exclude<AmendmentOutcome, "applied"> | null;
}

const answered = `SELECT n, seq, position, topic, id, created_at AS "createdAt", digest, outcome`;

/** Appends what `appendParameters` are made of. */
export const appendStatement = (ws: string) =>
  `${answered} FROM ${ws}.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`;

/** Appends what `oneParameters` are made of. */
const appendOneStatement = (ws: string) => `${answered} FROM ${ws}.append_one($1, $2, $3, $4, $5, $6, $7, $8, $9)`;

/** @param appends few connections: batches of a node wait for each other here, not for locks on connections that reads need */
export function createAppend({
  appends,
  schema,
  watermark,
}: { appends: Pool; schema: string } & Pick<EventLog, "watermark">): EventLog["append"] {
  const text = appendStatement(schema);
  const oneText = appendOneStatement(schema);

  async function append(events: NewEvent[], units?: number[]): Promise<AppendedEvent[]> {
    const batch = withoutRepeatedKeys(events);
    if (events.length === 1 && isPlain(events[0]!)) {
      const rows = await appends.query<AppendRow>(oneText, oneParameters(events[0]!, units?.[0]));
      return toAppended(events, batch, rows);
    }
    // In this turn, where nothing is amended: what was called for before a stop is under way.
    const amendments = hasAmendments(batch.sent) ? await amendmentRows(batch.sent, { pool: appends, schema }) : null;
    const parameters = appendParameters(batch.sent, units && unitsOfSent(batch, units), amendments);
    return toAppended(events, batch, await appends.query<AppendRow>(text, parameters));
  }

  return async (events, units) => {
    if (events.length === 0) return { previousPosition: await watermark(), appended: [] };
    const parts = partsOf(events);
    if (parts.length === 1) return toResult(await append(events, units));
    // Nothing of it is left alone: what goes together would be torn apart.
    const appended: AppendedEvent[] = [];
    for (const part of parts) appended.push(...(await append(part)));
    return toResult(appended);
  };
}

/** Reads on a connection for reads: nothing that is appended waits for it. */
export function createFind({ pool, schema }: { pool: Pool; schema: string }): EventLog["find"] {
  const text = `SELECT topic, seq, position, event_id AS id, created_at AS "createdAt", digest
    FROM ${schema}.idempotency_keys WHERE key = ANY ($1)`;
  return async (once) => {
    const firsts = await pool.query<First>(text, [arrayOf(once.keys)]);
    return firsts.length > 0 ? repetitionOf(firsts, once) : undefined;
  };
}

interface Batch {
  sent: NewEvent[];
  /** For each event given: its index in `sent`, or those of the ones that have its keys already. */
  indexes: { own: number | null; earlier: number[] }[];
}

/** Takes out repetitions of a key within the batch, which are answered from here: the statement is given each key once. */
function withoutRepeatedKeys(events: NewEvent[]): Batch {
  const sent: NewEvent[] = [];
  const indexOf = new Map<string, number>();
  const indexes = events.map((event) => {
    const keys = event.once?.keys ?? [];
    const earlier = keys.flatMap((key) => indexOf.get(key) ?? []);
    if (earlier.length > 0) return { own: null, earlier };
    const own = sent.push(event) - 1;
    for (const key of keys) indexOf.set(key, own);
    return { own, earlier };
  });
  return { sent, indexes };
}

/** Joins the units of a repetition and of what it repeats, from which it is answered: they are left alone together. */
function unitsOfSent({ indexes }: Batch, units: number[]): number[] {
  let joined = units;
  const indexOf = new Map<number, number>();
  for (const [index, { own, earlier }] of indexes.entries()) {
    if (own !== null) indexOf.set(own, index);
    else
      for (const at of earlier) {
        const [from, to] = [joined[index]!, joined[indexOf.get(at)!]!];
        if (from !== to) joined = joined.map((unit) => (unit === from ? to : unit));
      }
  }
  return joined.filter((_, index) => indexes[index]!.own !== null);
}

/**
 * Gives null for what no event has, which costs nothing.
 * @param amendments of `amendmentRows`; null where there are none
 */
export function appendParameters(
  events: NewEvent[],
  units: number[] = [],
  amendments: string | null = null,
): (string | null)[] {
  const places = new Map<string, number>();
  for (const { topic } of events) if (!places.has(topic)) places.set(topic, places.size + 1);
  const column = (value: (event: NewEvent) => string | number | null | undefined) => {
    const values = events.map((event) => value(event) ?? null);
    return values.every((each) => each === null) ? null : arrayOf(values);
  };
  const listed = (values: (string | number)[]) => (values.length === 0 ? null : arrayOf(values));
  const numbered = <Value>(valuesOf: (event: NewEvent) => Value[]) =>
    events.flatMap((event, index) => valuesOf(event).map((value) => ({ value, n: index + 1 })));
  const keys = numbered(({ once }) => once?.keys ?? []);
  const tellings = numbered(({ tells }) => (tells ? [tells] : []));
  return [
    arrayOf([...places.keys()]),
    column(({ topic }) => places.get(topic)),
    column(({ id }) => id),
    column(({ type }) => type),
    column(({ payload }) => payload),
    column(({ createdAt }) => createdAt),
    column(({ senderId }) => senderId),
    listed(units),
    listed(keys.map(({ value }) => value)),
    listed(keys.map(({ n }) => n)),
    column(({ once }) => once?.digest),
    listed(numbered(({ once }) => (once?.isNamed ? [true] : [])).map(({ n }) => n)),
    column(({ compactionKey }) => compactionKey),
    amendments,
    tellings.length > 0 ? tellingsText(tellings.map(({ value, n }) => ({ ...value, n }))) : null,
  ];
}

/** Whether it needs nothing of an append but to be appended once. */
const isPlain = ({ amendment, tells, compactionKey, once }: NewEvent): boolean =>
  amendment === undefined &&
  tells === undefined &&
  compactionKey === undefined &&
  (once === undefined || (once.keys.length === 1 && !once.isNamed));

const oneParameters = (
  { topic, id, type, payload, createdAt, senderId, once }: NewEvent,
  unit: number | undefined,
): (string | number | null)[] => [
  topic,
  id,
  type,
  payload,
  createdAt,
  senderId ?? null,
  once?.keys[0] ?? null,
  once?.digest ?? null,
  unit ?? null,
];

function toAppended(events: NewEvent[], { sent, indexes }: Batch, rows: AppendRow[]): AppendedEvent[] {
  /** Holds the answer to each event sent that is new, or that nothing is known of. */
  const fresh: AppendedEvent[] = new Array(sent.length);
  /** For each event sent: the events that its keys belong to, itself where it is new. */
  const firsts: First[][] = sent.map(() => []);
  for (const { n, seq, position, topic, id, createdAt, digest, outcome } of rows) {
    const event = sent[n - 1]!;
    if (outcome !== null) {
      fresh[n - 1] = notAmended(event, outcome);
      continue;
    }
    if (seq === null) {
      const { topic, id, createdAt } = event;
      fresh[n - 1] = { topic, seq: 0, position: 0, id, createdAt, duplicate: false, deferred: true };
      continue;
    }
    const first = {
      topic: topic ?? event.topic,
      seq,
      position,
      id: id ?? event.id,
      createdAt: createdAt ?? event.createdAt,
    };
    if (topic === null) fresh[n - 1] = { ...first, duplicate: false };
    firsts[n - 1]!.push({ ...first, digest: topic === null ? (event.once?.digest ?? null) : digest });
  }
  return events.map((event, index) => {
    const { own, earlier } = indexes[index]!;
    if (own !== null && fresh[own] !== undefined) return fresh[own];
    const known = own === null ? earlier : [own];
    const withoutNumbers = known.find((at) => fresh[at]?.seq === 0);
    if (withoutNumbers !== undefined) return fresh[withoutNumbers]!;
    return repetitionOf(
      known.flatMap((at) => firsts[at]!),
      event.once!,
    );
  });
}

function toResult(appended: AppendedEvent[]): AppendResult {
  const positions = appended.flatMap(({ position, deferred, duplicate }) => (deferred || duplicate ? [] : position));
  const last = positions.at(-1) ?? 0;
  const isContiguous = last - (positions[0] ?? 0) === positions.length - 1;
  return { previousPosition: isContiguous ? positions[0]! - 1 : last, appended };
}
