/** Defines a connection as subscriptions see it: whose it is, what it is on, and how to write to it. */
import type { Recipient } from "../broadcast/ports.ts";
import type { AtOnce } from "../ground/at-once.ts";
import type { OutgoingMessage } from "../protocol/envelope.ts";

/** Names what a connection asked to follow without naming topics: new conversations and members join by themselves [SUB3]. */
export interface Follows {
  conversations: boolean;
  typing: boolean;
  /** Presence of everyone the user shares a conversation with. */
  presence: boolean;
  /** Presence of the members of these conversations. */
  presenceOf: Set<string>;
}

export interface Subscriber extends Recipient {
  readonly connectionId: string;
  readonly roles: readonly string[];
  /** Extra topics that the token grants. */
  readonly grants: readonly string[];
  /** Null until something is followed. */
  follows: Follows | null;
  readonly isClosed: boolean;
  subscribe(topic: string): void;
  unsubscribe(topic: string): void;
  /** Topics it is on. */
  topics(): string[];
  /** Writes many messages with one system call. */
  sendAll(messages: OutgoingMessage[]): void;
  /** Resolves when what was written has left for the network, or the connection has closed. */
  drained(): AtOnce<void>;
}

export function followsOf(subscriber: Subscriber): Follows {
  subscriber.follows ??= { conversations: false, typing: false, presence: false, presenceOf: new Set() };
  return subscriber.follows;
}
