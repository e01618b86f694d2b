/** Puts one socket on the native topics that stand for its topics, and takes it off: mostly one for all three of its user's own. */
import type { ServerWebSocket } from "bun";
import { allOwnTopic, nativeTopic } from "../broadcast/ports.ts";
import { watchTopic } from "../protocol/admin.ts";
import type { WireFormat } from "../protocol/limits.ts";
import { everyoneTopic, ownerOf, ownTopicsOf } from "../protocol/topic.ts";

type Socket = Pick<ServerWebSocket<unknown>, "subscribe" | "unsubscribe" | "isSubscribed" | "subscriptions">;

/** Names whose the socket is, and how it is written to: each format has native topics of its own. */
interface SocketUser {
  readonly userId: string;
  readonly format: WireFormat;
}

export function isOnTopic(socket: Socket, topic: string, { format }: Pick<SocketUser, "format">): boolean {
  const owner = ownerOf(topic);
  // Nearly every connection is on all of its own by now.
  if (owner !== null && socket.isSubscribed(nativeTopic(allOwnTopic(owner), format))) return true;
  return socket.isSubscribed(nativeTopic(topic, format));
}

export function joinTopic(socket: Socket, topic: string, { userId, format }: SocketUser): void {
  if (isOnTopic(socket, topic, { format })) return;
  const others = ownerOf(topic) === userId ? ownTopicsOf(userId).filter((name) => name !== topic) : null;
  if (others === null || !others.every((name) => socket.isSubscribed(nativeTopic(name, format))))
    return void socket.subscribe(nativeTopic(topic, format));
  // Nearly every connection is on all three of its own: one native topic for them saves a kilobyte.
  socket.subscribe(nativeTopic(allOwnTopic(userId), format));
  for (const name of others) socket.unsubscribe(nativeTopic(name, format));
}

export function leaveTopic(socket: Socket, topic: string, { userId, format }: SocketUser): void {
  const own = ownTopicsOf(userId);
  const together = nativeTopic(allOwnTopic(userId), format);
  if (own.includes(topic) && socket.isSubscribed(together)) {
    for (const name of own) socket.subscribe(nativeTopic(name, format));
    socket.unsubscribe(together);
  }
  socket.unsubscribe(nativeTopic(topic, format));
}

const watchPrefix = watchTopic("");

/** The topics that the socket is on; what everyone is on is nobody's subscription, nor is what an operator watches. */
export function topicsOn(socket: Socket, { userId, format }: SocketUser): string[] {
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
