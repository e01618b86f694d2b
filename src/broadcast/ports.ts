/** Declares what the broadcaster needs of the sockets: the native topics and this node's connections. */
import type { OutgoingMessage } from "../protocol/envelope.ts";
import type { WireFormat } from "../protocol/limits.ts";
import { ownerOf } from "../protocol/topic.ts";

export type EncodedFrame = string | Uint8Array;

/** `Bun.serve`'s own topic tree: the only record of who is subscribed to what. */
export interface NativeTopics {
  /** Sends the frame to every socket on the topic. */
  publish(topic: string, frame: EncodedFrame): void;
  subscriberCount(topic: string): number;
}

/** A live connection of this node, as far as broadcasting goes. */
export interface Recipient {
  readonly format: WireFormat;
  /** Empty before authentication; nothing is sent to a user by that name. */
  readonly userId: string;
  readonly deviceId: string;
  sendMessage(message: OutgoingMessage): void;
  /** Writes what was published, and is counted already. */
  sendFrames(frames: EncodedFrame[]): void;
  isSubscribed(topic: string): boolean;
  /** Leaves the native topic, so that nothing that is published reaches this socket. @returns whether it was on it */
  stepOut(nativeTopic: string): boolean;
  /** Returns to it, in the same turn. */
  stepBack(nativeTopic: string): void;
}

/** Has what was published and waits to be written together with what follows [WIRE1]. */
export interface WaitingFrames {
  /** Writes to one connection what waits for it: what it is told next was said later. */
  bringLevel(recipient: Recipient): void;
  /** The same of one topic, which the connection is about to leave. */
  bringLevelOn(topic: string, recipient: Recipient): void;
  /** The connection is about to join the topic: what waits was published before. */
  passBy(topic: string, recipient: Recipient): void;
}

/** Is shown what is published, while somebody watches a connection [ADM1]. */
export interface Watchers {
  readonly isWatching: boolean;
  notePublished(
    topic: string,
    message: OutgoingMessage,
    to: { format: WireFormat; frame: EncodedFrame; leftOut: ReadonlySet<Recipient> },
  ): void;
}

export interface LocalRecipients {
  ofUser(userId: string): Iterable<Recipient>;
  /** Connections of a device name, whoever's it is. */
  ofDevice(deviceId: string): Iterable<Recipient>;
}

/** The native topic on which a topic's frames of one format travel. */
export function nativeTopic(topic: string, format: WireFormat): string {
  // JSON is the common case and keeps the plain name; no topic of ours starts with `p|`.
  return format === "json" ? topic : `p|${topic}`;
}

/** The native topic that stands for all of a user's own at once: a topic of one subscriber takes seven times a subscription's memory. */
export const allOwnTopic = (userId: string) => `own:${userId}`;

/** All native topics that may hold a topic's subscribers of one format. */
export function nativeTopicsOf(topic: string, format: WireFormat): string[] {
  const owner = ownerOf(topic);
  const names = owner === null ? [topic] : [topic, allOwnTopic(owner)];
  return names.map((name) => nativeTopic(name, format));
}
