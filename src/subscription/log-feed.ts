/** Sends the whole log in its order to the backends that are on `log`, to each at its own pace [BAK2]. */

import { type Sent, wasSent } from "../broadcast/own-sent.ts";
import { nextTurn } from "../ground/next-turn.ts";
import { isLogged, kindOf, logTopic, ownerOf, parseTopic, topicKinds } from "../protocol/topic.ts";
import type { EventLog, FeedPage, LoggedEvent } from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";
import { isBackend } from "./access.ts";
import { burstsOf } from "./catch-up.ts";
import { FeedPages, type FeedPagesOptions } from "./feed-pages.ts";
import type { Rejections } from "./rejections.ts";
import { type ScopeRequest, wholeNamesOf } from "./scope.ts";
import type { StartingPoint } from "./starting-point.ts";
import type { Subscriber } from "./subscriber.ts";
import type { Tell } from "./tell.ts";

export interface LogFeedOptions extends FeedPagesOptions {
  log: Pick<EventLog, "feed" | "watermark" | "epochs">;
  /** Tells one connection something without being asked. */
  tell: Tell;
  logger: Logger;
  /** How often the log is looked at for what nobody has told this node of, ms. */
  lookIntervalMs?: number;
}

/** Where a feed begins, and what is known of it by then. */
export interface FeedStart {
  position: number;
  /** How often the log had broken when that was looked up. */
  breaks: number;
  seen: StartingPoint["seen"];
  /** False: something after the cursor is gone, or the log is another one. Undefined: nothing was asked for. */
  recovered: boolean | undefined;
  /** Range that retention had removed; the client has been told of it. */
  toldTrimmed: number;
}

interface Reader extends FeedStart {
  subscriber: Subscriber;
  /** Events of its own topics that the connection was sent before the feed began. */
  sent: Sent;
  isSkipping: boolean;
}

/** Written before the loop and the client get their turn: few enough that nobody else's message waits for long. */
const burst = { charactersMax: 64 * 1024, eventsMax: 100 };
const lookIntervalDefaultMs = 500;
/** Events logged within so long are read together, ms. */
const gatherMs = 50;
const retryMs = 1_000;

export class LogFeed {
  readonly #readers = new Map<Subscriber, Reader>();
  readonly #pages: FeedPages;
  readonly #outage: Outage;
  #woken = Promise.withResolvers<void>();
  #wakeTimer: Timer | null = null;
  #looking: Timer | null = null;
  #sent = 0;
  /** The farthest place that any page was read up to. */
  #end = 0;

