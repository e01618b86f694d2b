/** Resolves what a connection wants to hear, replays what it missed, and shows how everything is [SUB1] [LOG4] [REC3]. */
import type { ClientPayloads, ServerPayloads } from "../wire.ts";
import type { FakeCalls } from "./calls.ts";
import type { FakeChat } from "./chat.ts";
import type { FakeConnection } from "./connections.ts";
import type { FakeLog, LoggedEvent } from "./log.ts";
import type { FakePresence } from "./presence.ts";

type Subscribed = ServerPayloads["subscribed"];
type SubscribedTopic = Subscribed["topics"][number];
type Since = ClientPayloads["subscribe"]["since"];
type Filters = NonNullable<ClientPayloads["subscribe"]["filters"]>;

const ownKinds = ["user", "calls", "notifications"];
const isLogged = (topic: string) => /^(?:conversation|user|notifications):/.test(topic);

export interface World {
  log: FakeLog;
  chat: FakeChat;
  presence: FakePresence;
  calls: FakeCalls;
}

export class FakeSubscriptions {
  /** By user and device [LOG6]. */
  readonly #acked = new Map<string, string>();

  constructor(private readonly world: World) {}

  acknowledge({ userId, deviceId }: FakeConnection, cursor: string): void {
    this.#acked.set(`${userId} ${deviceId}`, cursor);
  }

  acked({ userId, deviceId }: FakeConnection): string | null {
    return this.#acked.get(`${userId} ${deviceId}`) ?? null;
  }

