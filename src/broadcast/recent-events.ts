/** Keeps the newest events of topics that are heard here, as the log has them, for whoever catches up or comes back: bounded in bytes and in time [LOG5] [MSG2]. */
import type { ServerPayload } from "../protocol/server.ts";
import type { LoggedEvent, ReplayPage } from "../storage/ports.ts";
import { hasTextOf } from "./deletions.ts";
import { isMessageChange } from "./message-changes.ts";

export interface RecentEventsOptions {
  /** Of all topics together; those that somebody is catching up on right now are kept beyond it. */
  bytesMax: number;
  /** Of one topic; the log keeps as many at least. */
  eventsMax?: number;
  /** Events that are older are not given out: the log may have removed them. */
  retentionMs?: number;
  /** Milliseconds since 1970. */
  now?: () => number;
}

interface Kept {
  /** Carries its frames, once it was given out. */
  event: LoggedEvent;
  /** When it was published here or read, ms since 1970. */
  at: number;
  /** The last number of the topic as the event was read: changes of it with a higher one are not in it. */
  asOfSeq: number;
  bytes: number;
}

interface Topic {
  /** All of the topic above both, up to its head on this node, is kept; what compaction has removed may be missing. */
  afterSeq: number;
  afterPosition: number;
  events: Kept[];
  bytes: number;
  /** Something was published that may stand for, or change, what was kept before it. */
  isStale: boolean;
}

/** Events of a topic, and their bytes here, that are given out of memory; more are read from the log. */
const eventsMaxDefault = 256;
const topicBytesMax = 512 * 1024;
/** Events are removed from the log of which no node is told, by erasing and by what a conversation keeps: they are gone from here after so long, ms. */
const keptMs = 30_000;
/** Of an event beside its payload, of its frame beside that, and of a topic, roughly. */
const bytesBeside = { event: 300, frame: 300, topic: 300 };

export class RecentEvents {
  /** Topics that somebody is catching up on, and how many are. */
  readonly #holders = new Map<string, number>();
  /** The one that nobody has asked for or published to for the longest first. */
  readonly #topics = new Map<string, Topic>();
  readonly #eventsMax: number;
  #bytes = 0;

  constructor(private readonly options: RecentEventsOptions) {
    this.#eventsMax = Math.min(options.eventsMax ?? eventsMaxDefault, eventsMaxDefault);
  }

  hold(topic: string): void {
    this.#holders.set(topic, (this.#holders.get(topic) ?? 0) + 1);
  }

