/** Remembers for `connect` between two connections: subscriptions, the cursor, and requests without an answer. */

import { BoundedMap } from "../ground/bounded-map.ts";
import { pages } from "../ground/pages.ts";
import type { Since } from "../protocol/client.ts";
import { isPlainObject } from "../protocol/envelope.ts";
import { limits } from "../protocol/limits.ts";
import type { SubscribedTopic } from "../protocol/server.ts";
import { isTopicKind, logTopic } from "../protocol/topic.ts";

export type Message = Record<string, unknown>;

/** Requests that are remembered until they are answered; beyond it the oldest are forgotten. */
const pendingMost = 1_000;

export class ConnectSession {
  /** Every event up to here on this session's topics has been seen [LOG4]. */
  cursor: string | null = null;
  deviceId: string | null;
  token: string | null;
  readonly #newId: () => string;
  readonly #topics = new Set<string>();
  /** Topics that were asked for without a filter: all of one's own, those that will come included. */
  readonly #kinds = new Set<string>();
  /** The `seq` up to which it has each topic: at or below it is what comes again. */
  readonly #had = new Map<string, number>();
  /** Topics that had events since the session has its cursor. */
  readonly #movedSince = new Set<string>();
  readonly #pending = new BoundedMap<string, Message>(pendingMost);
  /** Requests of the session itself: upkeep pings, and the subscriptions that bring it back. */
  readonly #upkeep = new Set<string>();
  readonly #resuming = new Set<string>();
  #resumed: (() => void) | null = null;
  #settled: (() => void)[] = [];
  #requests = 0;
  #ownRequests = 0;
  #hasFailed = false;

  constructor(options: { newId: () => string; deviceId: string | null; token: string | null }) {
    this.#newId = options.newId;
    this.deviceId = options.deviceId;
    this.token = options.token;
  }

