/** Says how topics are named: their kinds, which of them are logged, and which a connection is on by itself. */
import { isIdentifier } from "./fields.ts";

export const topicKinds = {
  user: { logged: true, of: "user", own: true },
  conversation: { logged: true, of: "conversation", own: false },
  typing: { logged: false, of: "conversation", own: false },
  presence: { logged: false, of: "user", own: false },
  calls: { logged: false, of: "user", own: true },
  notifications: { logged: true, of: "user", own: true },
  /** The whole log in its order, for backends [BAK2]. It has events of all the others, and none of its own. */
  log: { logged: false, of: "log", own: false },
  /** Events that have found no device of somebody's, for backends that push [BAK3]. */
  missed: { logged: true, of: "missed", own: false },
} as const;

export type TopicKind = keyof typeof topicKinds;

const ownKinds = (Object.keys(topicKinds) as TopicKind[]).filter((kind) => topicKinds[kind].own);
const ownPrefixes = ownKinds.map((kind) => `${kind}:`);

export interface Topic {
  /** Whole name: `conversation:c1`. */
  name: string;
  kind: TopicKind;
  /** The user or conversation it is of. */
  key: string;
}

export function topicOf(kind: TopicKind, key: string): Topic {
  return { name: `${kind}:${key}`, kind, key };
}

const named = (kind: TopicKind) => (key: string) => `${kind}:${key}`;
export const userTopic = named("user");
export const conversationTopic = named("conversation");
export const typingTopic = named("typing");
export const presenceTopic = named("presence");
export const callsTopic = named("calls");
export const notificationsTopic = named("notifications");

/** Every authenticated connection is on it; it cannot be subscribed to. */
export const everyoneTopic = "everyone";

/** The topics that a connection is on by itself. */
export const ownTopicsOf = (userId: string) => ownKinds.map((kind) => `${kind}:${userId}`);

/** Finds its place in `ownTopicsOf(userId)`; -1: it is none of them. */
export function ownTopicIndex(topic: string, userId: string): number {
  for (let index = 0; index < ownPrefixes.length; index++) {
    const prefix = ownPrefixes[index]!;
    if (topic.length === prefix.length + userId.length && topic.startsWith(prefix) && topic.endsWith(userId))
      return index;
  }
  return -1;
}

/** Reads whose own topic it is; null: others may be on it. */
export function ownerOf(topic: string): string | null {
  // Asked of each topic so often that taking its name apart for it is felt, and a function for each.
  for (const prefix of ownPrefixes) if (topic.startsWith(prefix)) return topic.slice(prefix.length);
  return null;
}

/** The two topics that are of nobody and of no conversation: their names are whole without a key. */
export const logTopic: Topic = { name: "log", kind: "log", key: "" };
export const missedTopic: Topic = { name: "missed", kind: "missed", key: "" };
const keyless: ReadonlyMap<string, Topic> = new Map([logTopic, missedTopic].map((topic) => [topic.name, topic]));

/** Whether a name is one of the kinds alone, such as `conversation`. */
export function isTopicKind(name: string): name is TopicKind {
  return Object.hasOwn(topicKinds, name);
}

/** The kind that a name is of, whole or not; null where there is no such kind. */
export function kindOf(name: string): TopicKind | null {
  const colon = name.indexOf(":");
  const kind = colon < 0 ? name : name.slice(0, colon);
  return isTopicKind(kind) ? kind : null;
}

/** A whole name taken apart; null where it is none. */
export function parseTopic(name: string): Topic | null {
  const whole = keyless.get(name);
  if (whole !== undefined) return whole;
  const kind = kindOf(name);
  if (kind === null || kind === name || keyless.has(kind)) return null;
  const key = name.slice(kind.length + 1);
  return isIdentifier(key) ? { name, kind, key } : null;
}

export const isLogged = (topic: Topic) => topicKinds[topic.kind].logged;
