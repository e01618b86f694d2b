/** Brings what is followed back on each line, and tells what comes of it: each event once, or of what a gap is [LOG3] [LOG4]. */
import type { Clock, News, Scope, Subscribed, SubscribedTopic, Unlisten } from "../core.ts";
import { ClientError, ServerError } from "../errors.ts";
import { pauseMs } from "../ground/surroundings.ts";
import type { ServerPayloads } from "../wire.ts";
import { FirstAnswers } from "./first-answers.ts";
import { among, Follows, type Key, keysOf, kindOf, requestsFor } from "./follows.ts";
import type { From, ServerMessage } from "./line.ts";
import type { Link } from "./link.ts";
import type { Place } from "./place.ts";

export interface SubscriptionsOptions {
  place: Place;
  clock: Clock;
  /** Like Math.random. */
  random: () => number;
  /** The user's own topics, which the server subscribes by itself; asked for as well, so that it is known when they are back. */
  ownTopics: readonly string[];
  link: Pick<Link, "state" | "send" | "reconnect">;
  onNews(news: News): void;
  /** Called with each message as it is taken, which for what is held is later. */
  onTaken?(message: ServerMessage): void;
  /** All of it is back. */
  onBack(): void;
  onError(error: unknown): void;
}

/** A subscribe that has no answer yet. */
interface Asked {
  scope: Scope;
  keys: Key[];
  since: From | undefined;
  attempt: number;
}

/** Events of a replay that wait for the word whether all of it was there; of a longer one they are told as they come. */
const heldMost = 5_000;
/** Within this time what was let go of is taken up again without having been left. */
const lingerMs = 1_000;
const againMs = 1_000;

export class Subscriptions {
  /** Lists what the cursor speaks for: coming back, all else begins at its head. */
  readonly covered = new Set<Key>();
  readonly #options: SubscriptionsOptions;
  readonly #follows = new Follows();
  /** Topics of this line, and those of the last one that are not back. */
  #on = new Set<string>();
  #lost = new Set<string>();
  readonly #asked = new Map<string, Asked>();
  readonly #answers = new FirstAnswers();
  #unasked: Key[] = [];
  readonly #leaving = new Set<Key>();
  /** Null once everything is back. */
  #resume: { left: Set<Asked>; cursor: string | null } | null = null;
  #isHolding = false;
  #held: ServerMessage[] = [];
  #line = 0;
  #count = 0;

  constructor(options: SubscriptionsOptions) {
    this.#options = options;
  }

  /** Whether an answer is waited for. */
  get isWaiting(): boolean {
    return this.#asked.size > 0;
  }

  get isBack(): boolean {
    return this.#resume === null;
  }

  follow(scope: Scope): { ready: Promise<Subscribed>; stop: Unlisten } {
    const { keys, field } = keysOf(scope);
    this.#follows.add(keys);
    const ready =
      field === undefined ? this.#answers.of(keys) : Promise.reject(new ClientError("invalid_payload", { field }));
    // It need not be waited for.
    ready.catch(() => {});
    this.#want(keys);
    let isFollowed = true;
    const stop = () => {
      if (isFollowed) this.#letGo(this.#follows.remove(keys));
      isFollowed = false;
    };
    return { ready, stop };
  }

  /** Does not bring it back any more, whoever follows it. */
  drop(scope: Scope): void {
    const { keys } = keysOf(scope);
    this.#follows.drop(keys);
    for (const key of keys) this.covered.delete(key);
  }

