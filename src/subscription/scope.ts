/** Resolves the names and filters of a `subscribe` to whole topics, and to what is followed without being named [SUB1]. */

import type { DirectoryView } from "../directory/directory.ts";
import { pages } from "../ground/pages.ts";
import type { Filters } from "../protocol/client.ts";
import {
  isTopicKind,
  kindOf,
  logTopic,
  missedTopic,
  parseTopic,
  type Topic,
  type TopicKind,
  topicKinds,
  topicOf,
} from "../protocol/topic.ts";
import { type Access, isBackend } from "./access.ts";
import type { Subscriber } from "./subscriber.ts";

/** The questions to the directory that a scope needs answers to. */
export interface ScopeLookups {
  conversationsOf(userId: string): Promise<string[]>;
  /** Of each of the conversations those whose presence is asked for; null: they are too many. */
  watchedIn(conversationIds: string[]): Promise<Map<string, string[] | null>>;
  peersOf(userId: string): Promise<string[]>;
}

/** Users whose presence a connection follows at most without naming them. */
export const peersMax = 10_000;

export interface Scope {
  topics: Topic[];
  /** Users of these topics who were found because they share a conversation: it need not be asked again. */
  sharing: Set<string>;
  /** Names of no kind that there is. */
  unknown: string[];
  /** Names that cannot be a topic of their kind. */
  invalid: string[];
  /** Kinds asked for without a filter: all of mine, now and later. */
  all: Set<"conversation" | "typing" | "presence">;
  /** Conversations whose members' presence was asked for. */
  presenceOf: string[];
  /** Conversations among them whose members are not watched, for there are too many. */
  unwatched: string[];
}

/** Conversations whose members are asked for by one question: more of the largest would hold up everybody else's. */
const conversationsAtOnce = 25;

/** The names and filters of a request. */
export interface ScopeRequest {
  topics: string[];
  filters?: Filters | undefined;
}

interface LookupOptions {
  directory: DirectoryView;
  watchMax: number;
  /** Has a question wait for the user's turn; a scope that names all whole has none. */
  ask<Answer>(question: () => Promise<Answer>): Promise<Answer>;
}

/** Looks up what a `subscribe` needs to know. */
export function lookupsToJoin(
  subscriber: Subscriber,
  { access, directory, watchMax, ask }: LookupOptions & { access: Access },
): ScopeLookups {
  const { userId } = subscriber;
  return {
    conversationsOf: (user) => ask(() => directory.conversationsOf(user)),
    async watchedIn(conversationIds) {
      // Somebody who is not in it learns nothing, not even who is.
      const mine = await ask(() => access.conversationsAmong(subscriber, conversationIds));
      const found = await ask(() => directory.membersOfEach([...mine], watchMax + 1));
      const watched = ([conversationId, members]: [string, string[]]): [string, string[] | null] => [
        conversationId,
        members.length > watchMax ? null : members.filter((member) => member !== userId),
      ];
      return new Map([...found].map(watched));
    },
    peersOf: (user) => ask(() => directory.peersOf(user, peersMax)),
  };
}

/** Looks up what an `unsubscribe` needs to know: it can leave only what it is on. */
export function lookupsToLeave(subscriber: Subscriber, { directory, watchMax, ask }: LookupOptions): ScopeLookups {
  const { userId } = subscriber;
  const mine = (kind: TopicKind) =>
    subscriber.topics().flatMap((name) => (name.startsWith(`${kind}:`) ? [name.slice(kind.length + 1)] : []));
  return {
    conversationsOf: async () => [...new Set([...mine("conversation"), ...mine("typing")])],
    async watchedIn(conversationIds) {
      const watched = new Map<string, string[]>();
      for (const [conversationId, some] of await ask(() => directory.membersOfEach(conversationIds, watchMax + 1))) {
        // It may have grown since it was asked for.
        const isLarge = some.length > watchMax;
        const asked = () => ask(() => directory.membersAmong(conversationId, [...mine("presence"), userId]));
        const members = isLarge ? [...(await asked())] : some;
        const others = members.filter((member) => member !== userId);
        if (isBackend(subscriber) || others.length < members.length) watched.set(conversationId, others);
      }
      return watched;
    },
    peersOf: async () => mine("presence"),
  };
}

/** The whole names that a name stands for beside its filters; itself where it has none: all of one's own, now and later. */
export function wholeNamesOf(
  name: string,
  { userId, filters = {} }: Pick<ScopeRequest, "filters"> & { userId: string },
): string[] {
  if (name === "conversation") {
    const ids = listOf(filters.conversation_id, filters.conversation_ids);
    return ids === null ? [name] : ids.map((id) => topicOf(name, id).name);
  }
  return name === "user" || name === "notifications" ? [topicOf(name, userId).name] : [name];
}

/** Tells what a request follows without naming it, with no look at the directory. */
export function followedBy({ topics, filters = {} }: ScopeRequest) {
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

/** Names among which one that stands twice is looked for one by one. */
const fewNames = 20;

/** Topics of a few names that are whole, or are of one's own: nobody has to be asked, and nothing is followed by them. Null: there are others. */
export function plainTopics(names: string[], userId: string): Topic[] | null {
  if (names.length > fewNames) return null;
  const topics: Topic[] = [];
  for (const name of names) {
    const topic = isTopicKind(name) ? (topicKinds[name].own ? topicOf(name, userId) : null) : parseTopic(name);
    if (topic === null) return null;
    if (!topics.some((other) => other.name === topic.name)) topics.push(topic);
  }
  return topics;
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
  const scope: Scope = {
    topics: [],
    sharing: new Set(),
    unknown: [],
    invalid: [],
    unwatched: [],
    ...followedBy(request),
  };
  const found = new Map<string, Topic>();
  const add = (kind: TopicKind, keys: string[]) => {
    for (const key of keys) found.set(`${kind}:${key}`, topicOf(kind, key));
  };
  const addSharing = (keys: string[]) => {
    add("presence", keys);
    for (const key of keys) scope.sharing.add(key);
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
      case "log":
        found.set(logTopic.name, logTopic);
        break;
      case "missed":
        found.set(missedTopic.name, missedTopic);
        break;
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
        if (scope.all.has("presence")) addSharing(await lookups.peersOf(userId));
        add("presence", users ?? []);
        for (const some of pages(conversations ?? [], conversationsAtOnce)) {
          if (subscriber.isClosed) break;
          const watched = found.size < topicsMax ? await lookups.watchedIn(some) : null;
          for (const conversationId of some) {
            const users = watched === null ? null : watched.get(conversationId);
            if (users === null || found.size >= topicsMax) scope.unwatched.push(conversationId);
            else addSharing(users ?? []);
          }
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
