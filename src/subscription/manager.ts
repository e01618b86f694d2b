/** Subscribes and unsubscribes connections, one request after the other for each of them [SUB]. */

import type { OwnSent } from "../broadcast/own-sent.ts";
import type { Sequencer } from "../broadcast/sequencer.ts";
import type { Bus } from "../cluster/ports.ts";
import type { DirectoryView } from "../directory/directory.ts";
import { type AtOnce, atOnce, got, type Steps } from "../ground/at-once.ts";
import { KeyedQueue } from "../ground/keyed-queue.ts";
import { pagePerTurn } from "../ground/pages.ts";
import type { Since } from "../protocol/client.ts";
import { isLogged, logTopic, missedTopic, parseTopic, type Topic } from "../protocol/topic.ts";
import { AskerGone, type FairQueue } from "../storage/fair-queue.ts";
import type { CursorStore, EventLog } from "../storage/ports.ts";
import { type Access, holdsAnyway, isBackend } from "./access.ts";
import { CatchUps } from "./catch-ups.ts";
import { describe, type Rejected } from "./described.ts";
import { Following } from "./following.ts";
import { LogBreakNotices } from "./log-break-notices.ts";
import { type FeedStart, LogFeed, type LogFeedOptions, partsOfLog } from "./log-feed.ts";
import { PendingSubscription, PendingSubscriptions } from "./pending-subscriptions.ts";
import { Rejections } from "./rejections.ts";
import { followedBy, lookupsToJoin, lookupsToLeave, plainTopics, resolveScope, type ScopeRequest } from "./scope.ts";
import type { Snapshots } from "./snapshots.ts";
import { locate, startingPointOf } from "./starting-point.ts";
import type { Follows, Subscriber } from "./subscriber.ts";
import type { Tell, WrittenPayload } from "./tell.ts";

export interface SubscriptionManagerOptions extends Pick<LogFeedOptions, "logger"> {
  log: EventLog;
  cursors: CursorStore;
  sequencer: Sequencer;
  ownSent: OwnSent;
  bus: Bus;
  /** Whether this node alone appends to the log. */
  isAlone?: boolean;
  directory: DirectoryView;
  access: Access;
  /** Reads what a new subscriber is told of the topics' present state, by topic name; what it asks waits for its turn by itself. */
  snapshots: (subscriber: Subscriber, topics: Topic[]) => AtOnce<Snapshots>;
  /** Called once a connection is live on topics. */
  onSubscribed: (subscriber: Subscriber, topics: Topic[]) => void;
  /** Called before a connection that may hear it goes live on `missed`; what it rejects with refuses the request [BAK3]. */
  onMissedWanted?: () => Promise<void>;
  /** Called once a connection has left topics. */
  onUnsubscribed: (subscriber: Subscriber, topics: Topic[]) => void;
  /** Tells one connection something without being asked. */
  tell: Tell;
  topicsMax: number;
  /** Where a question waits for its turn among its user's. */
  questions: FairQueue;
  /** Members that a conversation has at most for their presence to be watched by its id. */
  watchMax: number;
}

/** Says what a `subscribe` has come to. */
export interface Subscribed {
  /** Whole names of what the connection is on, of what was asked for. */
  topics: string[];
  rejected: Rejected;
  /** The payload of `subscribed`. */
  payload: WrittenPayload;
  /** Characters of the payloads that were replayed. */
  replayed: number;
}

const namesOf = (topics: Topic[]) => topics.map(({ name }) => name);

type SubscribeRequest = ScopeRequest & { since?: Since | undefined };

export class SubscriptionManager {
  readonly #pending = new PendingSubscriptions();
  /** One request after the other: a topic that is added by itself must not go live in the middle of a replay [LOG3]. */
  readonly #queue = new KeyedQueue<Subscriber>();
  readonly #following = new Following();
  readonly #catchUps: CatchUps;
  readonly #feed: LogFeed;
  /** Keeps the connections that are to be told that the log has gone back: by `tellLogBreak`, or before one is given a cursor [LOG4]. */
  readonly logBreaks: LogBreakNotices;

  constructor(private readonly options: SubscriptionManagerOptions) {
    this.logBreaks = new LogBreakNotices(options);
    this.#catchUps = new CatchUps(options);
    this.#feed = new LogFeed(options);
  }