  /** A line is there: everything goes on from there. */
  resume(since: From | undefined): void {
    const { ownTopics } = this.#options;
    const keys = [...this.#follows.keys];
    // The feed of the whole log has the user's own topics in it [BAK2].
    const isFeed = this.#follows.has("log");
    const from = this.#asRoomAllows(since);
    const isKnown = (key: Key) => typeof since !== "object" || this.covered.has(key);
    const known = new Set([...(isFeed ? [] : ownTopics), ...keys.filter(isKnown)]);
    this.#isHolding = !isFeed;
    const fresh = keys.filter((key) => !known.has(key));
    const left = new Set([...this.#subscribe(known, from), ...this.#subscribe(fresh, undefined)]);
    this.#resume = { left, cursor: null };
    if (left.size === 0) this.#finish();
  }

  /** The line is gone. What was held is told: it is all there is, and the next line goes on behind it. */
  noteClosed(): void {
    this.#release(() => true);
    this.#resume = null;
    this.#line++;
    this.#asked.clear();
    for (const topic of this.#on) this.#lost.add(topic);
    this.#on = new Set();
  }

  /** @param typed what was asked for, where the application itself has asked */
  takeSubscribed(message: ServerMessage, typed: Scope | undefined): void {
    const { ownTopics, place, onNews, onTaken } = this.#options;
    const { topics, rejected, cursor } = message.payload as unknown as Subscribed;
    // Somebody who is told something may end the line: what was not told then comes again, and must not count as had.
    const line = this.#line;
    const asked = this.#asked.get(message.reply_to!);
    const gaps = topics.filter((topic) => this.#hasGap(topic));
    const fresh = topics.filter(({ topic }) => !this.#on.has(topic));
    for (const { topic } of fresh) this.#on.add(topic);
    if (gaps.length > 0) this.#beginAnew(gaps.map(({ topic }) => topic));
    this.#release(({ topic }) => this.#on.has(topic!));
    if (line !== this.#line) return;
    for (const { topic, seq } of [...fresh, ...gaps]) place.begin(topic, seq);
    if (asked === undefined) onTaken?.(message);
    onNews({ kind: "subscribed", topics });
    if (line !== this.#line) return;
    if (typed !== undefined) this.#keepTyped(typed, rejected);
    for (const key of asked?.keys ?? []) if (this.#follows.has(key) || ownTopics.includes(key)) this.covered.add(key);
    if (this.#resume !== null) this.#resume.cursor = cursor;
    else place.moveCursor(cursor);
    if (asked === undefined) return;
    this.#asked.delete(message.reply_to!);
    this.#answers.note(asked.keys, message.payload as unknown as Subscribed);
    this.#noteAnswer(asked);
  }

  takeUnsubscribed({ topics, reason }: ServerPayloads["unsubscribed"]): void {
    const { place, onNews } = this.#options;
    const isFollowed = among(this.#follows.keys);
    for (const topic of topics) this.#on.delete(topic);
    // Asked for again already is what somebody still follows.
    const gone = reason === undefined ? topics.filter((topic) => !isFollowed(topic)) : topics;
    if (gone.includes("log")) place.forgetAll();
    else if (reason !== "in_log") for (const topic of gone) place.forget(topic);
    if (gone.length > 0) onNews({ kind: "unsubscribed", topics: gone, ...(reason && { reason }) });
  }

  /** An answer to a subscribe of here that is an error. @returns false where it answers none */
  takeError(id: string, error: ServerPayloads["error"]): boolean {
    const asked = this.#asked.get(id);
    if (asked === undefined) return false;
    const { clock, random, onError } = this.#options;
    this.#asked.delete(id);
    if (!error.retryable) {
      onError(new ServerError(error));
      this.#follows.drop(asked.keys);
      this.#answers.refuse(asked.keys, new ServerError(error));
      this.#noteAnswer(asked);
      return true;
    }
    const line = this.#line;
    // It may have come to a part of the replay: that is told, and the next try goes on behind it.
    this.#release(() => true);
    const most = pauseMs(againMs, asked.attempt++);
    // Another line has asked for all of it anew.
    const retry = () => line === this.#line && this.#askAgain(asked);
    clock.after(error.retry_after_ms ?? most * (0.5 + random() / 2), retry);
    return true;
  }

  #askAgain(asked: Asked): void {
    const { place, link } = this.#options;
    // Nothing of what came since is in what was acknowledged.
    if (asked.since === "acked") return link.reconnect();
    if (asked.since !== undefined) asked.since = this.#asRoomAllows(place.since());
    this.#request(asked);
  }

  /** The feed of the whole log has more topics than there is room for. */
  #asRoomAllows<Place extends From | undefined>(since: Place): Place | { cursor: string } {
    return typeof since === "object" && this.#follows.has("log") ? { cursor: since.cursor } : since;
  }

  takeEvent(message: ServerMessage): void {
    const { topic, seq } = message;
    const isHeld = this.#isHolding && topic !== undefined && seq !== undefined && !this.#on.has(topic);
    if (!isHeld) return this.#tell(message);
    this.#held.push(message);
    if (this.#held.length < heldMost) return;
    this.#isHolding = false;
    this.#release(() => true);
  }

  #tell(message: ServerMessage): void {
    const { place, onTaken, onNews } = this.#options;
    if (!place.take(message)) return;
    onTaken?.(message);
    onNews({ kind: "event", event: message });
  }

  #release(isDue: (message: ServerMessage) => boolean): void {
    const line = this.#line;
    const due = this.#held.filter(isDue);
    this.#held = this.#held.filter((message) => !isDue(message));
    for (const message of due) if (line === this.#line) this.#tell(message);
  }

  /** The server knows of one, or the topic begins behind what was told of it before. */
  #hasGap({ topic, seq, recovered }: SubscribedTopic): boolean {
    if (recovered !== undefined || this.#on.has(topic)) return recovered === false;
    const had = this.#options.place.had(topic);
    return had !== undefined && seq !== undefined && seq > had;
  }

  #beginAnew(topics: string[]): void {
    const { place, onNews } = this.#options;
    // In another log the numbers of all topics begin anew, and the feed has all of them.
    if (topics.includes("log")) place.forgetAll();
    for (const topic of topics) place.forget(topic);
    onNews({ kind: "gap", topics });
  }

  #want(keys: Key[]): void {
    const isFirst = this.#unasked.push(...keys) === keys.length;
    // All that is asked for in one turn is one request.
    if (!isFirst) return;
    queueMicrotask(() => {
      const keys = this.#unasked.splice(0);
      const resume = this.#resume;
      // Else it comes with all the rest.
      if (resume === null && !this.#isLive) return;
      const asked = this.#subscribe(new Set(keys.filter((key) => this.#follows.has(key))), undefined);
      for (const id of asked) resume?.left.add(id);
    });
  }

  #subscribe(keys: Iterable<Key>, since: From | undefined): Asked[] {
    const all = requestsFor(keys).map((request) => ({ ...request, since, attempt: 0 }));
    for (const asked of all) this.#request(asked);
    return all;
  }

  #request(asked: Asked): void {
    const id = `~s${++this.#count}`;
    this.#asked.set(id, asked);
    this.#send({ id, type: "subscribe", payload: { ...asked.scope, since: asked.since } });
  }

  get #isLive(): boolean {
    return this.#options.link.state.status === "live";
  }

  #send(message: { id: string; type: string; payload: object }): void {
    this.#options.link.send(JSON.stringify(message));
  }

  #noteAnswer(asked: Asked): void {
    if (this.#resume?.left.delete(asked) && this.#resume.left.size === 0) this.#finish();
  }

  #finish(): void {
    const { place, onNews, onBack } = this.#options;
    const line = this.#line;
    const cursor = this.#resume?.cursor ?? null;
    this.#resume = null;
    this.#isHolding = false;
    this.#release(() => true);
    if (line !== this.#line) return;
    if (!this.#follows.has("log")) place.forgetOthers(this.#on);
    const lost = [...this.#lost].filter((topic) => !this.#on.has(topic));
    this.#lost.clear();
    const isFollowed = among(this.#follows.keys);
    const taken = lost.filter(isFollowed);
    const left = lost.filter((topic) => !isFollowed(topic));
    if (taken.length > 0) onNews({ kind: "unsubscribed", topics: taken, reason: "access_revoked" });
    if (left.length > 0) onNews({ kind: "unsubscribed", topics: left });
    if (cursor !== null) place.moveCursor(cursor);
    if (line === this.#line) onBack();
  }

  #keepTyped(scope: Scope, rejected: Subscribed["rejected"]): void {
    const refused = new Set(rejected.map(({ topic }) => topic));
    const kept = keysOf(scope).keys.filter((key) => !refused.has(key));
    for (const key of kept) {
      this.covered.add(key);
      if (!this.#follows.has(key)) this.#follows.add([key]);
    }
  }

  /** Leaves a moment later what nobody has taken up again by then. */
  #letGo(keys: Key[]): void {
    const isWaiting = this.#leaving.size > 0;
    for (const key of keys) this.#leaving.add(key);
    if (!isWaiting && keys.length > 0) this.#options.clock.after(lingerMs, () => this.#leave());
  }

  #leave(): void {
    const { clock, place } = this.#options;
    // It comes with all the rest, and is left then.
    if (this.#resume !== null) return void clock.after(lingerMs, () => this.#leave());
    const gone = [...this.#leaving].filter((key) => !this.#follows.has(key));
    this.#leaving.clear();
    for (const key of gone) this.covered.delete(key);
    this.#answers.keep((key) => this.#follows.has(key));
    if (!this.#isLive) return;
    for (const { scope } of requestsFor(gone))
      this.#send({ id: `~u${++this.#count}`, type: "unsubscribe", payload: scope });
    // A short name takes with it what is followed by whole ones.
    const kinds = gone.filter((key) => !key.includes(":")).map(kindOf);
    const taken = [...this.#follows.keys].filter((key) => kinds.some((kind) => key.startsWith(kind)));
    this.#subscribe(taken, place.since());
  }
}
