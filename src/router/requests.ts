/** Says of each request which rate it counts towards and whether it only asks: a new one does not compile before both are decided [LIM]. */
import type { ClientMessageType } from "../protocol/client.ts";

interface Treatment {
  /** The class of requests that share a rate; each class has a setting of its name under `rate_limits`. */
  limit: string;
  /** `asks`: not worked on once nobody is left to hear the answer [SUB1]. `acts`: done all the same. */
  does: "asks" | "acts";
}

const treatments = {
  ping: { limit: "ping", does: "asks" },
  authenticate: { limit: "authenticate", does: "asks" },
  subscribe: { limit: "reading", does: "asks" },
  unsubscribe: { limit: "reading", does: "asks" },
  history: { limit: "reading", does: "asks" },
  members: { limit: "reading", does: "asks" },
  "presence.query": { limit: "reading", does: "asks" },
  // They follow from other people's messages, not from one's own, which must not use up what sending needs.
  ack: { limit: "mark", does: "acts" },
  "mark.delivered": { limit: "mark", does: "acts" },
  "mark.read": { limit: "mark", does: "acts" },
  "message.send": { limit: "default", does: "acts" },
  "message.edit": { limit: "default", does: "acts" },
  "message.delete": { limit: "default", does: "acts" },
  "reaction.add": { limit: "default", does: "acts" },
  "reaction.remove": { limit: "default", does: "acts" },
  "event.send": { limit: "event", does: "acts" },
  publish: { limit: "publish", does: "acts" },
  "presence.update": { limit: "presence.update", does: "acts" },
  "typing.start": { limit: "typing", does: "acts" },
  "typing.stop": { limit: "typing", does: "acts" },
  "call.offer": { limit: "default", does: "acts" },
  "call.answer": { limit: "default", does: "acts" },
  "call.ice": { limit: "call.ice", does: "acts" },
  "call.hangup": { limit: "default", does: "acts" },
  "admin.stats": { limit: "default", does: "asks" },
  "admin.samples": { limit: "default", does: "asks" },
  "admin.connections": { limit: "default", does: "asks" },
  "admin.connection": { limit: "default", does: "asks" },
  "admin.watch": { limit: "default", does: "asks" },
  "admin.unwatch": { limit: "default", does: "acts" },
  "admin.topics": { limit: "default", does: "asks" },
  "admin.topic": { limit: "default", does: "asks" },
  "admin.nodes": { limit: "default", does: "asks" },
  "admin.disconnect": { limit: "default", does: "acts" },
  "admin.subscribe": { limit: "default", does: "acts" },
  "admin.unsubscribe": { limit: "default", does: "acts" },
  "admin.block": { limit: "default", does: "acts" },
  "admin.members": { limit: "default", does: "asks" },
  "admin.members.add": { limit: "default", does: "acts" },
  "admin.members.remove": { limit: "default", does: "acts" },
  "admin.members.update": { limit: "default", does: "acts" },
  "admin.conversations.update": { limit: "default", does: "acts" },
  "admin.users.erase": { limit: "default", does: "acts" },
  "admin.users.erasure": { limit: "default", does: "asks" },
  "admin.users.upsert": { limit: "default", does: "acts" },
  "admin.users.disable": { limit: "default", does: "acts" },
} as const satisfies Record<ClientMessageType, Treatment>;

export type RequestClass = (typeof treatments)[keyof typeof treatments]["limit"];
/** `bytes` counts how much is sent beside how often. */
export type LimitClass = RequestClass | "bytes";

export const requestClasses: readonly RequestClass[] = [
  ...new Set(Object.values(treatments).map(({ limit }) => limit)),
];

/** Finds the class of a type, also of one that there is not: sense or not, it counts. */
export function limitClassOf(type: string): RequestClass {
  return Object.hasOwn(treatments, type) ? treatments[type as ClientMessageType].limit : "default";
}

export const onlyAsks = (type: ClientMessageType): boolean => treatments[type].does === "asks";
