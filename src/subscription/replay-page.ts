/** Reads what came after a position: out of this node's memory, where that has it, and from the log where not [LOG5]. */
import type { Sequencer } from "../broadcast/sequencer.ts";
import { got, type Steps } from "../ground/at-once.ts";
import { ownerOf } from "../protocol/topic.ts";
import type { EventLog, LoggedEvent, ReplayPage, TopicHead } from "../storage/ports.ts";

export interface ReplaySources {
  log: Pick<EventLog, "heads" | "headsNow" | "replay">;
  sequencer: Sequencer;
  /** Whether this node alone appends to the log: what this node has published is all that there is. */
  isAlone?: boolean;
}

export type ReplayQuery = Parameters<EventLog["replay"]>[0];

export interface PageQuery extends ReplayQuery {
  /** The last number of a topic that the client has, from whatever node or page: where this one has not come so far the log is asked. */
  lastSeen: (topic: string) => number;
}

/** Held topics out of memory, as they are in this turn. Null: not all of them are there. */
export function recallPage(sequencer: Sequencer, query: Omit<PageQuery, "limit">): ReplayPage | null {
  const events: LoggedEvent[] = [];
  const heads = new Map<string, TopicHead>();
  for (const topic of query.topics) {
    const published = recall(sequencer, topic, query);
    if (published === null) return null;
    for (const event of published.events) events.push(event);
    // All after the position is there, so that retention has removed nothing after it.
    heads.set(topic, { seq: published.seq, position: published.events.at(-1)?.position ?? 0, trimmedPosition: 0 });
  }
  if (heads.size > 1) events.sort((a, b) => a.position - b.position);
  return { events, heads, watermark: sequencer.safePosition, more: false };
}

function recall(sequencer: Sequencer, topic: string, { afterPosition, lastSeen }: Omit<PageQuery, "topics" | "limit">) {
  const published = sequencer.publishedAfter(topic, afterPosition);
  return published === null || published.seq < lastSeen(topic) ? null : published;
}

/** Takes what memory has, and asks the log for the others; whoever comes next finds them there. */
export function* pageAfter(sources: ReplaySources, { lastSeen, ...query }: PageQuery): Steps<ReplayPage> {
  const { sequencer } = sources;
  const { topics, afterPosition } = query;
  const inMemory = sources.isAlone ? recallPage(sequencer, { topics, afterPosition, lastSeen }) : null;
  if (inMemory !== null) return inMemory;
  const nothing = nothingAfter(sources, query);
  if (nothing !== null) return nothing;
  const recalledHere = topics.filter((topic) => recall(sequencer, topic, { afterPosition, lastSeen }) !== null);
  const there = yield* currentOf(sources, recalledHere);
  const isThere = new Set(there);
  const others = topics.filter((topic) => !isThere.has(topic));
  // A log that others append to is asked once more only.
  if (there.length === 0 || (others.length > 0 && !sources.isAlone)) return yield* readFromLog(sources, query);
  const page = others.length > 0 ? yield* readFromLog(sources, { ...query, topics: others }) : null;
  const recalled = recallPage(sequencer, { topics: there, afterPosition, lastSeen });
  // Some of it has been deleted meanwhile, say.
  if (recalled === null) return yield* readFromLog(sources, query);
  return page === null ? recalled : merged(page, recalled);
}

/** @returns those of which this node has heard all: where others append, what is kept may have been changed without its knowing [MSG2] [MSG3] */
function* currentOf({ log, sequencer, isAlone }: ReplaySources, topics: string[]): Steps<string[]> {
  if (isAlone || topics.length === 0) return topics;
  const heads = yield* got(log.heads(topics));
  return topics.filter((topic) => (sequencer.headOf(topic) ?? 0) >= (heads.get(topic)?.seq ?? 0));
}

/** Looks whether nothing of one's own was missed, as is mostly so: the heads tell that at once. Null: there is something, or it is not known. */
function nothingAfter({ log, sequencer }: ReplaySources, { topics, afterPosition }: ReplayQuery): ReplayPage | null {
  if (topics.some((topic) => ownerOf(topic) === null)) return null;
  const heads = log.headsNow?.(topics) ?? null;
  if (heads === null || [...heads.values()].some(({ position }) => position > afterPosition)) return null;
  return { events: [], heads, watermark: sequencer.safePosition, more: false };
}

function* readFromLog({ log, sequencer }: ReplaySources, query: ReplayQuery): Steps<ReplayPage> {
  const { deletions, epochs } = sequencer;
  const { breaks } = epochs;
  const reading = log.replay(query);
  const page = reading instanceof Promise ? yield reading : reading;
  if (epochs.breaks === breaks) sequencer.noteRead(page, { afterPosition: query.afterPosition, deletions });
  return page;
}

/** In the order of the log, as far as the page that was read goes. */
function merged(page: ReplayPage, recalled: ReplayPage): ReplayPage {
  const last = page.more ? (page.events.at(-1)?.position ?? 0) : Number.POSITIVE_INFINITY;
  const among = recalled.events.filter(({ position }) => position <= last);
  return {
    events: [...page.events, ...among].sort((a, b) => a.position - b.position),
    heads: new Map([...page.heads, ...recalled.heads]),
    watermark: Math.min(page.watermark, recalled.watermark),
    more: page.more,
  };
}
