/** Answers for this node when an operator asks about its connections, topics and stats, or has them changed [ADM1]. */
import type { Answers } from "../cluster/survey.ts";
import { momentText } from "../ground/moments.ts";
import type { AdminQuestions, ConnectionView, NodeHealth } from "../handlers/admin-questions.ts";
import { CloseCode } from "../protocol/close.ts";
import type { SubscriptionManager } from "../subscription/manager.ts";
import type { Tell } from "../subscription/tell.ts";
import type { Samples } from "../telemetry/samples.ts";
import { type NodeStats, toAnyStats } from "../telemetry/stats.ts";
import type { Connection } from "./connection.ts";
import type { Hub } from "./hub.ts";
import type { Watches } from "./watches.ts";

export interface NodeAnswerOptions {
  nodeId: string;
  hub: Hub;
  subscriptions: SubscriptionManager;
  /** This node's subscribers of a topic. */
  subscriberCount: (topic: string) => number;
  stats: () => Promise<NodeStats>;
  samples: Pick<Samples, "since">;
  health: () => Promise<NodeHealth>;
  watches: Pick<Watches, "watch" | "end">;
  tell: Tell;
}

/** Connections that are looked at before others get their turn. */
const stepSize = 2_000;
/** Topics of one connection that an answer names. */
const topicsShown = 1_000;

export function createNodeAnswers(options: NodeAnswerOptions): Answers<AdminQuestions> {
  const { hub, samples, stats, health } = options;
  return {
    ...createConnectionAnswers(options),
    ...createTopicAnswers(options),
    ...createSubscriptionAnswers(options),
    ...createWatchAnswers(options),
    stats: async () => toAnyStats(await stats()),
    samples: async ({ after }) => samples.since(after),
    hello: async () => ({ connections: hub.size, health: await health() }),
  };
}

function createConnectionAnswers({
  hub,
  nodeId,
}: NodeAnswerOptions): Pick<Answers<AdminQuestions>, "connections" | "connection" | "disconnect"> {
  return {
    async connections({ userId, deviceId, address, after, limit }) {
      const page = new LowestPage<Connection>(limit);
      let total = 0;
      const candidates =
        userId !== undefined
          ? hub.ofUser(userId)
          : deviceId !== undefined
            ? hub.ofDevice(deviceId)
            : everyConnection(hub);
      for await (const connection of candidates) {
        if (connection.isClosed || (deviceId ?? connection.deviceId) !== connection.deviceId) continue;
        if ((address ?? connection.address) !== connection.address) continue;
        total++;
        if (connection.connectionId > after) page.add(connection.connectionId, connection);
      }
      return { connections: page.items().map((connection) => viewOf(connection, nodeId)), total };
    },
    async connection({ connectionId }) {
      const [connection] = hub.find({ connectionId });
      if (connection === undefined || connection.isClosed) return null;
      const topics = connection.topics().sort();
      const shown = topics.slice(0, topicsShown);
      return { connection: viewOf(connection, nodeId), topics: shown, topicCount: topics.length };
    },
    async disconnect({ match, reason, except }) {
      const { userId, connectionId, deviceId } = match;
      const found = hub
        .find({
          ...(userId === undefined ? {} : { userId }),
          ...(connectionId === undefined ? {} : { connectionId }),
          ...(deviceId === undefined ? {} : { deviceId }),
        })
        .filter((it) => !it.isClosed && it.connectionId !== except);
      for (const connection of found) connection.close(CloseCode.revoked, reason);
      return { disconnected: found.length };
    },
  };
}

