/** Decides who may hear which topic, and who may read its log [SUB1] [LOG8] [BAK1]. */
import type { DirectoryView } from "../directory/directory.ts";
import type { VisibleAmong } from "../directory/visibility.ts";
import { isLogged, type Topic, topicKinds } from "../protocol/topic.ts";
import type { Subscriber } from "./subscriber.ts";

export interface AccessOptions {
  directory: DirectoryView;
  visibleAmong: VisibleAmong;
}

const nothing: ReadonlySet<string> = new Set();

type Bearer = Pick<Subscriber, "roles" | "grants">;

/** Whether the connection is a backend's: it hears every conversation, and joins none. */
export const isBackend = ({ roles }: Pick<Bearer, "roles">): boolean => roles.includes("service");

/** Whether the connection may hear the topic whatever the directory says: its token names it, or it is a backend's. */
export function holdsAnyway({ roles, grants }: Bearer, { kind, name }: Topic): boolean {
  switch (kind) {
    case "log":
    case "missed":
      // A token of a user's that names it does not make a backend.
      return isBackend({ roles });
    case "conversation":
    case "typing":
    case "presence":
      return isBackend({ roles }) || grants.includes(name);
    case "user":
    case "calls":
    case "notifications":
      return grants.includes(name);
  }
}

export class Access {
  constructor(private readonly options: AccessOptions) {}

  /** Whether it is known, with nobody to be asked, that the subscriber may hear all of them: its own, and conversations that it is remembered in. */
  mayHearAll(subscriber: Subscriber, topics: Topic[]): boolean {
    const { userId } = subscriber;
    const conversations: string[] = [];
    for (const topic of topics) {
      const { kind, key } = topic;
      if (holdsAnyway(subscriber, topic) || (topicKinds[kind].own && key === userId)) continue;
      if (kind !== "conversation" && kind !== "typing") return false;
      conversations.push(key);
    }
    if (conversations.length === 0) return true;
    const mine = this.options.directory.rememberedMemberships(userId, conversations);
    return mine !== null && conversations.every((conversationId) => mine.has(conversationId));
  }

  /**
   * Picks the topics that the subscriber may hear. In an open directory asking for a conversation joins it, unless it is
   * `unasked`: whoever was removed is not brought back by the server. A backend joins nothing.
   * @param sharing users who are known to share a conversation with the subscriber: it is not asked again
   */
  async allowed(
    subscriber: Subscriber,
    topics: Topic[],
    { unasked = false, sharing = new Set<string>() } = {},
  ): Promise<Topic[]> {
    const asked = topics.filter((topic) => !holdsAnyway(subscriber, topic));
    const others = asked.flatMap(({ kind, key }) => (kind === "presence" ? [key] : []));
    const conversations = asked.flatMap(({ kind, key }) => (kind === "conversation" || kind === "typing" ? [key] : []));
    const asksNobody = others.length === 0 && conversations.length === 0;
    const [visible, mine] = asksNobody
      ? [nothing, nothing]
      : await Promise.all([
          this.options.visibleAmong(subscriber, others, sharing),
          this.conversationsAmong(subscriber, [...new Set(conversations)], { unasked }),
        ]);
    const may = ({ kind, key }: Topic): boolean => {
      switch (kind) {
        case "log":
        case "missed":
          return false;
        case "user":
        case "calls":
        case "notifications":
          return key === subscriber.userId;
        case "conversation":
        case "typing":
          return mine.has(key);
        case "presence":
          return visible.has(key);
      }
    };
    return topics.filter((topic) => holdsAnyway(subscriber, topic) || may(topic));
  }

  /** Whether the subscriber may read the log of the topic: of what it may hear, and a backend of all. */
  async mayRead(subscriber: Subscriber, topic: Topic): Promise<boolean> {
    if (!isLogged(topic)) return false;
    return isBackend(subscriber) || (await this.allowed(subscriber, [topic])).length === 1;
  }

  /** Picks the conversations that the subscriber may hear; a user joins them where the directory is open. */
  async conversationsAmong(
    { userId, roles }: Pick<Subscriber, "userId" | "roles">,
    conversationIds: string[],
    { unasked = false } = {},
  ): Promise<Set<string>> {
    if (isBackend({ roles })) return new Set(conversationIds);
    const { ensureMemberships, membershipsAmong } = this.options.directory;
    return new Set((await (unasked ? membershipsAmong : ensureMemberships)(userId, conversationIds)).keys());
  }

  /** Picks the subscribers who may hear the conversation now: members, always asked afresh, and backends. */
  async listenersAmong(subscribers: Subscriber[], conversationId: string): Promise<Subscriber[]> {
    const users = subscribers.filter((it) => !isBackend(it)).map(({ userId }) => userId);
    const members = await this.options.directory.membersAmong(conversationId, [...new Set(users)]);
    return subscribers.filter((it) => isBackend(it) || members.has(it.userId));
  }

  /** Picks the users whose presence the user may not see, and who may not see the user's. */
  async strangers(userId: string, others: string[]): Promise<string[]> {
    const visible = await this.options.visibleAmong({ userId, roles: [] }, others);
    return others.filter((other) => !visible.has(other));
  }
}
