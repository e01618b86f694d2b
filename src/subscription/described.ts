/** Writes what a subscriber is told of its topics: its place on each, and how that is at present [SUB1]. */
import type { ServerPayload } from "../protocol/server.ts";
import type { Topic } from "../protocol/topic.ts";
import type { TopicPlace } from "./places.ts";
import type { Rejections } from "./rejections.ts";
import type { Snapshots } from "./snapshots.ts";
import { WrittenPayload } from "./tell.ts";

/** Tells what a request has come to, by the topics that the connection is on. */
export interface Outcome {
  live: Topic[];
  placeOf: (topic: Topic) => Partial<TopicPlace>;
  snapshots: Snapshots;
  /** Whether the request has said where to go on. */
  isResumed: boolean;
  rejections: Rejections;
  cursor: string;
}

export type Rejected = ServerPayload<"subscribed">["rejected"];

/** Writes the payload of `subscribed`. */
export function describe(outcome: Outcome): { rejected: Rejected; payload: WrittenPayload } {
  const { live, placeOf, snapshots, isResumed, rejections, cursor } = outcome;
  let described = "";
  for (const topic of live) {
    if (described !== "") described += ",";
    described += describeTopic(topic.name, { place: placeOf(topic), isResumed, snapshot: snapshots.get(topic.name) });
  }
  const { rejected, rejected_count } = rejections.toPayload();
  const rest = `"rejected":${rejected_count === 0 ? "[]" : JSON.stringify(rejected)},"rejected_count":${rejected_count}`;
  const text = `{"topics":[${described}],${rest},"cursor":${JSON.stringify(cursor)}}`;
  return { rejected, payload: new WrittenPayload(text) };
}

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