  /** Authorises, catches up and subscribes; resolves when the connection is live on what it got [SUB1] [LOG5]. */
  subscribe(subscriber: Subscriber, request: SubscribeRequest): AtOnce<Subscribed> {
    return this.#queue.run(subscriber, () => atOnce(this.#subscribe(subscriber, request)));
  }

  *#subscribe(subscriber: Subscriber, request: SubscribeRequest, { unasked = false } = {}): Steps<Subscribed> {
    const pending = new PendingSubscription(subscriber, unasked);
    // From before anybody is asked, so that a right which is lost after the answer counts.
    this.#pending.add(pending);
    try {
      return yield* this.#subscribeUnlessRevoked(pending, request);
    } finally {
      this.#pending.delete(pending);
    }
  }

  *#subscribeUnlessRevoked(pending: PendingSubscription, request: SubscribeRequest): Steps<Subscribed> {
    const { subscriber, unasked } = pending;
    const rejections = new Rejections();
    const allowed = yield* this.#authorise(pending, request, rejections);
    const fresh = this.#withinLimit(subscriber, allowed, rejections);
    if (fresh.includes(missedTopic)) yield Promise.resolve(this.options.onMissedWanted?.());
    const { since: wanted } = request;
    const since = wanted === undefined ? null : yield* startingPointOf(subscriber, wanted, this.options);
    const feed = fresh.includes(logTopic) ? yield* got(this.#ask(subscriber, () => this.#feed.open(since))) : null;
    const parts = feed === null ? fresh : fresh.filter((topic) => topic !== logTopic);
    const places = yield* this.#catchUps.start(pending, parts, since);
    if (pending.mayHaveLostRights) yield* this.#giveBack(pending, fresh);
    // It is on all of them, unless some were refused or taken back; each is asked for only then.
    const areLive = () => rejections.size + pending.revoked.size === 0 && feed === null && !subscriber.isClosed;
    const findLive = () => (areLive() ? allowed : allowed.filter(({ name }) => subscriber.isSubscribed(name)));
    // The answer may be as large as may wait for a client: what waits already is taken first [CON7]. What joins by itself is
    // little, and whoever is told of a change of members waits for nobody.
    const drained = unasked ? undefined : subscriber.drained();
    if (drained instanceof Promise) yield drained;
    const reading = this.options.snapshots(subscriber, findLive());
    const snapshots = reading instanceof Promise ? yield reading : reading;
    if (feed !== null) yield this.#startFeed(pending, feed);
    // Looked at only now: what was taken back while the snapshot was read is told of as such already.
    const live = findLive();
    let begun = fresh;
    if (live.length < allowed.length) {
      const still = new Set(live);
      begun = fresh.filter((topic) => still.has(topic));
      if (!subscriber.isClosed) rejections.add("forbidden", namesOf(allowed.filter((topic) => !still.has(topic))));
    }
    if (fresh.length > 0) this.options.onSubscribed(subscriber, begun);
    const placeOf = (topic: Topic) =>
      topic === logTopic ? (feed ?? {}) : (places.get(topic.name) ?? this.#catchUps.standingOn(topic));
    const cursor = this.cursorOf(subscriber);
    const isResumed = since !== null;
    const { rejected, payload } = describe({ live, placeOf, snapshots, isResumed, rejections, cursor });
    return { topics: namesOf(live), rejected, payload, replayed: pending.replayed };
  }

  /** Resolves the request, and picks what of it the connection may hear. */
  *#authorise(
    { subscriber, unasked }: PendingSubscription,
    request: SubscribeRequest,
    rejections: Rejections,
  ): Steps<Topic[]> {
    const topics = this.#feed.admit(subscriber, request, rejections);
    const { filters } = request;
    const { access, directory, topicsMax, watchMax } = this.options;
    const plain = plainTopics(topics, subscriber.userId);
    if (plain !== null && access.mayHearAll(subscriber, plain)) return plain;
    // Before the directory is asked: who is added after its answer is added to those who follow.
    this.#following.add(subscriber, followedBy({ topics, filters }));
    const ask = <Answer>(question: () => Promise<Answer>) => this.#ask(subscriber, question);
    const lookups = lookupsToJoin(subscriber, { access, directory, watchMax, ask });
    const scope = yield* got(resolveScope(subscriber, { topics, filters, topicsMax }, lookups));
    const { sharing, unwatched } = scope;
    if (unwatched.length > 0) this.#following.remove(subscriber, { all: new Set(), presenceOf: unwatched });
    rejections.add("unknown_topic", scope.unknown);
    // A topic that does not exist and one that is forbidden look the same.
    rejections.add("forbidden", scope.invalid);
    rejections.addUnwatched(unwatched);
    if (access.mayHearAll(subscriber, scope.topics)) return scope.topics;
    const allowed = yield* got(ask(() => access.allowed(subscriber, scope.topics, { unasked, sharing })));
    const mayHear = new Set(allowed);
    rejections.add("forbidden", namesOf(scope.topics.filter((topic) => !mayHear.has(topic))));
    return allowed;
  }

  /** The whole log follows, and with it what comes on the logged topics that the connection is on by itself [LOG3]. */
  async #startFeed({ subscriber, revoked }: PendingSubscription, from: FeedStart): Promise<void> {
    // Events below it have been sent on the topics that the connection leaves; the feed has those above.
    await this.options.sequencer.reach(from.position);
    if (subscriber.isClosed || revoked.has(logTopic.name) || !isBackend(subscriber)) return;
    const left = this.#leave(subscriber, partsOfLog(subscriber));
    if (left.length > 0) this.options.tell(subscriber, "unsubscribed", { topics: namesOf(left), reason: "in_log" });
    subscriber.subscribe(logTopic.name);
    this.#feed.start(subscriber, from, this.options.ownSent.take(subscriber));
  }

  /** Every event up to there, on the topics of the connection, has been sent on it [LOG4]. */
  cursorOf(subscriber: Subscriber): string {
    const { sequencer } = this.options;
    this.logBreaks.tell(subscriber);
    const fed = this.#feed.positionOf(subscriber);
    return fed === undefined ? sequencer.cursor : sequencer.epochs.cursorOf(fed);
  }

  /** Whether the connection may have been given the cursor, by whatever node. */
  async hasSent(subscriber: Subscriber, cursor: string): Promise<boolean> {
    const position = await locate(cursor, this.options.sequencer);
    return position !== null && position <= (this.#feed.positionOf(subscriber) ?? position);
  }

  /** An event of the log is here. */
  noteLogged(): void {
    this.#feed.wake();
  }

  /** Leaves topics; what it is not on is passed over [SUB4]. */
  unsubscribe(subscriber: Subscriber, request: ScopeRequest): Promise<{ topics: string[] }> {
    return this.#queue.run(subscriber, () => this.#unsubscribe(subscriber, request));
  }

  async #unsubscribe(subscriber: Subscriber, request: ScopeRequest) {
    const { directory, topicsMax, watchMax } = this.options;
    const { topics, filters } = request;
    const ask = <Answer>(question: () => Promise<Answer>) => this.#ask(subscriber, question);
    const lookups = lookupsToLeave(subscriber, { directory, watchMax, ask });
    const scope = await resolveScope(subscriber, { topics, filters, topicsMax }, lookups);
    this.#following.remove(subscriber, scope);
    await pagePerTurn(scope.topics, (page) => this.#leave(subscriber, page));
    return { topics: scope.topics.map(({ name }) => name) };
  }

  /** The connection has closed: nothing of it is remembered [SUB5]. */
  forget(subscriber: Subscriber): void {
    this.#following.forget(subscriber);
    this.#feed.stop(subscriber);
  }

  /** Joins what the connection follows and is not subscribed to yet, and says so. */
  async join(subscriber: Subscriber, wanted: (follows: Follows) => string[]): Promise<void> {
    if (subscriber.follows === null) return;
    await this.#queue.run(subscriber, async () => {
      // Looked at only now: what was under way may have unsubscribed it, or have been for the same topic.
      const { follows } = subscriber;
      const fresh = follows === null ? [] : wanted(follows).filter((name) => !subscriber.isSubscribed(name));
      if (fresh.length === 0 || subscriber.isClosed) return;
      try {
        const joining = this.#subscribe(subscriber, { topics: fresh }, { unasked: true });
        const { topics, payload } = await atOnce(joining);
        if (topics.length > 0) this.options.tell(subscriber, "subscribed", payload);
      } catch (error) {
        if (error instanceof AskerGone) return;
        this.#joinInPart(subscriber, fresh);
        throw error;
      }
    });
  }

  /** An engine has failed after some of the topics went live: what is logged stays and is told of, the rest joins later. */
  #joinInPart(subscriber: Subscriber, names: string[]): void {
    const live = names.filter((name) => subscriber.isSubscribed(name)).map((name) => parseTopic(name)!);
    const passing = live.filter((topic) => !isLogged(topic));
    this.#leave(subscriber, passing);
    const topics = live.filter(isLogged).map(({ name }) => ({ topic: name }));
    if (topics.length === 0) return;
    this.options.tell(subscriber, "subscribed", {
      topics,
      rejected: [],
      rejected_count: 0,
      cursor: this.cursorOf(subscriber),
    });
  }

  /** Says of all that the connection hears of the log that it is to be loaded anew, unless it knows [LOG4]. */
  tellLogBreak(subscriber: Subscriber): Promise<void> {
    return this.#queue.run(subscriber, async () => this.logBreaks.tell(subscriber));
  }

  /** Takes topics back, what is being caught up on too, and says so; what the directory has no say in stays. */
  revoke(subscriber: Subscriber, names: string[]): void {
    const lost = names.map((name) => parseTopic(name)!).filter((topic) => !holdsAnyway(subscriber, topic));
    const left = this.#leave(subscriber, lost);
    if (left.length === 0) return;
    this.options.tell(subscriber, "unsubscribed", { topics: left.map(({ name }) => name), reason: "access_revoked" });
  }

  /** Somebody has left a conversation: those who are subscribing just now may have been given rights by an older answer. */
  noteRightsLost(userId: string | null): void {
    this.#pending.noteRightsLost(userId);
  }

  /** Connections that follow presence without naming users. */
  get presenceFollowers(): Iterable<Subscriber> {
    return this.#following.presenceFollowers;
  }

  /** Whether the connection may read the log of the topic [LOG8]. */
  mayRead(subscriber: Subscriber, topic: Topic): Promise<boolean> {
    return this.options.access.mayRead(subscriber, topic);
  }

  /** Waits for the user's turn; what is asked waits for the storage only, never for the client. */
  #ask<Answer>(subscriber: Subscriber, question: () => Promise<Answer>): Promise<Answer> {
    return this.options.questions.ask(subscriber, question);
  }

  stats() {
    return {
      ...this.#catchUps.stats(),
      catching_up: this.#pending.size,
      ...this.#feed.stats(),
    };
  }

  /** Leaves what it may not hear after all, where rights were lost meanwhile. */
  *#giveBack(pending: PendingSubscription, topics: Topic[]): Steps<void> {
    const { subscriber } = pending;
    while (topics.length > 0 && !subscriber.isClosed && pending.takeRightsLost(topics)) {
      // Nothing is kept where the question fails.
      const allowed = this.options.access.allowed(subscriber, topics, { unasked: true });
      const still = new Set(yield* got(allowed.catch(() => [])));
      this.#leave(
        subscriber,
        topics.filter((topic) => !still.has(topic)),
      );
      if (allowed instanceof Promise) yield allowed;
    }
  }

  /** Picks the topics that the connection is not on yet, as many as its limit lets in. */
  #withinLimit(subscriber: Subscriber, allowed: Topic[], rejections: Rejections): Topic[] {
    const { length: there } = subscriber.topics();
    const fresh = there === 0 ? allowed : allowed.filter(({ name }) => !subscriber.isSubscribed(name));
    const room = Math.max(0, this.options.topicsMax - there);
    if (fresh.length <= room) return fresh;
    rejections.add("limit_exceeded", namesOf(fresh.slice(room)));
    return fresh.slice(0, room);
  }

  #leave(subscriber: Subscriber, topics: Topic[]): Topic[] {
    this.#pending.noteLeft(subscriber, topics);
    const left = topics.filter(({ name }) => subscriber.isSubscribed(name));
    this.options.ownSent.end(subscriber, left, this.options.sequencer);
    for (const { name } of left) subscriber.unsubscribe(name);
    if (left.includes(logTopic)) this.#feed.stop(subscriber);
    if (left.length > 0) this.options.onUnsubscribed(subscriber, left);
    return left;
  }
}
