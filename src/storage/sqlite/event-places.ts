/** Finds where a position of the log is in a topic, whose events stand by their numbers: both grow together. */
import type { EventLogStatements, EventRef, TopicRow } from "./event-log-statements.ts";

type Statements = Pick<EventLogStatements, "lastThrough" | "firstAbove">;
type Ends = Pick<TopicRow, "topicId" | "seq" | "position">;

/** Events that are gone through rather than halved further. */
const stretchMin = 16;
/** Each look is so many times as far from the end as the one before: mostly a few events were missed. */
const strideGrowth = 4;

/** @param row of the topic, as it is now @returns null where nothing comes after the position */
export function firstAfter(sql: Statements, { topicId, seq, position }: Ends, afterPosition: number): EventRef | null {
  // No more events of the topic lie between two positions than positions do.
  const behind = position - afterPosition;
  if (behind <= 0) return null;
  let high = seq;
  let low = seq - Math.min(stretchMin, behind);
  const isBehind = (at: number) =>
    at > 0 && behind > seq - at && (sql.lastThrough.get(topicId, at)?.position ?? 0) > afterPosition;
  for (let stride = stretchMin; isBehind(low); low -= stride) {
    high = low;
    stride *= strideGrowth;
  }
  low = Math.max(0, low);
  while (high - low > stretchMin) {
    const middle = (low + high) >>> 1;
    if (isBehind(middle)) high = middle;
    else low = middle;
  }
  return sql.firstAbove.get(topicId, low, afterPosition);
}

/** @returns the last event of the topic that is still there and has no higher position; null: there is none */
export function lastAtOrBefore(sql: Statements, row: Ends, position: number): EventRef | null {
  const next = firstAfter(sql, row, position);
  return sql.lastThrough.get(row.topicId, next === null ? row.seq : next.seq - 1);
}
