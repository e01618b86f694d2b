/** Handles messages of operators: who is here, on which topics, and what may be done about it, on the whole cluster [ADM1]. */
import type { SurveyResult } from "../cluster/survey.ts";
import { parseDuration } from "../config/values.ts";
import { momentText } from "../ground/moments.ts";
import { Unavailable } from "../ground/unavailable.ts";
import { blockMsMax } from "../protocol/admin.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { isLogged, parseTopic } from "../protocol/topic.ts";
import type { NodeStats } from "../telemetry/stats.ts";
import { joinStats } from "./admin-stats.ts";
import type { Reply, Request } from "./context.ts";
import { type AdminMessageType, forAdmins } from "./for-admins.ts";

/** Subscribers that `admin.topic` names. */
const subscribersShown = 100;
const usualReason = "disconnected by an administrator";

export const stats = forAdmins("admin.stats", async ({ services }) => {
  const { survey, nodeId } = services.admin;
  const { answers, missing } = await survey.ask("stats", null);
  const own = answers.find((it) => it.nodeId === nodeId)!.said;
  const all = joinStats(
    own,
    answers.map(({ said }) => said),
  );
  const part = (name: keyof NodeStats) => all[name] ?? {};
  return {
    type: "admin.stats",
    payload: {
      hub: part("hub"),
      subscriptions: part("subscriptions"),
      sequencer: part("sequencer"),
      typing: part("typing"),
      sessions: part("sessions"),
      presence: part("presence"),
      calls: part("calls"),
      log: part("log"),
      push: part("push"),
      erasure: part("erasure"),
      cluster: { nodes: answers.length + missing.length, ...part("cluster") },
      nodes: answers.map((it) => ({ node_id: it.nodeId, figures: it.said })),
      missing_nodes: missing,
    },
  };
});

export const connections = forAdmins("admin.connections", async ({ payload, services }) => {
  const { user_id: userId, device_id: deviceId, node_id: only, address, after = "", limit } = payload;
  const about = { userId, deviceId, address, after, limit };
  const surveyed = await services.admin.survey.ask("connections", about, { only });
  refuseUnknownNode(surveyed, only);
  const found = surveyed.answers
    .flatMap(({ said }) => said.connections)
    .sort((one, other) => (one.connection_id < other.connection_id ? -1 : 1));
  const page = found.slice(0, limit);
  return {
    type: "admin.connections",
    payload: {
      connections: page,
      total: surveyed.answers.reduce((sum, { said }) => sum + said.total, 0),
      // A full page may be the last; the one after it is empty then.
      next: page.length < limit ? null : page.at(-1)!.connection_id,
      missing_nodes: surveyed.missing,
    },
  };
});

export const connection = forAdmins("admin.connection", async ({ payload, services }) => {
  const surveyed = await services.admin.survey.ask("connection", { connectionId: payload.connection_id });
  const found = surveyed.answers.find(({ said }) => said !== null)?.said;
  if (!found) throw notFound(surveyed, { what: "connection", field: "payload.connection_id" });
  return {
    type: "admin.connection",
    payload: {
      connection: { ...found.connection, topics: found.topics, topic_count: found.topicCount },
      missing_nodes: surveyed.missing,
    },
  };
});

export const disconnect = forAdmins("admin.disconnect", (request) => {
  const { user_id: userId, connection_id: connectionId, device_id: deviceId, reason } = request.payload;
  return disconnectAll(request, { userId, connectionId, deviceId, reason }).then(({ payload, after }) => ({
    type: "admin.disconnect",
    payload,
    after,
  }));
});

export const topics = forAdmins("admin.topics", async ({ payload, services }) => {
  const { prefix = "", after = "", limit } = payload;
  const { answers, missing } = await services.admin.survey.ask("topics", { prefix, after, limit });
  const subscribers = new Map<string, number>();
  for (const { said } of answers) {
    for (const { topic, subscribers: count } of said) subscribers.set(topic, (subscribers.get(topic) ?? 0) + count);
  }
  const names = [...subscribers.keys()].sort().slice(0, limit);
  return {
    type: "admin.topics",
    payload: {
      topics: names.map((topic) => ({ topic, subscribers: subscribers.get(topic)! })),
      next: names.length < limit ? null : names.at(-1)!,
      missing_nodes: missing,
    },
  };
});

export const topic = forAdmins<"admin.topic", "log">("admin.topic", async ({ payload, services }) => {
  const parsed = parseTopic(payload.topic);
  if (parsed === null) {
    throw new ProtocolError("invalid_payload", "This is not the whole name of a topic.", { field: "payload.topic" });
  }
  const { name } = parsed;
  const [{ answers, missing }, heads] = await Promise.all([
    services.admin.survey.ask("topic", { topic: name, limit: subscribersShown }),
    isLogged(parsed) ? services.log.heads([name]) : null,
  ]);
  const head = heads?.get(name);
  const subscribers = answers.flatMap(({ nodeId, said }) =>
    said.connections.map(({ connectionId, userId, deviceId }) => ({
      connection_id: connectionId,
      user_id: userId,
      device_id: deviceId,
      node_id: nodeId,
    })),
  );
  return {
    type: "admin.topic",
    payload: {
      topic: name,
      subscribers: answers.reduce((sum, { said }) => sum + said.subscribers, 0),
      nodes: answers.map(({ nodeId, said }) => ({ node_id: nodeId, subscribers: said.subscribers })),
      connections: subscribers.slice(0, subscribersShown),
      head: head === undefined ? null : { seq: head.seq, position: head.position },
      missing_nodes: missing,
    },
  };
});

