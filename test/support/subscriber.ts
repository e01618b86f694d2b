/** A subscriber without a socket: what it is on is a set, and what is written to it goes where the test says. */
import type { Subscriber } from "../../src/subscription/subscriber.ts";

export function createSubscriber(
  userId: string,
  {
    roles = [],
    grants = [],
    sendAll = () => {},
    drained = async () => {},
  }: Partial<Pick<Subscriber, "roles" | "grants" | "sendAll" | "drained">> = {},
): Subscriber {
  const topics = new Set<string>();
  return {
    connectionId: "connection",
    userId,
    deviceId: "phone",
    format: "json",
    roles,
    grants,
    follows: null,
    isClosed: false,
    sendMessage() {},
    sendFrames() {},
    stepOut: (name) => topics.delete(name),
    stepBack: (name) => void topics.add(name),
    isSubscribed: (name) => topics.has(name),
    subscribe: (name) => void topics.add(name),
    unsubscribe: (name) => void topics.delete(name),
    topics: () => [...topics],
    sendAll,
    drained,
  };
}
