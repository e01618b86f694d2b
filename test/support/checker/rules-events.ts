/** Rules of applications' own events and of members as they come and go: what is told is so, and who listens ends with the truth [MSG4] [MEM1] [MSG5]. */
import type { Received } from "../client.ts";
import { type ConnectionFacts, type Facts, repliesTo, requestsOf } from "./facts.ts";
import type { Finding, Rule } from "./rule.ts";

const ownEvents: Rule = {
  id: "own-events",
  says: "an application's own event is one that a member has sent, comes once, and not to whom it came from [MSG4] [SUB6]",
  look(facts) {
    const { ownEvents: types = {} } = facts.history;
    const sent = sentEvents(facts);
    return facts.devices.flatMap(({ name, connections }) =>
      connections.flatMap(({ connection, exchanges }, at) => {
        // Asked for before on a line that broke, it may come from there.
        const before = new Set(connections.slice(0, at).flatMap((it) => eventKeysIn(it.exchanges)));
        const asked = eventKeysIn(exchanges).filter((key) => !before.has(key));
        const ids = new Set<string>();
        return connection.entries.flatMap((entry): Finding[] => {
          if (entry.kind !== "message" || types[entry.message.type] === undefined) return [];
          const { id, type, payload, seq } = entry.message;
          const find = (text: string) => ({ text: `${name} ${text}`, evidence: [entry.message] });
          const of = sent.get(`${payload.user_id} ${keyOf(payload)}`);
          const said = JSON.stringify([type, payload.conversation_id, payload.data]);
          const isTwice = ids.has(id);
          ids.add(id);
          // Twice in a resume is another rule's.
          if (isTwice && seq === undefined) return [find("heard it twice")];
          if (of === undefined || of.order > entry.order) return [find("heard what nobody has sent")];
          if (of.said !== said) return [find("heard it otherwise than it was sent")];
          if ((seq !== undefined) !== types[type]!.logged) return [find("heard it otherwise than it is configured")];
          return seq === undefined && asked.includes(keyOf(payload)) ? [find("heard its own")] : [];
        });
      }),
    );
  },
};

const eventKeysIn = (exchanges: ConnectionFacts["exchanges"]) =>
  exchanges.flatMap(({ type, payload }) => (type === "event.send" ? [keyOf(payload)] : []));

const keyOf = ({ client_event_id }: { client_event_id: string }) => client_event_id;

/** Each as it was sent first: what was not answered goes again. */
function sentEvents({ devices }: Facts): Map<string, { order: number; said: string }> {
  const sent = new Map<string, { order: number; said: string }>();
  for (const { device } of devices) {
    for (const { type, payload, order } of requestsOf(device)) {
      const key = `${device.userId} ${keyOf(payload)}`;
      if (type !== "event.send" || sent.has(key)) continue;
      sent.set(key, { order, said: JSON.stringify([payload.type, payload.conversation_id, payload.payload]) });
    }
  }
  return sent;
}

/** A change of a member that an admin has asked for. */
interface Asked {
  pair: string;
  kind: "added" | "removed" | "updated";
  mayWrite: boolean;
  order: number;
  /** Infinite: it may be so or not. */
  knownAt: number;
}

const adminRequests: Record<string, Asked["kind"]> = {
  "admin.members.add": "added",
  "admin.members.remove": "removed",
  "admin.members.update": "updated",
};

function askedIn({ history, devices }: Facts): Asked[] {
  const sureFrom = backFrom(history);
  return devices.flatMap(({ connections }) =>
    connections.flatMap(({ exchanges }) =>
      exchanges.flatMap(({ type, payload, order, replies }) => {
        const kind = adminRequests[type];
        // One who is no member cannot be kept from anything.
        if (kind === undefined || replies[0]?.message.payload.code === "not_found") return [];
        const answer = replies.find(({ message }) => message.type === "ack");
        const users: string[] = kind === "updated" ? [payload.user_id] : payload.user_ids;
        return users.map((userId) => ({
          ...{ pair: `${payload.conversation_id} ${userId}`, kind, mayWrite: payload.may_write ?? true },
          // With the log goes back who is in a conversation.
          ...{ order, knownAt: (order > sureFrom ? answer?.order : undefined) ?? Number.POSITIVE_INFINITY },
        }));
      }),
    ),
  );
}

/** When all was whole again after the last time that the log went back. */
function backFrom({ logLosses, memoryLosses }: Facts["history"]): number {
  const lastLoss = Math.max(0, ...logLosses.map(({ from }) => from));
  return lastLoss === 0 ? 0 : (memoryLosses.find(({ from }) => from > lastLoss)?.to ?? Number.POSITIVE_INFINITY);
}

type Standing = "member" | "muted" | "gone";

/** How the user may stand after all that was asked for: that of the last answer, and of whatever was asked for and not answered. */
function mayStand(asked: Asked[]): Set<Standing> {
  let may = new Set<Standing>(["gone"]);
  for (const { kind, mayWrite, knownAt } of asked.toSorted((one, other) => one.order - other.order)) {
    const after = new Set([...may].map((standing) => standingAfter(standing, { kind, mayWrite })));
    may = Number.isFinite(knownAt) ? after : new Set([...may, ...after]);
  }
  return may;
}

