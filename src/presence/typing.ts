/** Tells who is typing where: renewed, relayed sparingly, and always ended by the server [TYP1] [TYP2]. */

import type { Audience, EphemeralEvent } from "../broadcast/broadcaster.ts";
import type { Recipient } from "../broadcast/ports.ts";
import type { TopicMessage } from "../cluster/ports.ts";
import type { Config } from "../config/schema.ts";
import { momentText } from "../ground/moments.ts";
import { Multimap } from "../ground/multimap.ts";
import { conversationTopic, typingTopic } from "../protocol/topic.ts";
import type { LoggedEvent } from "../storage/ports.ts";

export interface Typist extends Recipient {
  readonly connectionId: string;
}

export interface TypingTrackerOptions {
  publish: (topic: string, event: EphemeralEvent, audience: Audience) => void;
  /** Has this node hear what other nodes say on a topic for as long as the tracker `follows` it. */
  follow: (topic: string) => void;
  /** Only to this node's subscribers: the end of somebody whose node cannot say it any more. */
  publishHere: (topic: string, event: EphemeralEvent) => void;
  settings: Config["typing"];
  now: () => number;
}

interface Entry {
  conversationId: string;
  userId: string;
  /** Null: typing on another node, known from the bus. */
  typist: Typist | null;
  /** Another connection of the user has started it too: the typist was told of that, and is told of the end. */
  takenOver: boolean;
  expiresAt: number;
  relayedAt: number;
}

/** How much longer another node's typists are kept than that node said: its own `typing.stop` comes first. */
const remoteSlackMs = 1_000;
const sweepIntervalMs = 100;

export class TypingTracker {
  /** In the order of their expiry: a renewal moves an entry to the end. */
  readonly #entries = new Map<string, Entry>();
  /** Per conversation those who type in it, for snapshots. */
  readonly #byConversation = new Multimap<string, Entry>();
  /** Per connection what it has going: nearly every one that closes has nothing, and must not cost a look at all others. */
  readonly #byTypist = new Multimap<Typist, Entry>();
  /** Only while somebody types: a loop that is woken ten times a second for nothing pays for it. */
  #timer: Timer | null = null;

  constructor(private readonly options: TypingTrackerOptions) {}

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** Starts or renews; the connection that started last owns it. */
  startTyping(typist: Typist, conversationId: string): void {
    const { now, settings } = this.options;
    const at = now();
    const key = keyOf(conversationId, typist.userId);
    const known = this.#entries.get(key);
    const relay = known === undefined || known.typist === null || at - known.relayedAt >= settings.relay_interval;
    const entry: Entry = {
      conversationId,
      userId: typist.userId,
      typist,
      takenOver: known !== undefined && (known.takenOver || known.typist !== typist),
      expiresAt: at + settings.timeout,
      relayedAt: relay ? at : known.relayedAt,
    };
    this.#put(key, entry);
    // The typist's message may be published by another node.
    if (known === undefined) this.options.follow(conversationTopic(conversationId));
    if (relay) this.options.publish(typingTopic(conversationId), this.#started(entry), { except: typist });
  }

  follows(topic: string): boolean {
    // Mostly nobody types, and each message asks.
    return this.#entries.size > 0 && topic.startsWith(conversationTopic("")) && this.#typistsOf(topic).length > 0;
  }

  /** An event that is new, logged or not, on whichever node: a message's author does not type any more, on any device here. */
  noteMessage({ topic, type, payload }: Pick<LoggedEvent, "topic" | "type" | "payload">): void {
    if (type !== "message.new" || !this.follows(topic)) return;
    const { sender_id } = JSON.parse(payload) as { sender_id: string };
    for (const { conversationId, userId } of this.#typistsOf(topic))
      if (userId === sender_id) this.#end(keyOf(conversationId, userId));
  }

  /** Finds those who type on this node in the conversation of a topic. */
  #typistsOf(topic: string): Entry[] {
    const conversationId = topic.slice(conversationTopic("").length);
    return this.#byConversation.of(conversationId).filter(({ typist }) => typist !== null);
  }

  /** Ends it where this connection owns it. */
  stopTyping(typist: Typist, conversationId: string): void {
    const key = keyOf(conversationId, typist.userId);
    if (this.#entries.get(key)?.typist === typist) this.#end(key);
  }

  /** Ends all that a connection has going: it has gone, or lost access to some conversations. */
  stopAll(typist: Typist, conversationIds?: string[]): void {
    for (const { conversationId, userId } of this.#byTypist.of(typist)) {
      const isMeant = conversationIds === undefined || conversationIds.includes(conversationId);
      if (isMeant) this.#end(keyOf(conversationId, userId));
    }
  }

  /** Another node said something on a typing topic: that somebody types, or has stopped; all else is a backend's own. */
  heard({ type, payload, at }: Pick<TopicMessage & { kind: "ephemeral" }, "type" | "payload" | "at">) {
    if (type !== "typing.start" && type !== "typing.stop") return;
    const { user_id: userId, conversation_id: conversationId, expires_at } = JSON.parse(payload);
    const key = keyOf(conversationId, userId);
    const known = this.#entries.get(key);
    if (known?.typist) {
      // The typist here was told of this start, and the other node's stop may be lost.
      known.takenOver ||= type === "typing.start";
      return;
    }
    const { now, settings } = this.options;
    // How long by the other's clock, and until when by ours: the clocks may differ by more than that.
    const lastsMs = Math.min(Date.parse(expires_at) - at, settings.timeout);
    if (type === "typing.stop" || !(lastsMs > 0)) return this.#remove(key);
    const expiresAt = now() + lastsMs + remoteSlackMs;
    this.#put(key, { userId, conversationId, typist: null, takenOver: false, expiresAt, relayedAt: 0 });
  }

  snapshot(conversationId: string, exceptUserId: string) {
    return this.#byConversation
      .of(conversationId)
      .filter(({ userId }) => userId !== exceptUserId)
      .map((entry) => this.#started(entry).payload);
  }

  /** Ends what has run out. */
  sweep(): void {
    const at = this.options.now();
    for (const [key, entry] of this.#entries) {
      // Entries of other nodes may stand among ours with a later end; none of ours is ever behind a later one of ours.
      if (entry.expiresAt <= at) this.#end(key);
      else if (entry.typist !== null) break;
    }
    if (this.#entries.size === 0) this.stop();
  }

  stats() {
    return { typing: this.#entries.size };
  }

  #started({ userId, conversationId, expiresAt }: Entry) {
    const payload = {
      user_id: userId,
      conversation_id: conversationId,
      expires_at: momentText(expiresAt),
    };
    return { type: "typing.start", payload };
  }

  #put(key: string, entry: Entry): void {
    this.#remove(key);
    this.#entries.set(key, entry);
    this.#timer ??= setInterval(() => this.sweep(), sweepIntervalMs);
    this.#byConversation.add(entry.conversationId, entry);
    if (entry.typist !== null) this.#byTypist.add(entry.typist, entry);
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#byConversation.remove(entry.conversationId, entry);
    if (entry.typist !== null) this.#byTypist.remove(entry.typist, entry);
  }

  #end(key: string): void {
    const { conversationId, userId, typist, takenOver } = this.#entries.get(key)!;
    this.#remove(key);
    const event = { type: "typing.stop", payload: { user_id: userId, conversation_id: conversationId } };
    if (typist === null) this.options.publishHere(typingTopic(conversationId), event);
    else this.options.publish(typingTopic(conversationId), event, takenOver ? {} : { except: typist });
  }
}

const keyOf = (conversationId: string, userId: string) => `${conversationId} ${userId}`;