  constructor(private readonly options: LogFeedOptions) {
    this.#pages = new FeedPages(options);
    this.#outage = warnsOnce(options.logger, "the feed waits until the log answers", "the feed goes on");
    options.log.epochs.watch(({ isBroken, heldThrough }) => isBroken && this.#goBack(heldThrough));
  }

  /**
   * Nothing that is logged comes twice on a connection [LOG3]: beside the whole log it has no part of it, but for its own
   * topics, which it leaves as the feed begins.
   * @returns the names that may stand beside each other
   */
  admit(subscriber: Subscriber, { topics: names, filters }: ScopeRequest, rejections: Rejections): string[] {
    const isOn = subscriber.isSubscribed(logTopic.name);
    const asks = !isOn && names.includes(logTopic.name) && isBackend(subscriber);
    if (!isOn && !asks) return names;
    const isRefused = asks && hasPartOfLog(subscriber) ? (name: string) => name === logTopic.name : isOfLoggedKind;
    const refused = names.filter(isRefused);
    rejections.add(
      "conflict",
      refused.flatMap((name) => wholeNamesOf(name, { userId: subscriber.userId, filters })),
    );
    return names.filter((name) => !isRefused(name));
  }

  /** Looks where a feed would begin. @param since null: at the end of the log */
  async open(since: StartingPoint | null): Promise<FeedStart> {
    const { log } = this.options;
    if (since === null || since.position === null) {
      const { breaks } = log.epochs;
      const recovered = since === null ? undefined : false;
      return { position: await log.watermark(), breaks, seen: {}, recovered, toldTrimmed: 0 };
    }
    const { position, breaks, seen, isUnbroken } = since;
    const { trimmedPosition: toldTrimmed } = await this.#pages.read(position);
    return { position, breaks, seen, recovered: toldTrimmed <= position && isUnbroken, toldTrimmed };
  }

  /** Events follow from there on, less what was sent, once what is said in this turn is written. */
  start(subscriber: Subscriber, from: FeedStart, sent: Sent = new Map()): void {
    const held = this.options.log.epochs.heldSince(from.breaks);
    // The log has gone back since it was looked at.
    if (held < from.position) Object.assign(from, { position: held, seen: {}, recovered: false });
    const isSkipping = sent.size > 0 || Object.keys(from.seen).length > 0;
    const reader: Reader = { ...from, subscriber, sent, isSkipping };
    this.#readers.set(subscriber, reader);
    this.#end = Math.max(this.#end, from.position);
    this.#looking ??= setInterval(() => this.#wakeAll(), this.options.lookIntervalMs ?? lookIntervalDefaultMs);
    setImmediate(() => void this.#follow(reader));
  }

  /** The connection has left it, or is gone. */
  stop(subscriber: Subscriber): void {
    this.#readers.delete(subscriber);
    if (this.#readers.size > 0) return;
    if (this.#looking !== null) clearInterval(this.#looking);
    this.#looking = null;
    this.#pages.clear();
    this.#wakeAll();
  }

  /** Up to where everything of the log has been sent on the connection; undefined where it has no feed. */
  positionOf(subscriber: Subscriber): number | undefined {
    return this.#readers.get(subscriber)?.position;
  }

  /** Something was logged: feeds that are level with the log look again. */
  wake(): void {
    if (this.#readers.size === 0) return;
    this.#pages.noteLogged();
    if (this.#wakeTimer !== null) return;
    this.#wakeTimer = setTimeout(() => {
      this.#wakeTimer = null;
      this.#wakeAll();
    }, gatherMs);
  }

  stats() {
    const behind = [...this.#readers.values()].map(({ position }) => this.#end - position);
    return { feeds: this.#readers.size, fed_events: this.#sent, feed_behind: Math.max(0, ...behind) };
  }

  #isReading(reader: Reader): boolean {
    return this.#readers.get(reader.subscriber) === reader && !reader.subscriber.isClosed;
  }

  #wakeAll(): void {
    const { resolve } = this.#woken;
    this.#woken = Promise.withResolvers();
    resolve();
  }

  async #follow(reader: Reader): Promise<void> {
    const { sequencer } = this.options;
    let next: Promise<FeedPage> | null = null;
    let isLevel = false;
    let { deletions } = sequencer;
    while (this.#isReading(reader)) {
      // Taken before the page is read: what is logged meanwhile is not slept through.
      const woken = this.#woken.promise;
      // Dropped: what was read before may have the text of a message that is deleted by now [MSG2].
      if (deletions !== sequencer.deletions) next = null;
      ({ deletions } = sequencer);
      const page = await this.#attempt(next ?? this.#pages.read(reader.position, { isLevel }));
      next = null;
      if (!this.#isReading(reader)) return;
      if (page === null) {
        await Bun.sleep(retryMs);
        continue;
      }
      this.#noteHole(reader, page);
      this.#end = Math.max(this.#end, page.position);
      if (page.more) {
        // Read while this one is sent; no further until the client has taken this one.
        next = this.#pages.read(page.position);
        next.catch(() => {});
      }
      const isSent = await this.#send(reader, page, deletions);
      if (!this.#isReading(reader)) return;
      if (!isSent) continue;
      reader.position = Math.max(reader.position, page.position);
      isLevel = !page.more;
      if (isLevel) await woken;
    }
  }

  async #attempt(reading: Promise<FeedPage>): Promise<FeedPage | null> {
    try {
      const page = await reading;
      this.#outage.ended();
      return page;
    } catch (error) {
      this.#outage.began(error);
      return null;
    }
  }

  /** The log has lost what came after: whoever was sent some of it is told, and given what is there instead [LOG4]. */
  #goBack(heldThrough: number): void {
    this.#pages.clear();
    this.#end = Math.min(this.#end, heldThrough);
    for (const reader of [...this.#readers.values()]) {
      const position = Math.min(reader.position, heldThrough);
      this.start(reader.subscriber, { ...reader, position, seen: {}, recovered: false });
      this.#tellHole(reader.subscriber, position);
    }
  }

  /** Retention may be faster than a slow client: it is told that there is a hole, before what comes after it. */
  #noteHole(reader: Reader, { trimmedPosition }: FeedPage): void {
    if (trimmedPosition <= Math.max(reader.position, reader.toldTrimmed)) return;
    reader.toldTrimmed = trimmedPosition;
    this.#tellHole(reader.subscriber, reader.position);
  }

  #tellHole(subscriber: Subscriber, position: number): void {
    const cursor = this.options.log.epochs.cursorOf(position);
    const topics = [{ topic: logTopic.name, recovered: false }];
    this.options.tell(subscriber, "subscribed", { topics, rejected: [], rejected_count: 0, cursor });
  }

  /** @returns whether all of it was sent; false where something was deleted meanwhile, and the rest is to be read anew */
  async #send(reader: Reader, { events }: FeedPage, deletions: number): Promise<boolean> {
    const { subscriber, seen, sent, isSkipping } = reader;
    const isNew = (event: LoggedEvent) => event.seq > (seen[event.topic] ?? 0) && !wasSent(sent, event);
    for (const some of burstsOf(events, burst)) {
      if (!this.#isReading(reader)) return true;
      if (some[0] !== events[0] && deletions !== this.options.sequencer.deletions) return false;
      const fresh = isSkipping ? some.filter(isNew) : some;
      subscriber.sendAll(fresh.map((event) => ({ ...event, at: event.createdAt })));
      reader.position = some.at(-1)!.position;
      this.#sent += fresh.length;
      await subscriber.drained();
      await nextTurn();
    }
    return true;
  }
}

function isOfLoggedKind(name: string): boolean {
  const kind = kindOf(name);
  return kind !== null && topicKinds[kind].logged;
}

/** Whether the connection is on logged topics that are not its own, or would join them by itself. */
function hasPartOfLog(subscriber: Subscriber): boolean {
  const isOthers = (name: string) => isOfLoggedKind(name) && ownerOf(name) !== subscriber.userId;
  return subscriber.follows?.conversations === true || subscriber.topics().some(isOthers);
}

/** The logged topics that a connection is on: what the feed has in it as well. */
export const partsOfLog = (subscriber: Subscriber) =>
  subscriber.topics().flatMap((name) => {
    const topic = parseTopic(name);
    return topic !== null && isLogged(topic) ? [topic] : [];
  });