  release(topic: string): void {
    const count = (this.#holders.get(topic) ?? 0) - 1;
    if (count > 0) return void this.#holders.set(topic, count);
    this.#holders.delete(topic);
    this.#makeRoom();
  }

  isHeld(topic: string): boolean {
    return this.#holders.has(topic);
  }

  /** Keeps what is published as the next one of its topic. */
  add(event: LoggedEvent): void {
    const { topic: name, seq, position } = event;
    if (this.options.bytesMax === 0 && !this.isHeld(name)) return void this.drop(name);
    // Before the first of a topic there is nothing.
    const topic = this.#topics.get(name) ?? this.#begin({ seq: seq - 1, position: seq === 1 ? 0 : position - 1 });
    topic.isStale ||= event.compactionKey !== undefined || isMessageChange(event.type);
    this.#put(topic, this.#keptOf(event, seq));
    this.#touch(name, topic);
    // Now and then, for it goes through all of them.
    if (topic.events.length >= 2 * this.#eventsMax) this.#current(name);
  }

  /**
   * Takes what was read of the log after a position: all of its topics, of one moment. What was published here since is kept already.
   * @param headOf the head of a topic on this node now, by what it was in the log then
   */
  fill(
    { events, heads }: Pick<ReplayPage, "events" | "heads">,
    read: { afterPosition: number; headOf: (topic: string, seqInLog: number) => number },
  ): void {
    const byTopic = Map.groupBy(events, ({ topic }) => topic);
    for (const [topic, { seq: throughSeq, trimmedPosition }] of heads) {
      const headSeq = read.headOf(topic, throughSeq);
      const afterPosition = Math.max(read.afterPosition, trimmedPosition);
      if (headSeq >= throughSeq)
        this.#fillTopic(topic, { afterPosition, throughSeq, headSeq, events: byTopic.get(topic) ?? [] });
    }
  }

  #fillTopic(
    name: string,
    read: { afterPosition: number; throughSeq: number; headSeq: number; events: LoggedEvent[] },
  ): void {
    const { afterPosition, throughSeq, headSeq, events } = read;
    const known = this.#topics.get(name);
    if (known !== undefined && known.afterPosition <= afterPosition) return;
    if (headSeq > throughSeq && (known === undefined || known.afterSeq > throughSeq)) return;
    const since = known?.events.filter(({ event }) => event.seq > throughSeq) ?? [];
    this.drop(name);
    const topic = this.#begin({ seq: (events[0]?.seq ?? throughSeq + 1) - 1, position: afterPosition });
    topic.isStale = since.length > 0;
    for (const event of events) this.#put(topic, this.#keptOf(event, throughSeq));
    for (const kept of since) this.#put(topic, kept);
    this.#touch(name, topic);
  }

  /** All events with a higher number; null where not all of them are kept. */
  above(name: string, seq: number): LoggedEvent[] | null {
    const topic = this.#current(name);
    if (topic === undefined || topic.afterSeq > seq) return null;
    return this.#giveOut(topic, topic.events.findLastIndex(({ event }) => event.seq <= seq) + 1);
  }

  /** All events after a position; null where not all of them are kept. */
  after(name: string, position: number): LoggedEvent[] | null {
    const topic = this.#current(name);
    if (topic === undefined || topic.afterPosition > position) return null;
    const events = this.#giveOut(topic, topic.events.findLastIndex(({ event }) => event.position <= position) + 1);
    // Only now, for its oldest may have to go.
    this.#touch(name, topic);
    return events;
  }

  /** Drops what a message has said: who needs it reads the log, where it is deleted. */
  forget(name: string, messageId: string): void {
    const topic = this.#topics.get(name);
    const last = topic?.events.findLastIndex(({ event }) => hasTextOf(messageId, event)) ?? -1;
    if (last >= 0) this.#dropThrough(topic!, last);
  }

  /** The topic is not heard any more, or what is kept of it is not all that there is. */
  drop(name: string): void {
    this.#bytes -= this.#topics.get(name)?.bytes ?? 0;
    this.#topics.delete(name);
  }

  /** Drops what is kept; who catches up still does. */
  clear(): void {
    this.#topics.clear();
    this.#bytes = 0;
  }

  /** Drops what is too old to be given out. */
  sweep(): void {
    for (const name of [...this.#topics.keys()]) if (this.#current(name)?.events.length === 0) this.drop(name);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Drops what may not be given out any more. */
  #current(name: string): Topic | undefined {
    const topic = this.#topics.get(name);
    if (topic === undefined) return undefined;
    if (topic.isStale) this.#settle(topic);
    const { retentionMs = Number.POSITIVE_INFINITY, now = Date.now } = this.options;
    const [keptSince, createdSince] = [now() - keptMs, now() - retentionMs];
    const old = topic.events.findLastIndex(({ at, event }) => at < keptSince || event.createdAt < createdSince);
    const last = Math.max(old, topic.events.length - 1 - this.#eventsMax);
    if (last >= 0) this.#dropThrough(topic, last);
    return topic;
  }

  /**
   * Leaves out what something newer stands for, as compaction does; where what is kept of a message is not what it is by now, or
   * may be stood for and nobody can tell, that and all before it is left to the log.
   */
  #settle(topic: Topic): void {
    topic.isStale = false;
    const keys = new Set<string>();
    const names = new Set<string>();
    const changed = new Map<string, number>();
    for (let index = topic.events.length - 1; index >= 0; index--) {
      const { event, asOfSeq, bytes } = topic.events[index]!;
      const { compactionKey: key, seq } = event;
      if (key !== undefined && keys.has(key)) {
        topic.events.splice(index, 1);
        this.#grow(topic, -bytes);
        continue;
      }
      const name = compactedAs(event);
      if ((name !== null && names.has(name)) || (changed.get(event.id) ?? 0) > asOfSeq)
        return this.#dropThrough(topic, index);
      if (key !== undefined) keys.add(key);
      if (name !== null) names.add(name);
      if (isMessageChange(event.type)) {
        const { message_id: messageId } = JSON.parse(event.payload) as { message_id: string };
        changed.set(messageId, Math.max(seq, changed.get(messageId) ?? 0));
      }
    }
  }

  /** Has what is given out carry its frames from now on: it is encoded once, for all who come. */
  #giveOut(topic: Topic, first: number): LoggedEvent[] {
    const events: LoggedEvent[] = [];
    for (const kept of topic.events.slice(first)) {
      if (kept.event.frames === undefined) {
        kept.event.frames = {};
        const bytes = kept.event.payload.length + bytesBeside.frame;
        kept.bytes += bytes;
        this.#grow(topic, bytes);
      }
      events.push(kept.event);
    }
    return events;
  }

  #keptOf(event: LoggedEvent, asOfSeq: number): Kept {
    return { event, at: (this.options.now ?? Date.now)(), asOfSeq, bytes: event.payload.length + bytesBeside.event };
  }

  #begin(after: { seq: number; position: number }): Topic {
    this.#bytes += bytesBeside.topic;
    return { afterSeq: after.seq, afterPosition: after.position, events: [], bytes: bytesBeside.topic, isStale: false };
  }

