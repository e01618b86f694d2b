/** Brings one connection level with the log and subscribes it in the same turn: no gap, no duplicate, no buffer [LOG4] [LOG5]. */

import { InvariantBroken } from "../ground/assert.ts";
import { type AtOnce, atOnce, type Steps } from "../ground/at-once.ts";
import { pages } from "../ground/pages.ts";
import type { OutgoingMessage } from "../protocol/envelope.ts";
import { messageOf } from "../storage/logged-event.ts";
import {
  type EventLog,
  type LoggedEvent,
  namesPerQuestion,
  type ReplayPage,
  type TopicHead,
} from "../storage/ports.ts";
import { levelAtOnce } from "./level-at-once.ts";
import type { CatchUpRequest, Live, Places, TopicPlace } from "./places.ts";
import { pageAfter } from "./replay-page.ts";
import type { StartingPoint } from "./starting-point.ts";
import type { Subscriber } from "./subscriber.ts";

export interface CatchUpOptions extends Live {
  log: Pick<EventLog, "heads" | "headsNow" | "replay">;
  /** Events a page. */
  pageSize?: number;
}

const pageSizeDefault = 200;
/** Characters of payload written before waiting for the client: a page of large events is more than one may be behind [CON7]. */
const burstCharacters = 256 * 1024;

/** Follows the topics from their starting point until the connection is live on each that was not revoked. */
export function catchUp(options: CatchUpOptions, request: CatchUpRequest): AtOnce<Places> {
  return levelAtOnce(options, request) ?? atOnce(follow(options, request));
}

function* follow(options: CatchUpOptions, request: CatchUpRequest): Steps<Places> {
  const { sequencer } = options;
  const { topics, since } = request;
  for (const topic of topics) sequencer.hold(topic);
  try {
    if (since === null) return yield* startAtHead(options, request);
    const results = yield* replay(options, { ...request, since });
    if (sequencer.epochs.breaks === since.breaks) return results;
    // The log has gone back meanwhile: what was sent may not be so, and the rest begins where the log is now.
    const left = topics.filter((topic) => !results.has(topic));
    const started = yield* startAtHead(options, { ...request, topics: left });
    for (const [topic, place] of started) results.set(topic, place);
    for (const place of results.values()) place.recovered = false;
    return results;
  } finally {
    for (const topic of topics) sequencer.release(topic);
  }
}

function* startAtHead(options: CatchUpOptions, request: CatchUpRequest): Steps<Places> {
  const results: Places = new Map();
  // As many begin in one turn of the loop, which takes 2 ms.
  for (const topics of pages(request.topics, namesPerQuestion))
    yield* startSomeAtHead(options, { ...request, topics }, results);
  return results;
}

function* startSomeAtHead(
  { log, sequencer, ownSent }: CatchUpOptions,
  { subscriber, topics, revoked }: CatchUpRequest,
  results: Places,
): Steps<void> {
  const { epochs } = sequencer;
  let heads: Map<string, TopicHead>;
  let breaks: number;
  do {
    ({ breaks } = epochs);
    // Of the others the head here is where all who are on them are.
    const unknown = topics.filter((topic) => sequencer.provenHeadOf(topic) === undefined);
    const asked = unknown.length > 0 ? log.heads(unknown) : new Map<string, TopicHead>();
    heads = asked instanceof Promise ? yield asked : asked;
    if (epochs.breaks !== breaks) continue;
    const isBehind = (topic: string) => sequencer.observe(topic, seqOf(heads, topic)) < seqOf(heads, topic);
    // All are waited for at once, so that none fails unseen; a fill that was under way already may not have gone as far.
    for (let behind = unknown.filter(isBehind); behind.length > 0; behind = behind.filter(isBehind))
      yield Promise.all(behind.map((topic) => sequencer.settled(topic)));
  } while (epochs.breaks !== breaks);
  for (const topic of topics) {
    if (revoked.has(topic) || subscriber.isClosed) continue;
    // This node may be ahead of what was read by now; what it has published is where the newcomer starts.
    const seq = sequencer.observe(topic, seqOf(heads, topic));
    subscriber.subscribe(topic);
    ownSent?.begin(subscriber, topic, seq);
    results.set(topic, { seq, replayed: 0, recovered: undefined });
  }
}

