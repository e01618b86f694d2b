/** Names of topics: how they are written, what kind they are, and which are logged. */

export { everyoneTopic, userTopic } from "../broadcast/ports.ts";

export const topicKinds = {
  user: { logged: true, of: "user" },
  conversation: { logged: true, of: "conversation" },
  typing: { logged: false, of: "conversation" },
  presence: { logged: false, of: "user" },
  calls: { logged: false, of: "user" },
  notifications: { logged: true, of: "user" },
} as const;

export type TopicKind = keyof typeof topicKinds;

export interface Topic {
  /** Whole name: `conversation:c1`. */
  name: string;
  kind: TopicKind;
  /** The user or conversation it is of. */
  key: string;
}

const keyPattern = /^[\x21-\x7e]{1,128}$/;

export function topicOf(kind: TopicKind, key: string): Topic {
  return { name: `${kind}:${key}`, kind, key };
}

export const conversationTopic = (conversationId: string) => `conversation:${conversationId}`;
export const typingTopic = (conversationId: string) => `typing:${conversationId}`;
export const presenceTopic = (userId: string) => `presence:${userId}`;
export const callsTopic = (userId: string) => `calls:${userId}`;
export const notificationsTopic = (userId: string) => `notifications:${userId}`;

/** Whether a name is one of the six kinds alone, such as `conversation`. */
export function isTopicKind(name: string): name is TopicKind {
  return Object.hasOwn(topicKinds, name);
}

/** A whole name taken apart; null where it is none. */
export function parseTopic(name: string): Topic | null {
  const colon = name.indexOf(":");
  if (colon < 0) return null;
  const kind = name.slice(0, colon);
  const key = name.slice(colon + 1);
  return isTopicKind(kind) && keyPattern.test(key) ? { name, kind, key } : null;
}

export const isLogged = (topic: Topic) => topicKinds[topic.kind].logged;