function createTopicAnswers({
  hub,
  subscriberCount,
}: NodeAnswerOptions): Pick<Answers<AdminQuestions>, "topics" | "topic"> {
  return {
    async topics({ prefix, after, limit }) {
      const page = new LowestPage<string>(limit);
      for await (const connection of everyConnection(hub)) {
        for (const topic of connection.topics()) if (topic > after && topic.startsWith(prefix)) page.add(topic, topic);
      }
      return page.items().map((topic) => ({ topic, subscribers: subscriberCount(topic) }));
    },
    async topic({ topic, limit }) {
      const subscribers = subscriberCount(topic);
      const connections: { connectionId: string; userId: string; deviceId: string }[] = [];
      for await (const connection of subscribers === 0 ? [] : everyConnection(hub)) {
        if (!connection.isSubscribed(topic)) continue;
        const { connectionId, userId, deviceId } = connection;
        connections.push({ connectionId, userId, deviceId });
        if (connections.length >= Math.min(limit, subscribers)) break;
      }
      return { subscribers, connections };
    },
  };
}

function createWatchAnswers({
  hub,
  nodeId,
  watches,
}: NodeAnswerOptions): Pick<Answers<AdminQuestions>, "watch" | "unwatch"> {
  return {
    async watch({ watchId, connectionId, payloads, by }) {
      const find = () => hub.find({ connectionId }).find((it) => !it.isClosed);
      const watched = watches.watch({ watchId, payloads, by }, find);
      return watched && { connection: viewOf(watched.connection, nodeId), closed: watched.closed };
    },
    async unwatch({ watchId }) {
      watches.end(watchId);
      return null;
    },
  };
}

function createSubscriptionAnswers({
  hub,
  subscriptions,
  tell,
}: NodeAnswerOptions): Pick<Answers<AdminQuestions>, "subscribe" | "unsubscribe"> {
  return {
    subscribe: ({ userId, topics }) =>
      Promise.all(
        Array.from(hub.ofUser(userId), async (connection) => {
          const { topics: names, rejected, payload } = await subscriptions.subscribe(connection, { topics });
          if (names.length > 0) tell(connection, "subscribed", payload);
          return { connectionId: connection.connectionId, topics: names, rejected };
        }),
      ),
    unsubscribe: ({ userId, topics }) =>
      Promise.all(
        Array.from(hub.ofUser(userId), async (connection) => {
          const left = await subscriptions.unsubscribe(connection, { topics });
          if (left.topics.length > 0) tell(connection, "unsubscribed", left);
          return { connectionId: connection.connectionId, topics: left.topics };
        }),
      ),
  };
}

/** Goes through every connection, with a pause from time to time: there may be a hundred thousand, with as many topics each. */
async function* everyConnection(hub: Hub): AsyncIterable<Connection> {
  let seen = 0;
  for (const connection of hub.all()) {
    if (++seen % stepSize === 0) await new Promise<void>((resume) => setImmediate(resume));
    if (!connection.isClosed) yield connection;
  }
}

function viewOf(connection: Connection, nodeId: string): ConnectionView {
  return {
    connection_id: connection.connectionId,
    node_id: nodeId,
    user_id: connection.userId === "" ? null : connection.userId,
    device_id: connection.deviceId,
    address: connection.address,
    roles: [...connection.roles],
    format: connection.format,
    connected_at: momentText(connection.connectedAt),
    last_heard_at: momentText(connection.lastHeardAt),
    buffered_bytes: connection.bufferedBytes(),
  };
}

/** Finds the lowest so many keys of any number, without keeping them all. */
class LowestPage<Item> {
  #items = new Map<string, Item>();
  /** No key from here up can be on the page any more. */
  #bound: string | null = null;

  constructor(private readonly limit: number) {}

  add(key: string, item: Item): void {
    if (this.#bound !== null && key >= this.#bound) return;
    this.#items.set(key, item);
    if (this.#items.size >= 2 * this.limit + 100) this.#cut();
  }

  items(): Item[] {
    this.#cut();
    return [...this.#items.values()];
  }

  #cut(): void {
    const sorted = [...this.#items].sort(([one], [other]) => (one < other ? -1 : 1));
    if (sorted.length > this.limit) this.#bound = sorted[this.limit]![0];
    this.#items = new Map(sorted.slice(0, this.limit));
  }
}
