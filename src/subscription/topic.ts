/** Names of topics: how they are written, what kind they are, and which are logged. */
import { isIdentifier } from "../protocol/fields.ts";

export { everyoneTopic, userTopic } from "../broadcast/ports.ts";

export const topicKinds = {
  user: { logged: true, of: "user" },
  conversation: { logged: true, of: "conversation" },
  typing: { logged: false, of: "conversation" },
  presence: { logged: false, of: "user" },
  calls: { logged: false, of: "user" },
  notifications: { logged: true, of: "user" },
  /** The whole log in its order, for backends [BAK2]. It has events of all the others, and none of its own. */
  log: { logged: false, of: "log" },
} as const;

export type TopicKind = keyof typeof topicKinds;

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

export const conversationTopic = (conversationId: string) => `conversation:${conversationId}`;
export const typingTopic = (conversationId: string) => `typing:${conversationId}`;
export const presenceTopic = (userId: string) => `presence:${userId}`;
export const callsTopic = (userId: string) => `calls:${userId}`;
export const notificationsTopic = (userId: string) => `notifications:${userId}`;

/** The one topic that is of nobody and of no conversation: its name is whole without a key. */
export const logTopic: Topic = { name: "log", kind: "log", key: "" };

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
  if (name === logTopic.name) return logTopic;
  const kind = kindOf(name);
  if (kind === null || kind === name || kind === logTopic.kind) return null;
  const key = name.slice(kind.length + 1);
  return isIdentifier(key) ? { name, kind, key } : null;
}

export const isLogged = (topic: Topic) => topicKinds[topic.kind].logged;