  /** Completes a typed message and remembers it until it is answered. */
  request(message: Message): Message {
    const { id = `r${++this.#requests}`, ...others } = message;
    const complete: Message = { id, ...others };
    const payload = complete.payload;
    if (complete.type === "message.send" && isPlainObject(payload)) {
      complete.payload = { client_message_id: this.#newId(), ...payload };
    }
    if (complete.type === "authenticate" && isPlainObject(payload) && typeof payload.token === "string") {
      this.token = payload.token;
    }
    this.#noteKinds(complete);
    // A replay that was asked for shows what has been shown before.
    if (complete.type === "subscribe" && isPlainObject(payload) && payload.since !== undefined) this.#forgetHad();
    if (typeof id === "string") {
      this.#pending.set(id, complete);
    } else {
      // No answer can name it.
      this.#hasFailed = true;
    }
    return complete;
  }

  /** A ping that asks for the cursor and is not shown; null while the last one has no answer: the server is gone. */
  upkeepPing(): Message | null {
    if (this.#upkeep.size > 0) return null;
    const id = `k${++this.#ownRequests}`;
    this.#upkeep.add(id);
    return { id, type: "ping", payload: {} };
  }

  /** Notes what a server message says. @returns whether to show it: not what was seen before, nor the session's own */
  receive(message: Message): boolean {
    const payload = isPlainObject(message.payload) ? message.payload : {};
    const replyTo = typeof message.reply_to === "string" ? message.reply_to : null;
    // The session's own requests are asked again, and an error that answers none speaks of a typed line.
    const isOwn = replyTo !== null && (this.#upkeep.has(replyTo) || this.#resuming.has(replyTo));
    if ((message.type === "error" || message.type === "auth.failed") && !isOwn) this.#hasFailed = true;
    if (!this.#noteEvent(message)) return false;
    if (message.type === "connected" && typeof payload.device_id === "string") this.deviceId ??= payload.device_id;
    if (message.type === "subscribed") {
      const topics = payload.topics as SubscribedTopic[];
      for (const { topic } of topics) this.#topics.add(topic);
      // In a log that has gone back numbers begin anew; of `log` those of all topics.
      if (topics.some(({ recovered }) => recovered === false)) this.#forgetHad();
      for (const { topic } of payload.rejected as { topic: string }[]) this.#topics.delete(topic);
    }
    if (message.type === "unsubscribed") for (const topic of payload.topics as string[]) this.#topics.delete(topic);
    if (replyTo !== null) this.#resuming.delete(replyTo);
    // While topics are still coming back the new cursor does not speak for all of them.
    if (this.#resuming.size === 0) {
      if (typeof payload.cursor === "string") this.#moveCursor(payload.cursor);
      this.#resumed?.();
      this.#resumed = null;
    }
    if (replyTo === null) return true;
    this.#pending.delete(replyTo);
    if (this.#pending.size === 0) for (const done of this.#settled.splice(0)) done();
    return !this.#upkeep.delete(replyTo);
  }

  /** The requests that bring all subscriptions back, all from the same place [LOG4]; `done` once they are answered. */
  resume(done: () => void): Message[] {
    const names = [...this.#kinds, ...this.#topics];
    // Of the whole log there may be more topics than a request has room for: what comes twice is known all the same.
    const moved = this.#topics.has(logTopic.name) ? [] : [...this.#movedSince];
    const had = moved.map((topic) => [topic, this.#had.get(topic)]);
    const seen = Object.fromEntries(had.filter(([, seq]) => seq !== undefined));
    const since: Since | undefined = this.cursor === null ? undefined : { cursor: this.cursor, seen };
    const requests: Message[] = [];
    for (const topics of pages(names, limits.namesPerRequest)) {
      const id = `k${++this.#ownRequests}`;
      this.#resuming.add(id);
      requests.push({ id, type: "subscribe", payload: { topics, since } });
    }
    if (requests.length === 0) done();
    else this.#resumed = done;
    return requests;
  }

  /** The connection is gone. @returns requests that may be sent again, and those that may not: they could act twice */
  disconnected(): { again: Message[]; lost: Message[] } {
    this.#upkeep.clear();
    this.#resuming.clear();
    this.#resumed = null;
    const { again = [], lost = [] } = Object.groupBy(this.#pending.values(), (request) =>
      isRepeatable(request) ? "again" : "lost",
    );
    for (const { id } of lost) this.#pending.delete(id as string);
    if (lost.length > 0) this.#hasFailed = true;
    return { again, lost };
  }

  /** A line that became no request. */
  noteFault(): void {
    this.#hasFailed = true;
  }

  /** Whether every line was a request, and every request has an answer that is no error. */
  get hasSucceeded(): boolean {
    return !this.#hasFailed && this.#pending.size === 0;
  }

  /** Resolves once every request has its answer. */
  settled(): Promise<void> {
    return this.#pending.size === 0 ? Promise.resolve() : new Promise((done) => this.#settled.push(done));
  }

  #noteEvent({ topic, seq }: Message): boolean {
    if (typeof topic !== "string" || typeof seq !== "number") return true;
    if (seq <= (this.#had.get(topic) ?? 0)) return false;
    this.#had.set(topic, seq);
    this.#movedSince.add(topic);
    return true;
  }

  /** Does not tell what of after it was seen before it came: it comes again, and is known by its `seq`. */
  #moveCursor(cursor: string): void {
    this.cursor = cursor;
    this.#movedSince.clear();
  }

  #forgetHad(): void {
    this.#had.clear();
    this.#movedSince.clear();
  }

  #noteKinds({ type, payload }: Message): void {
    if (!isPlainObject(payload) || payload.filters !== undefined || !Array.isArray(payload.topics)) return;
    for (const name of payload.topics) {
      if (typeof name !== "string" || !isTopicKind(name)) continue;
      if (type === "subscribe") this.#kinds.add(name);
      if (type === "unsubscribe") this.#kinds.delete(name);
    }
  }
}

/** Whether the contract makes a second sending harmless [LOG2] [SUB4]. */
function isRepeatable({ type, payload }: Message): boolean {
  if (type === "publish") return isPlainObject(payload) && payload.event_key !== undefined;
  return typeof type === "string" && !type.startsWith("call.") && !type.startsWith("admin.");
}
