/** Takes a connection live in this very turn, where this node's memory has all that it has missed: mostly so [LOG4] [LOG5]. */

import { InvariantBroken } from "../ground/assert.ts";
import type { OutgoingMessage } from "../protocol/envelope.ts";
import { messageOf } from "../storage/logged-event.ts";
import { namesPerQuestion } from "../storage/ports.ts";
import type { CatchUpRequest, Live, Places } from "./places.ts";
import type { StartingPoint } from "./starting-point.ts";

/** Characters of payload that are written without waiting for the client: beside them there is room for what comes meanwhile [CON7]. */
const charactersMax = 64 * 1024;

/** As nothing can happen in between nobody has to be followed before. @returns null where somebody is to be asked, or waited for: nothing is done then */
export function levelAtOnce(live: Live, request: CatchUpRequest): Places | null {
  const { subscriber, topics, revoked, since } = request;
  if (topics.length > namesPerQuestion || revoked.size > 0 || subscriber.isClosed) return null;
  return since === null ? startAtHeads(live, request) : recall(live, request, since);
}

/** Of these the heads here are where all who are on them are. */
function startAtHeads({ sequencer, ownSent }: Live, { subscriber, topics }: CatchUpRequest): Places | null {
  const places: Places = new Map();
  for (const topic of topics) {
    const seq = sequencer.provenHeadOf(topic);
    if (seq === undefined) return null;
    places.set(topic, { seq, replayed: 0, recovered: undefined });
  }
  for (const [topic, { seq }] of places) {
    subscriber.subscribe(topic);
    ownSent?.begin(subscriber, topic, seq);
  }
  return places;
}

/** Where others append to the log it is to be asked whether they have. */
function recall(
  { sequencer, ownSent, isAlone = false }: Live,
  { subscriber, topics, onReplayed }: CatchUpRequest,
  { position, seen, isUnbroken, breaks }: StartingPoint,
): Places | null {
  if (!isAlone || position === null || sequencer.epochs.breaks !== breaks) return null;
  const places: Places = new Map();
  const missed: OutgoingMessage[] = [];
  /** By place: all of the topic above it has been sent. */
  const sentAbove: number[] = [];
  let characters = 0;
  for (const topic of topics) {
    const published = sequencer.publishedAfter(topic, position);
    const lastSeen = seen[topic] ?? 0;
    if (published === null || published.seq < lastSeen) return null;
    const before = missed.length;
    let through = lastSeen;
    for (const event of published.events) {
      if (event.seq <= lastSeen) continue;
      if (event.seq <= through) throw new InvariantBroken("catch_up", { topic, seq: event.seq, through });
      through = event.seq;
      characters += event.payload.length;
      missed.push(messageOf(event));
    }
    sentAbove.push((missed[before]?.seq ?? published.seq + 1) - 1);
    // All after the position is there, so that retention has removed nothing after it.
    places.set(topic, { seq: published.seq, replayed: missed.length - before, recovered: isUnbroken });
  }
  if (characters > charactersMax) return null;
  if (missed.length > 1 && topics.length > 1) missed.sort((a, b) => a.position! - b.position!);
  onReplayed?.(characters);
  subscriber.sendAll(missed);
  for (let index = 0; index < topics.length; index++) {
    const topic = topics[index]!;
    subscriber.subscribe(topic);
    ownSent?.begin(subscriber, topic, sentAbove[index]!);
  }
  return places;
}