  #put(topic: Topic, kept: Kept): void {
    topic.events.push(kept);
    this.#grow(topic, kept.bytes);
  }

  #grow(topic: Topic, bytes: number): void {
    topic.bytes += bytes;
    this.#bytes += bytes;
  }

  /** Notes that it is in use, and makes room for it: its own oldest events go, and topics that were not in use for the longest. */
  #touch(name: string, topic: Topic): void {
    this.#topics.delete(name);
    this.#topics.set(name, topic);
    let surplus = 0;
    for (let left = topic.bytes; left > topicBytesMax; surplus++) left -= topic.events[surplus]!.bytes;
    if (surplus > 0) this.#dropThrough(topic, surplus - 1);
    this.#makeRoom();
  }

  #makeRoom(): void {
    if (this.#bytes <= this.options.bytesMax) return;
    for (const name of this.#topics.keys()) {
      if (this.#bytes <= this.options.bytesMax) break;
      if (!this.isHeld(name)) this.drop(name);
    }
  }

  #dropThrough(topic: Topic, index: number): void {
    const dropped = topic.events.splice(0, index + 1);
    const { seq, position } = dropped.at(-1)!.event;
    topic.afterSeq = seq;
    topic.afterPosition = position;
    this.#grow(topic, -dropped.reduce((sum, { bytes }) => sum + bytes, 0));
  }
}

/** Names what an event may stand for, as compaction has it, by what can be seen of it: what was read of the log has no key. */
function compactedAs({ type, payload }: LoggedEvent): string | null {
  switch (type) {
    case "message.delivered":
    case "message.read": {
      const { conversation_id, user_id } = JSON.parse(payload) as Partial<ServerPayload<typeof type>>;
      return JSON.stringify([type, conversation_id, user_id]);
    }
    case "message.edited":
    case "message.deleted":
    case "message.reaction": {
      const { message_id, user_id, reaction } = JSON.parse(payload) as Partial<ServerPayload<"message.reaction">>;
      return JSON.stringify([message_id, user_id, reaction]);
    }
    default:
      return null;
  }
}
