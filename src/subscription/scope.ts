/** What the names and filters of a `subscribe` mean: whole topics, and what is followed without being named [SUB1]. */
import type { Filters } from "../protocol/client.ts";
import { isTopicKind, parseTopic, type Topic, type TopicKind, topicOf } from "./topic.ts";

/** The questions to the directory that a scope needs answers to. */
export interface ScopeLookups {
  conversationsOf(userId: string): Promise<string[]>;
  membersOf(conversationId: string): Promise<string[]>;
  peersOf(userId: string): Promise<string[]>;
}

/** Users whose presence a connection follows at most without naming them. */
export const peersMax = 10_000;

export interface Scope {
  topics: Topic[];
  /** Names that are no topics. */
  invalid: string[];
  /** Kinds asked for without a filter: all of mine, now and later. */
  all: Set<"conversation" | "typing" | "presence">;
  /** Conversations whose members' presence was asked for. */
  presenceOf: string[];
}

/** What a request follows without naming it; it takes no look at the directory to know. */
export function followedBy({ topics, filters = {} }: { topics: string[]; filters?: Filters | undefined }) {
  const conversations = listOf(filters.conversation_id, filters.conversation_ids);
  const users = listOf(filters.user_id, filters.user_ids);
  const all: Scope["all"] = new Set();
  for (const kind of ["conversation", "typing"] as const) {
    if (topics.includes(kind) && conversations === null) all.add(kind);
  }
  const asksPresence = topics.includes("presence");
  if (asksPresence && conversations === null && users === null) all.add("presence");
  return { all, presenceOf: asksPresence ? (conversations ?? []) : [] };
}

/** Resolves short names by their filters; whole names stand for themselves. */
export async function resolveScope(
  request: { userId: string; topics: string[]; filters: Filters | undefined },
  lookups: ScopeLookups,
): Promise<Scope> {
  const { userId, topics: names, filters = {} } = request;
  const conversations = listOf(filters.conversation_id, filters.conversation_ids);
  const users = listOf(filters.user_id, filters.user_ids);
  const scope: Scope = { topics: [], invalid: [], ...followedBy(request) };
  const found = new Map<string, Topic>();
  const add = (kind: TopicKind, keys: string[]) => {
    for (const key of keys) found.set(`${kind}:${key}`, topicOf(kind, key));
  };
  for (const name of names) {
    if (!isTopicKind(name)) {
      const topic = parseTopic(name);
      if (topic === null) scope.invalid.push(name);
      else found.set(topic.name, topic);
      continue;
    }
    switch (name) {
      case "user":
      case "calls":
      case "notifications":
        add(name, [userId]);
        break;
      case "conversation":
      case "typing":
        add(name, conversations ?? (await lookups.conversationsOf(userId)));
        break;
      case "presence":
        if (scope.all.has("presence")) add("presence", await lookups.peersOf(userId));
        add("presence", users ?? []);
        for (const conversationId of conversations ?? []) {
          const members = await lookups.membersOf(conversationId);
          // Somebody who is not in it learns nothing, not even who is.
          if (members.includes(userId))
            add(
              "presence",
              members.filter((member) => member !== userId),
            );
        }
        break;
    }
  }
  scope.topics = [...found.values()];
  return scope;
}

function listOf(one: string | undefined, many: string[] | undefined): string[] | null {
  if (one === undefined && many === undefined) return null;
  return [...new Set([...(one === undefined ? [] : [one]), ...(many ?? [])])];
}