export const subscribe = forAdmins("admin.subscribe", async ({ payload, services }) => {
  const { user_id: userId, topics: names } = payload;
  const { answers, missing } = await services.admin.survey.ask("subscribe", { userId, topics: names });
  return {
    type: "admin.subscribe",
    payload: {
      connections: answers.flatMap(({ nodeId, said }) =>
        said.map(({ connectionId, ...rest }) => ({ connection_id: connectionId, node_id: nodeId, ...rest })),
      ),
      missing_nodes: missing,
    },
  };
});

export const unsubscribe = forAdmins("admin.unsubscribe", async ({ payload, services }) => {
  const { user_id: userId, topics: names } = payload;
  const { answers, missing } = await services.admin.survey.ask("unsubscribe", { userId, topics: names });
  return {
    type: "admin.unsubscribe",
    payload: {
      connections: answers.flatMap(({ nodeId, said }) =>
        said.map(({ connectionId, ...rest }) => ({ connection_id: connectionId, node_id: nodeId, ...rest })),
      ),
      missing_nodes: missing,
    },
  };
});

export const nodes = forAdmins("admin.nodes", async ({ services }) => {
  const { survey, nodes: registry } = services.admin;
  const [listed, { answers, missing }] = await Promise.all([registry.list(), survey.ask("hello", null)]);
  const answering = new Map(answers.map(({ nodeId, said }) => [nodeId, said]));
  return {
    type: "admin.nodes",
    payload: {
      nodes: listed.map(({ nodeId, version, startedAt, seenAt, connections: count }) => ({
        node_id: nodeId,
        version,
        started_at: momentText(startedAt),
        seen_at: momentText(seenAt),
        // Said now, which is newer than its last sign of life.
        connections: answering.get(nodeId)?.connections ?? count,
        answers: answering.has(nodeId),
        health: answering.get(nodeId)?.health ?? null,
      })),
      missing_nodes: missing,
    },
  };
});

export const block = forAdmins<"admin.block", "directoryStore" | "now">("admin.block", async (request) => {
  const { user_id: userId, for: length, reason } = request.payload;
  const { admin, directoryStore, now } = request.services;
  const blockMs = typeof length === "number" ? Math.ceil(length * 1_000) : parseDuration(length)!;
  if (blockMs > blockMsMax) {
    throw new ProtocolError("invalid_payload", `A block is for at most ${limits.blockYears} years.`, {
      field: "payload.for",
    });
  }
  const until = now() + blockMs;
  await directoryStore.block(userId, until);
  if (blockMs === 0) {
    return { type: "admin.block", payload: { user_id: userId, until: null, disconnected: 0, missing_nodes: [] } };
  }
  // Blocked first: who is disconnected comes back at once.
  const { payload, after } = await disconnectAll(request, { userId, reason });
  return {
    type: "admin.block",
    payload: { user_id: userId, until: momentText(until), ...payload },
    async after() {
      await after();
      // Nodes that were not reached just now, for Redis is away, hear of it by the log's database.
      await directoryStore.recheck(userId).catch((err) => admin.logger.warn({ err }, "a block waits on some nodes"));
    },
  };
});

/** Closes connections on every node; the one that asks is closed once it has its reply. */
async function disconnectAll(
  { from, services: { admin } }: Request<AdminMessageType, "admin">,
  {
    reason = usualReason,
    ...match
  }: {
    userId?: string | undefined;
    connectionId?: string | undefined;
    deviceId?: string | undefined;
    reason: string | undefined;
  },
): Promise<{ payload: { disconnected: number; missing_nodes: string[] }; after: NonNullable<Reply["after"]> }> {
  const { answers, missing } = await admin.survey.ask("disconnect", { match, reason, except: from.connectionId });
  const meansItself =
    (match.userId ?? from.userId) === from.userId &&
    (match.connectionId ?? from.connectionId) === from.connectionId &&
    (match.deviceId ?? from.deviceId) === from.deviceId;
  const others = answers.reduce((sum, { said }) => sum + said.disconnected, 0);
  return {
    payload: { disconnected: others + (meansItself ? 1 : 0), missing_nodes: missing },
    async after() {
      if (meansItself) await admin.survey.askHere("disconnect", { match: { connectionId: from.connectionId }, reason });
    },
  };
}

function refuseUnknownNode({ answers, missing }: SurveyResult<unknown>, only: string | undefined): void {
  if (only !== undefined && answers.length + missing.length === 0)
    throw new ProtocolError("not_found", "There is no such node.", { field: "payload.node_id" });
}

/** Not found is only what all nodes have answered. */
export function notFound(
  { missing }: Pick<SurveyResult<unknown>, "missing">,
  { what, field }: { what: string; field: string },
): Error {
  return missing.length === 0
    ? new ProtocolError("not_found", `There is no such ${what}.`, { field })
    : new Unavailable("cluster", `No node that answered has this ${what}, and some did not answer.`, {
        isPublic: true,
      });
}
