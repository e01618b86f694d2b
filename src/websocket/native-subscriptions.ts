/** Puts one socket on the native topics that stand for its topics, and takes it off: mostly one for all three of its user's own. */
import type { ServerWebSocket } from "bun";
import { allOwnTopic, nativeTopic } from "../broadcast/ports.ts";
import { watchTopic } from "../protocol/admin.ts";
import type { WireFormat } from "../protocol/limits.ts";
import { everyoneTopic, ownTopicIndex, ownTopicsOf } from "../protocol/topic.ts";

type Socket = Pick<ServerWebSocket<unknown>, "subscribe" | "unsubscribe" | "isSubscribed" | "subscriptions">;

/** Names whose the socket is, and how it is written to: each format has native topics of its own. */
interface SocketUser {
  readonly userId: string;
  readonly format: WireFormat;
  /** Has a bit for each of its user's own topics that it is on: to ask the platform is a way of its own, and each comes three times. */
  ownTopics: number;
}

/** The bits of all of them. */
const all = (1 << ownTopicsOf("").length) - 1;

export function isOnTopic(socket: Socket, topic: string, { userId, format, ownTopics }: SocketUser): boolean {
  const index = ownTopicIndex(topic, userId);
  return index === -1 ? socket.isSubscribed(nativeTopic(topic, format)) : (ownTopics & (1 << index)) !== 0;
}

export function joinTopic(socket: Socket, topic: string, user: SocketUser): void {
  const { userId, format } = user;
  const index = ownTopicIndex(topic, userId);
  const before = user.ownTopics;
  if (index !== -1) user.ownTopics |= 1 << index;
  if (index === -1 || user.ownTopics !== all) return void socket.subscribe(nativeTopic(topic, format));
  if (before === all) return;
  // Nearly every connection is on all three of its own: one native topic for them saves a kilobyte.
  socket.subscribe(nativeTopic(allOwnTopic(userId), format));
  for (const name of ownTopicsOf(userId)) if (name !== topic) socket.unsubscribe(nativeTopic(name, format));
}

export function leaveTopic(socket: Socket, topic: string, user: SocketUser): void {
  const { userId, format } = user;
  const index = ownTopicIndex(topic, userId);
  if (index !== -1 && user.ownTopics === all) {
    for (const name of ownTopicsOf(userId)) if (name !== topic) socket.subscribe(nativeTopic(name, format));
    socket.unsubscribe(nativeTopic(allOwnTopic(userId), format));
  } else socket.unsubscribe(nativeTopic(topic, format));
  if (index !== -1) user.ownTopics &= ~(1 << index);
}

const watchPrefix = watchTopic("");

/** The topics that the socket is on; what everyone is on is nobody's subscription, nor is what an operator watches. */
export function topicsOn(socket: Socket, { userId, format }: Omit<SocketUser, "ownTopics">): string[] {
  const prefix = nativeTopic("", format).length;
  const together = allOwnTopic(userId);
  const topics: string[] = [];
  for (const native of socket.subscriptions) {
    const name = native.slice(prefix);
    if (name === together) topics.push(...ownTopicsOf(userId));
    else if (name !== everyoneTopic && !name.startsWith(watchPrefix)) topics.push(name);
  }
  return topics;
}