function standingAfter(before: Standing, { kind, mayWrite }: Pick<Asked, "kind" | "mayWrite">): Standing {
  if (kind === "removed") return "gone";
  if (kind === "updated") return before === "gone" ? "gone" : mayWrite ? "member" : "muted";
  return before === "gone" ? "member" : before;
}

const membersTold: Rule = {
  id: "members-told",
  says: "whoever is said to come, go or be kept from writing does, and who was there all the time ends with the truth [MEM1] [MSG5]",
  atRest: true,
  look(facts) {
    const { ghosts = [], memoryLosses } = facts.history;
    const asked = Map.groupBy(askedIn(facts), ({ pair }) => pair);
    return facts.devices.flatMap(({ name, connections, present }) =>
      connections.flatMap((connection) => {
        const heard = Map.groupBy(memberNews(connection, ghosts), ({ pair }) => pair);
        const findings: Finding[] = [...heard].flatMap(([pair, news]) =>
          news
            .filter(({ kind, order }) => !asked.get(pair)?.some((it) => it.kind === kind && it.order < order))
            .map((it) => ({ text: `${name} was told of ${pair} what nobody has done`, evidence: [it] })),
        );
        const wasCalm = !memoryLosses.some(({ to }) => to > connection.connection.openedAt);
        if (connection !== present || !wasCalm || mayHaveMissed(connection)) return findings;
        for (const [pair, changes] of asked) {
          const last = changes.findLast(({ order }) => order > (connection.liveFrom ?? Number.POSITIVE_INFINITY));
          const [conversationId] = pair.split(" ");
          if (last === undefined || !isOn(connection, conversationId!)) continue;
          const news = heard.get(pair)?.at(-1);
          const may = mayStand(changes);
          const before = mayStand(changes.filter(({ order }) => order < connection.liveFrom!));
          if (news === undefined ? !before.intersection(may).size : !may.has(news.standing))
            findings.push({
              text: `${name} ended with ${pair} otherwise than it is`,
              evidence: [news, [...may], last],
            });
        }
        return findings;
      }),
    );
  },
};

interface MemberNews {
  pair: string;
  kind: Asked["kind"];
  standing: Standing;
  order: number;
  message: Received;
}

/** Only of those who come and go by an admin's hand: others join by themselves. */
function memberNews({ connection }: ConnectionFacts, ghosts: string[]): MemberNews[] {
  return connection.entries.flatMap((entry): MemberNews[] => {
    if (entry.kind !== "message" || !entry.message.type.startsWith("member.")) return [];
    const { type, payload } = entry.message;
    if (!ghosts.includes(payload.user_id)) return [];
    const kind = type.slice("member.".length) as Asked["kind"];
    const standing = kind === "removed" ? "gone" : payload.may_write === false ? "muted" : "member";
    const pair = `${payload.conversation_id} ${payload.user_id}`;
    return [{ pair, kind, standing, order: entry.order, message: entry.message }];
  });
}

/** Told that more has changed than is told one by one. */
const mayHaveMissed = ({ connection }: ConnectionFacts) =>
  connection.entries.some((entry) => entry.kind === "message" && entry.message.type === "members.changed");

const isOn = ({ connection }: ConnectionFacts, conversationId: string) =>
  connection.entries.some(
    (entry) =>
      entry.kind === "message" &&
      entry.message.type === "subscribed" &&
      entry.message.payload.topics.some(({ topic }: { topic: string }) => topic === `conversation:${conversationId}`),
  );

const membersTrue: Rule = {
  id: "members-true",
  says: "at rest the members of a conversation are those who are, and those who may not write are named [MEM1] [MSG5]",
  atRest: true,
  look(facts) {
    const { history } = facts;
    const asked = Map.groupBy(askedIn(facts), ({ pair }) => pair);
    return facts.devices.flatMap(({ name, connections }) =>
      connections
        .flatMap(({ exchanges }) => repliesTo(exchanges, "members"))
        .filter(({ request, message }) => request.order > history.rest!.order && message.type === "members")
        .flatMap(({ request, message: { payload } }): Finding[] => {
          const { conversation_id } = request.payload;
          const { user_ids, may_not_write, next } = payload;
          const members = history.conversations.find((it) => it.conversationId === conversation_id)?.userIds ?? [];
          const wrong = [
            ...members.filter((userId) => !user_ids.includes(userId)),
            ...user_ids.filter((userId: string) => !members.includes(userId) && !history.ghosts?.includes(userId)),
            ...(history.ghosts ?? []).filter((userId) => {
              const isMuted = may_not_write.includes(userId);
              const standing = !user_ids.includes(userId) ? "gone" : isMuted ? "muted" : "member";
              return !mayStand(asked.get(`${conversation_id} ${userId}`) ?? []).has(standing);
            }),
          ];
          if (wrong.length === 0 && next === null) return [];
          return [
            { text: `${name} was told wrongly of ${wrong.join(", ")} in ${conversation_id}`, evidence: [payload] },
          ];
        }),
    );
  },
};

export const eventRules: Rule[] = [ownEvents, membersTold, membersTrue];
