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
  // A console that is looked at asks again and again; others than admins are refused within the rate of everything else.
  "admin.stats": { limit: "admin", does: "asks" },
  "admin.samples": { limit: "admin", does: "asks" },
  "admin.connections": { limit: "admin", does: "asks" },
  "admin.connection": { limit: "admin", does: "asks" },
  "admin.watch": { limit: "admin", does: "asks" },
  "admin.unwatch": { limit: "admin", does: "acts" },
  "admin.topics": { limit: "admin", does: "asks" },
  "admin.topic": { limit: "admin", does: "asks" },
  "admin.nodes": { limit: "admin", does: "asks" },
  "admin.disconnect": { limit: "admin", does: "acts" },
  "admin.subscribe": { limit: "admin", does: "acts" },
  "admin.unsubscribe": { limit: "admin", does: "acts" },
  "admin.block": { limit: "admin", does: "acts" },
  "admin.user": { limit: "admin", does: "asks" },
  "admin.members": { limit: "admin", does: "asks" },
  "admin.members.add": { limit: "admin", does: "acts" },
  "admin.members.remove": { limit: "admin", does: "acts" },
  "admin.members.update": { limit: "admin", does: "acts" },
  "admin.conversations.update": { limit: "admin", does: "acts" },
  "admin.users.erase": { limit: "admin", does: "acts" },
  "admin.users.erasure": { limit: "admin", does: "asks" },
  "admin.users.upsert": { limit: "admin", does: "acts" },
  "admin.users.disable": { limit: "admin", does: "acts" },
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