  /** Whole names of what is asked for, each once. */
  topicsOf(connection: FakeConnection, names: readonly string[], filters: Filters = {}): string[] {
    return [
      ...new Set(names.flatMap((name) => (name.includes(":") ? [name] : this.#whole(connection, name, filters)))),
    ];
  }

  /** Remembers short names without a filter, which follow the user [SUB3]. */
  follow(connection: FakeConnection, names: readonly string[], filters: Filters = {}): void {
    const { conversations, users } = idsOf(filters);
    for (const name of names) {
      const isFiltered = conversations !== undefined || (name === "presence" && users !== undefined);
      if (!name.includes(":") && !isFiltered) connection.followed.add(name);
    }
  }

  /** Topics that the connection may not hear. */
  refusedOf(connection: FakeConnection, topics: readonly string[]): string[] {
    return topics.filter((topic) => !this.#mayHear(connection, topic));
  }

  /** Sends what was missed, and says how everything is. */
  subscribe(connection: FakeConnection, topics: readonly string[], since?: Since): Subscribed {
    const refused = this.refusedOf(connection, topics);
    const heard = topics.filter((topic) => !refused.includes(topic));
    const recovered = since === undefined ? new Map<string, SubscribedTopic>() : this.#replay(connection, heard, since);
    for (const topic of heard) connection.topics.add(topic);
    const rejected = refused.map((topic) => ({ topic, code: "forbidden" as const }));
    return {
      topics: heard.map((topic) => ({ ...this.#shown(connection, topic), ...recovered.get(topic) })),
      ...{ rejected: rejected.slice(0, 100), rejected_count: rejected.length },
      cursor: this.world.log.cursor,
    };
  }

  /** Own topics, which are subscribed by themselves once it is known whose connection it is [SUB2]. */
  subscribeOwn(connection: FakeConnection, since?: Since): void {
    const topics = ownKinds.map((kind) => `${kind}:${connection.userId}`);
    connection.send("subscribed", this.subscribe(connection, topics, since));
  }

  /** Subscribes those that follow all of their conversations to one that they have joined [SUB3]. */
  joined(connection: FakeConnection, conversationId: string): void {
    const topics = ["conversation", "typing"]
      .filter((name) => connection.followed.has(name))
      .map((name) => `${name}:${conversationId}`);
    if (topics.length > 0) connection.send("subscribed", this.subscribe(connection, topics));
  }

  /** Tells a connection that all that it has heard is of another log [LOG4]. */
  tellLoss(connection: FakeConnection): void {
    const topics = [...connection.topics]
      .filter(isLogged)
      .map((topic) => ({ ...this.#shown(connection, topic), recovered: false }));
    if (topics.length > 0)
      connection.send("subscribed", { topics, rejected: [], rejected_count: 0, cursor: this.world.log.cursor });
  }

  #whole(connection: FakeConnection, name: string, filters: Filters): string[] {
    const { conversations, users } = idsOf(filters);
    const userId = connection.userId!;
    const { chat } = this.world;
    switch (name) {
      case "conversation":
      case "typing":
        return (conversations ?? chat.conversationsOf(userId)).map((id) => `${name}:${id}`);
      case "presence": {
        const shared = (conversations ?? (users === undefined ? chat.conversationsOf(userId) : []))
          .filter((id) => chat.conversationsOf(userId).includes(id))
          .flatMap((id) => [...chat.conversation(id).members.keys()])
          .filter((id) => id !== userId);
        return [...(users ?? []), ...shared].map((id) => `presence:${id}`);
      }
      default:
        return [`${name}:${userId}`];
    }
  }

  #mayHear({ userId }: FakeConnection, topic: string): boolean {
    const [kind, id] = partsOf(topic);
    if (kind === "conversation" || kind === "typing") return this.world.chat.mayHear(id, userId!);
    if (kind === "presence") return this.world.presence.maySee(userId!, id);
    return ownKinds.includes(kind) && id === userId;
  }

  #shown(connection: FakeConnection, topic: string): SubscribedTopic {
    const [kind, id] = partsOf(topic);
    const { log, chat, presence, calls } = this.world;
    const userId = connection.userId!;
    if (kind === "conversation") return { topic, seq: log.head(topic), snapshot: this.#conversation(id, userId) };
    if (kind === "typing") return { topic, snapshot: { typing: chat.typingIn(id, userId) } };
    if (kind === "presence") return { topic, snapshot: { presence: presence.of(id, userId) } };
    if (kind === "calls") return { topic, snapshot: { calls: calls.of(connection) } };
    return { topic, seq: log.head(topic) };
  }

  #conversation(id: string, userId: string): SubscribedTopic["snapshot"] {
    const { log, chat } = this.world;
    const { members, mayNotWrite } = chat.conversation(id);
    const { readSeq, deliveredSeq } = members.get(userId)!;
    const receipts = [...members].flatMap(([other, { shown }]) =>
      other === userId || shown === null
        ? []
        : [{ user_id: other, read_seq: shown.readSeq, delivered_seq: shown.deliveredSeq }],
    );
    return {
      ...{ as_of_seq: log.head(`conversation:${id}`), read_seq: readSeq, delivered_seq: deliveredSeq },
      unread: log.unreadOf(id, userId, readSeq),
      last_message: (log.messagesOf(id).at(-1) as never) ?? null,
      receipts,
      ...(mayNotWrite.has(userId) ? { may_write: false } : {}),
    };
  }

  #replay(connection: FakeConnection, topics: string[], since: NonNullable<Since>): Map<string, SubscribedTopic> {
    const { log } = this.world;
    const place = since === "acked" ? { cursor: this.acked(connection) ?? "", seen: {} } : since;
    const position = since === "acked" && place.cursor === "" ? 0 : log.positionOf(place.cursor);
    const missed: LoggedEvent[] = [];
    const said = new Map<string, SubscribedTopic>();
    for (const topic of topics.filter(isLogged)) {
      // Not looked at [SUB4].
      if (connection.topics.has(topic)) {
        said.set(topic, { topic, replayed: 0 });
        continue;
      }
      const seen = place.seen?.[topic] ?? 0;
      const isThere = position !== null && seen <= log.head(topic);
      const events = isThere ? log.eventsOf(topic).filter((it) => it.position > position && it.seq > seen) : [];
      missed.push(...events);
      said.set(topic, { topic, recovered: isThere, replayed: events.length });
    }
    for (const event of missed.sort((one, other) => one.position - other.position)) connection.sendEvent(event);
    return said;
  }
}

function partsOf(topic: string): [kind: string, id: string] {
  const at = topic.indexOf(":");
  return [topic.slice(0, at), topic.slice(at + 1)];
}

const idsOf = ({ conversation_id, conversation_ids, user_id, user_ids }: Filters) => ({
  conversations: conversation_ids ?? (conversation_id === undefined ? undefined : [conversation_id]),
  users: user_ids ?? (user_id === undefined ? undefined : [user_id]),
});