function* replay(
  { ownSent, pageSize = pageSizeDefault, ...sources }: CatchUpOptions,
  { subscriber, topics, since, revoked, onReplayed = () => {} }: CatchUpRequest & { since: StartingPoint },
): Steps<Places> {
  const results = new Map<string, TopicPlace>();
  const recovered = new Map<string, boolean>();
  const sending: Sending = { since, revoked, onReplayed, sent: new Map() };
  const { sequencer } = sources;
  const { epochs } = sequencer;
  const hasBroken = () => epochs.breaks !== since.breaks;
  const known = since.position !== null;
  let remaining = topics;
  let from = since.position ?? sequencer.safePosition;
  while (remaining.length > 0 && !subscriber.isClosed && !hasBroken()) {
    const { deletions } = sequencer;
    const lastSeen = (topic: string) => lastOf(sending, topic);
    const query = { topics: remaining, afterPosition: from, lastSeen, limit: pageSize };
    const page = yield* pageAfter(sources, query);
    if (hasBroken()) break;
    noteRecovery(recovered, page, { from: known ? from : Number.NEGATIVE_INFINITY, since });
    let sent = 0;
    for (const burst of burstsOf(page.events, { charactersMax: burstCharacters })) {
      // Something is deleted while a slow client takes what was read before: the rest is read anew [MSG2].
      if (sent > 0 && sequencer.deletions !== deletions) break;
      send(subscriber, burst, sending);
      sent += burst.length;
      const draining = subscriber.drained();
      if (draining instanceof Promise) yield draining;
      if (hasBroken()) return results;
    }
    const isCut = sent < page.events.length;
    // Above the watermark another topic may still come in below what was read: it is read again, and sent once.
    const next = Math.max(from, Math.min(page.events[sent - 1]?.position ?? from, page.watermark));
    // A page full of such events leads on only when what is below them has come.
    if ((page.more || isCut) && next === from) yield sequencer.reach(from + 1);
    from = next;
    if (page.more || isCut) continue;
    const behind: string[] = [];
    for (const topic of remaining) {
      if (revoked.has(topic)) continue;
      const seqInLog = seqOf(page.heads, topic);
      const seq = sequencer.observe(topic, seqInLog);
      const tail = sequencer.publishedAbove(topic, seqInLog);
      if (tail === null) {
        behind.push(topic);
        continue;
      }
      send(subscriber, tail, sending);
      subscriber.subscribe(topic);
      const sent = sending.sent.get(topic);
      ownSent?.begin(subscriber, topic, sent?.after ?? seq);
      results.set(topic, { seq, replayed: sent?.count ?? 0, recovered: recovered.get(topic) ?? known });
    }
    remaining = behind;
    for (const topic of behind) yield sequencer.settled(topic);
  }
  return results;
}

const seqOf = (heads: Map<string, TopicHead>, topic: string) => heads.get(topic)?.seq ?? 0;

function noteRecovery(
  recovered: Map<string, boolean>,
  { heads }: Pick<ReplayPage, "heads">,
  { from, since: { seen, isUnbroken } }: { from: number; since: StartingPoint },
): void {
  for (const [topic, { seq, trimmedPosition }] of heads) {
    // Each page looks back to the end of the one before: retention may overtake a replay that a slow client holds up.
    const isWhole = from !== Number.NEGATIVE_INFINITY && trimmedPosition <= from;
    // Events are logged before anybody sees them: who has seen more than there is saw another log (a restored backup).
    const isSameLog = (seen[topic] ?? 0) <= seq;
    recovered.set(topic, (recovered.get(topic) ?? true) && isWhole && isSameLog && isUnbroken);
  }
}

/** Parts of a page that are each written at once. */
export function* burstsOf(
  events: LoggedEvent[],
  { charactersMax, eventsMax = Number.POSITIVE_INFINITY }: { charactersMax: number; eventsMax?: number },
): Generator<LoggedEvent[]> {
  let burst: LoggedEvent[] = [];
  let characters = 0;
  for (const event of events) {
    const isFull = burst.length >= eventsMax || characters + event.payload.length > charactersMax;
    if (burst.length > 0 && isFull) {
      yield burst;
      burst = [];
      characters = 0;
    }
    burst.push(event);
    characters += event.payload.length;
  }
  if (burst.length > 0) yield burst;
}

interface Sending {
  since: StartingPoint;
  revoked: Set<string>;
  onReplayed: (characters: number) => void;
  /** By topic. */
  sent: Map<string, Sent>;
}

/** All of a topic from one number to another, of which some may be gone from the log. */
interface Sent {
  after: number;
  through: number;
  count: number;
}

/** The last number of the topic that the client has, by what it says and what it was sent. */
const lastOf = ({ since, sent }: Pick<Sending, "since" | "sent">, topic: string) =>
  Math.max(since.seen[topic] ?? 0, sent.get(topic)?.through ?? 0);

function send(subscriber: Subscriber, events: LoggedEvent[], state: Sending): void {
  const { revoked, onReplayed, sent } = state;
  const fresh: LoggedEvent[] = [];
  for (const event of events)
    if (!revoked.has(event.topic) && event.seq > lastOf(state, event.topic)) fresh.push(event);
  const messages: OutgoingMessage[] = [];
  for (const event of fresh) {
    const { topic, seq, payload } = event;
    const before = sent.get(topic);
    const through = before?.through ?? 0;
    if (seq <= through) throw new InvariantBroken("catch_up", { topic, seq, through });
    if (before === undefined) sent.set(topic, { after: seq - 1, through: seq, count: 1 });
    else {
      before.through = seq;
      before.count++;
    }
    onReplayed(payload.length);
    messages.push(messageOf(event));
  }
  subscriber.sendAll(messages);
}
