/** Writes what a subscriber is told of a topic: its place there, and how it is at present [SUB1]. */
import type { SubscribedTopic } from "../protocol/server.ts";
import type { TopicPlace } from "./catch-up.ts";
import type { Snapshots } from "./snapshots.ts";

export interface TopicDescription {
  place: Partial<TopicPlace>;
  /** Whether the request has said where to go on. */
  isResumed: boolean;
  snapshot: ReturnType<Snapshots["get"]>;
}

/** JSON text of it. */
export function describeTopic(topic: string, { place, isResumed, snapshot }: TopicDescription): string {
  const { seq, recovered, replayed } = place;
  const described: SubscribedTopic = {
    topic,
    ...(seq === undefined ? {} : { seq }),
    ...(recovered === undefined ? {} : { recovered }),
    ...(replayed !== undefined && isResumed ? { replayed } : {}),
  };
  const head = JSON.stringify(described);
  if (snapshot === undefined) return head;
  return `${head.slice(0, -1)},"snapshot":${"text" in snapshot ? snapshot.text : JSON.stringify(snapshot)}}`;
}
