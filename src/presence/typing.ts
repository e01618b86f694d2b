/** Who is typing where: renewed, relayed sparingly, and always ended by the server [TYP1] [TYP2]. */
import type { Audience, EphemeralEvent } from "../broadcast/broadcaster.ts";
import type { Recipient } from "../broadcast/ports.ts";
import type { Config } from "../config/schema.ts";
import { typingTopic } from "../subscription/topic.ts";

export interface Typist extends Recipient {
  readonly connectionId: string;
}

export interface TypingTrackerOptions {
  publish: (topic: string, event: EphemeralEvent, audience: Audience) => void;
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
  /** Another connection of the user had started it before: the typist was told of that, and is told of the end. */
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
  readonly #byConversation = new Map<string, Set<Entry>>();
  #timer: Timer | null = null;

  constructor(private readonly options: TypingTrackerOptions) {}

  start(): void {
    this.#timer = setInterval(() => this.sweep(), sweepIntervalMs);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
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
    if (relay) this.options.publish(typingTopic(conversationId), this.#started(entry), { except: typist });
  }

  /** Ends it where this connection owns it. */
  stopTyping(typist: Typist, conversationId: string): void {
    const key = keyOf(conversationId, typist.userId);
    if (this.#entries.get(key)?.typist === typist) this.#end(key);
  }

  /** Ends all that a connection has going: it has gone, or lost access to some conversations. */
  stopAll(typist: Typist, conversationIds?: string[]): void {
    // Nearly every connection types nowhere; the scan is over those who type right now, not over connections.
    for (const [key, entry] of this.#entries) {
      if (entry.typist !== typist) continue;
      if (conversationIds === undefined || conversationIds.includes(entry.conversationId)) this.#end(key);
    }
  }

  /** Another node said that somebody types, or has stopped. */
  heard(event: { type: string; userId: string; conversationId: string; expiresAt: number }): void {
    const key = keyOf(event.conversationId, event.userId);
    const known = this.#entries.get(key);
    if (known?.typist) return;
    if (event.type === "typing.stop") this.#remove(key);
    else {
      const { userId, conversationId } = event;
      this.#put(key, {
        userId,
        conversationId,
        typist: null,
        takenOver: false,
        expiresAt: event.expiresAt + remoteSlackMs,
        relayedAt: 0,
      });
    }
  }

  snapshot(conversationId: string, exceptUserId: string) {
    return [...(this.#byConversation.get(conversationId) ?? [])]
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
  }

  stats() {
    return { typing: this.#entries.size };
  }

  #started({ userId, conversationId, expiresAt }: Entry) {
    const payload = {
      user_id: userId,
      conversation_id: conversationId,
      expires_at: new Date(expiresAt).toISOString(),
    };
    return { type: "typing.start", payload };
  }

  #put(key: string, entry: Entry): void {
    this.#remove(key);
    this.#entries.set(key, entry);
    const there = this.#byConversation.get(entry.conversationId);
    if (there === undefined) this.#byConversation.set(entry.conversationId, new Set([entry]));
    else there.add(entry);
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    const there = this.#byConversation.get(entry.conversationId)!;
    there.delete(entry);
    if (there.size === 0) this.#byConversation.delete(entry.conversationId);
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
