/** Writes what a subscriber is told of a topic: its place there, and how it is at present [SUB1]. */
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
  let text = `{"topic":${JSON.stringify(topic)}`;
  if (seq !== undefined) text += `,"seq":${seq}`;
  if (recovered !== undefined) text += `,"recovered":${recovered}`;
  if (replayed !== undefined && isResumed) text += `,"replayed":${replayed}`;
  if (snapshot !== undefined) text += `,"snapshot":${"text" in snapshot ? snapshot.text : JSON.stringify(snapshot)}`;
  return `${text}}`;
}
