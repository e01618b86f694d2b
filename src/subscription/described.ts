/** Writes what a subscriber is told of a topic: its place there, and how it is at present [SUB1]. */
import type { Snapshot, SubscribedTopic } from "../protocol/server.ts";
import type { TopicPlace } from "./catch-up.ts";

export interface TopicDescription {
  place: Partial<TopicPlace>;
  /** Whether the request has said where to go on. */
  isResumed: boolean;
  snapshot: Snapshot | undefined;
}

export function describeTopic(topic: string, { place, isResumed, snapshot }: TopicDescription): SubscribedTopic {
  const { seq, recovered, replayed } = place;
  return {
    topic,
    ...(seq === undefined ? {} : { seq }),
    ...(recovered === undefined ? {} : { recovered }),
    ...(replayed !== undefined && isResumed ? { replayed } : {}),
    ...(snapshot === undefined ? {} : { snapshot }),
  };
}
