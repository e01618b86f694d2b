/** What the names and filters of a `subscribe` mean: whole topics, and what is followed without being named [SUB1]. */
import type { DirectoryView } from "../directory/directory.ts";
import type { Filters } from "../protocol/client.ts";
import type { Subscriber } from "./subscriber.ts";
import { isTopicKind, kindOf, parseTopic, type Topic, type TopicKind, topicOf } from "./topic.ts";

/** The questions to the directory that a scope needs answers to. */
export interface ScopeLookups {
  conversationsOf(userId: string): Promise<string[]>;
  /** Those of the conversation whose presence is asked for; null: they are too many. */
  watchedIn(conversationId: string): Promise<string[] | null>;
  peersOf(userId: string): Promise<string[]>;
}

/** Users whose presence a connection follows at most without naming them. */
export const peersMax = 10_000;

export interface Scope {
  topics: Topic[];
  /** Names of no kind that there is. */
  unknown: string[];
  /** Names that cannot be a topic of their kind. */
  invalid: string[];
  /** Kinds asked for without a filter: all of mine, now and later. */
  all: Set<"conversation" | "typing" | "presence">;
  /** Conversations whose members' presence was asked for. */
  presenceOf: string[];
  /** Those of them whose members are not watched, for there are too many. */
  unwatched: string[];
}

/** What is found out for one that comes. */
export function lookupsToJoin(
  { userId }: Subscriber,
  { directory, watchMax }: { directory: DirectoryView; watchMax: number },
): ScopeLookups {
  return {
    conversationsOf: (user) => directory.conversationsOf(user),
    async watchedIn(conversationId) {
      // Somebody who is not in it learns nothing, not even who is.
      if (!(await directory.ensureMember(conversationId, userId))) return [];
      const members = await directory.membersOf(conversationId, watchMax + 1);
      return members.length > watchMax ? null : members.filter((member) => member !== userId);
    },
    peersOf: (user) => directory.peersOf(user, peersMax),
  };
}

/** What is found out for one that leaves: it can leave only what it is on. */
export function lookupsToLeave(subscriber: Subscriber, directory: DirectoryView): ScopeLookups {
  const mine = (kind: TopicKind) =>
    subscriber.topics().flatMap((name) => (name.startsWith(`${kind}:`) ? [name.slice(kind.length + 1)] : []));
  return {
    conversationsOf: async () => [...new Set([...mine("conversation"), ...mine("typing")])],
    async watchedIn(conversationId) {
      const { userId } = subscriber;
      const members = await directory.membersAmong(conversationId, [...mine("presence"), userId]);
      return members.has(userId) ? [...members].filter((member) => member !== userId) : [];
    },
    peersOf: async () => mine("presence"),
  };
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

/**
 * Resolves short names by their filters; whole names stand for themselves. Once the subscriber has gone, or has as many topics
 * as it may have, nothing more is asked of the directory.
 */
export async function resolveScope(
  subscriber: Pick<Subscriber, "userId" | "isClosed">,
  request: { topics: string[]; filters: Filters | undefined; topicsMax: number },
  lookups: ScopeLookups,
): Promise<Scope> {
  const { userId } = subscriber;
  const { topics: names, filters = {}, topicsMax } = request;
  const conversations = listOf(filters.conversation_id, filters.conversation_ids);
  const users = listOf(filters.user_id, filters.user_ids);
  const scope: Scope = { topics: [], unknown: [], invalid: [], unwatched: [], ...followedBy(request) };
  const found = new Map<string, Topic>();
  const add = (kind: TopicKind, keys: string[]) => {
    for (const key of keys) found.set(`${kind}:${key}`, topicOf(kind, key));
  };
  for (const name of new Set(names)) {
    if (subscriber.isClosed) break;
    if (!isTopicKind(name)) {
      const topic = parseTopic(name);
      if (topic !== null) found.set(topic.name, topic);
      else (kindOf(name) === null ? scope.unknown : scope.invalid).push(name);
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
          if (subscriber.isClosed) break;
          const users = found.size < topicsMax ? await lookups.watchedIn(conversationId) : null;
          if (users === null) scope.unwatched.push(conversationId);
          else add("presence", users);
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
