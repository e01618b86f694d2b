/** Rules of what backends are told: an event that has found nobody is told once, and of who was there nothing is [BAK3]. */
import { positionOf } from "../cursors.ts";
import { type Absence, absencesOf, timeOf, wasThere } from "./absences.ts";
import { type Facts, repliesTo } from "./facts.ts";
import type { Exchange, LoggedMessage } from "./history.ts";
import { messagesOf } from "./messages.ts";
import type { Finding, Rule } from "./rule.ts";

interface Told {
  /** When a backend first had it. */
  order: number;
  event: LoggedMessage;
}

/** How much later than it says a reply may have been made, ms. */
const slackMs = 50;

/** Gives all that any backend has ever been told of the run, each event once: one that is new has the whole topic. */
function toldIn({ history, devices }: Facts): Told[] {
  const ours = new Set([
    ...history.conversations.map(({ conversationId }) => `conversation:${conversationId}`),
    ...history.conversations
      .flatMap(({ userIds }) => userIds)
      .concat(history.ghosts ?? [])
      .flatMap((userId) => [`user:${userId}`, `notifications:${userId}`]),
  ]);
  const told = new Map<string, Told>();
  for (const { order, event } of devices.flatMap(({ connections }) => connections.flatMap(({ events }) => events))) {
    const { topic, to_user_id } = event.payload;
    if (event.topic !== "missed" || !ours.has(topic ?? `user:${to_user_id}`)) continue;
    const before = told.get(event.id);
    if (before === undefined || order < before.order) told.set(event.id, { order, event });
  }
  return [...told.values()].toSorted((one, other) => one.event.seq - other.event.seq);
}

export const missedIn = (facts: Facts) => toldIn(facts).filter(({ event }) => event.type === "delivery.missed");
const unreachedIn = (facts: Facts) => toldIn(facts).filter(({ event }) => event.type === "call.unreached");
const nameOf = ({ topic, seq }: { topic: string; seq: number }, userId: string) => `${topic} ${seq} for ${userId}`;

const missedOnce: Rule = {
  id: "missed-once",
  says: "nobody is said twice to have missed one event, nor to be out of reach of one call [BAK3]",
  look(facts) {
    // Where the log goes back it forgets what it has told.
    const lostFrom = Math.min(...facts.history.logLosses.map(({ from }) => from));
    const firsts = new Map<string, LoggedMessage>();
    return toldIn(facts)
      .filter(({ order }) => order < lostFrom)
      .flatMap(({ event }) => {
        const { event_id, call_id, user_ids } = event.payload;
        const names: string[] =
          event.type === "call.unreached"
            ? [`call ${call_id}`]
            : user_ids.map((userId: string) => `${event_id} for ${userId}`);
        return names.flatMap((name) => {
          const first = firsts.get(name);
          firsts.set(name, event);
          return first === undefined ? [] : [{ text: `${name} was told twice`, evidence: [first, event] }];
        });
      });
  },
};

/** An event that somebody may miss. */
interface Missable {
  topic: string;
  seq: number;
  position: number;
  askedAt: number;
  /** Its audience without its author. */
  userIds: string[];
}

/** Finds events that are in the log for certain: messages that nobody has ever asked to delete, and notifications. */
function missablesIn(facts: Facts): Missable[] {
  const { history, devices, logs } = facts;
  const members = new Map(history.conversations.map((it) => [`conversation:${it.conversationId}`, it.userIds]));
  const messages = [...messagesOf(facts).byId.values()]
    .filter(({ topic, seq, messageId, deletions }) => {
      const isKept = logs.get(topic)?.get(seq)?.payload.message_id === messageId;
      return isKept && deletions.length === 0;
    })
    .map((message) => ({
      ...message,
      userIds: (members.get(message.topic) ?? []).filter((userId) => userId !== message.senderId),
    }));
  const notifications = devices.flatMap(({ connections }) =>
    connections.flatMap(({ exchanges }) =>
      repliesTo(exchanges, "publish")
        .filter(({ request, message }) => request.payload.type === "notification" && message.type === "ack")
        .flatMap(({ request, message }) =>
          message.payload.published.map(({ topic, seq, position }: any) => {
            const userIds = [topic.slice("notifications:".length)];
            return { topic, seq, position, askedAt: request.order, userIds };
          }),
        ),
    ),
  );
  return [...messages, ...notifications];
}

/** Finds each event with somebody who is to be told of it: away for certain, from before it until it was looked at. */
export function owedIn(facts: Facts): { event: Missable; userId: string }[] {
  const isWatched = watchedFrom(facts);
  const absences = absencesOf(facts);
  const lookedAt = lookedAtIn(facts, missedIn(facts));
  return missablesIn(facts)
    .filter(({ askedAt }) => askedAt > isWatched)
    .flatMap((event) => {
      const awayFrom = (it: Absence) => it.from < event.askedAt && it.to > lookedAt(event.position);
      const away = event.userIds.filter((userId) => absences.get(userId)?.some(awayFrom));
      return away.map((userId) => ({ event, userId }));
    });
}

const missedTold: Rule = {
  id: "missed-told",
  says: "at rest an event is told of everybody who had no device from before it until it was looked at [BAK3]",
  atRest: true,
  look(facts) {
    const missed = missedIn(facts);
    const told = new Set(
      missed.flatMap(({ event: { payload } }) => payload.user_ids.map((userId: string) => nameOf(payload, userId))),
    );
    const absences = absencesOf(facts);
    const events = owedIn(facts)
      .filter(({ event, userId }) => !told.has(nameOf(event, userId)))
      .map(({ event, userId }) => ({
        text: `${nameOf(event, userId)} was never told`,
        evidence: [event, absences.get(userId)],
      }));
    return [...events, ...missedCalls(facts, { absences, missed, isWatched: watchedFrom(facts) })];
  },
};

const unreachedTold: Rule = {
  id: "unreached-told",
  says: "at rest every call to somebody who had no device until it was over is told [BAK3]",
  atRest: true,
  look(facts) {
    const isWatched = watchedFrom(facts);
    const absences = absencesOf(facts);
    const reached = new Set(unreachedIn(facts).map(({ event }) => event.payload.call_id));
    const takenBack = takenBackIn(facts);
    return offersIn(facts)
      .filter(({ order, payload: { to_user_id, call_id } }) => {
        const to = takenBack.get(call_id) ?? Number.MAX_SAFE_INTEGER;
        const away = (it: Absence) => it.from < order && it.to > to;
        const isOwed = order > isWatched && absences.get(to_user_id)?.some(away) && !reached.has(call_id);
        // It is told once the caller is answered; of what is over by the time that this can be done the missed call says enough.
        return isOwed && !wasHindered(facts, { from: order, to });
      })
      .map((offer) => ({ text: `call ${offer.payload.call_id} found nobody, and nobody was told`, evidence: [offer] }));
  },
};

/** From when on a backend hears everything; infinite: there is none. */
const watchedFrom = ({ devices }: Facts) =>
  Math.min(
    ...devices
      .filter(({ baselines }) => baselines.has("missed"))
      .map(
        ({ connections }) =>
          connections.find(({ liveFrom }) => liveFrom !== null)?.liveFrom ?? Number.POSITIVE_INFINITY,
      ),
  );

/** By position: the order by which it was looked at, for what is told follows the log. Infinite: perhaps not before the end. */
function lookedAtIn({ known }: Facts, missed: Told[]): (position: number) => number {
  const passed = missed
    .flatMap(({ order, event: { payload } }) => {
      const position = known.get(payload.topic)?.get(payload.seq)?.position;
      return position === undefined ? [] : [{ order, position }];
    })
    .toSorted((one, other) => one.order - other.order);
  // At rest all of it has been looked at, or will be: one who is still away is asked about until then.
  return (position) => passed.find((it) => it.position > position)?.order ?? Number.MAX_SAFE_INTEGER;
}

const offersIn = ({ devices }: Facts) =>
  devices.flatMap(({ device, connections }) =>
    connections.flatMap(({ exchanges }) =>
      repliesTo(exchanges, "call.offer")
        .filter(({ request, message }) => message.type === "ack" && request.payload.to_user_id !== undefined)
        .map(({ request: { payload, order }, order: answeredAt }) => ({
          fromUserId: device.userId,
          payload,
          order,
          answeredAt,
        })),
    ),
  );

/** When each call that was taken back was over for its caller. */
const takenBackIn = ({ devices }: Facts): Map<string, number> =>
  new Map(
    devices.flatMap(({ connections }) =>
      connections.flatMap(({ exchanges }) =>
        repliesTo(exchanges, "call.hangup").flatMap(({ request, order, message }) =>
          message.type === "ack" ? [[request.payload.call_id as string, order] as const] : [],
        ),
      ),
    ),
  );

/** Whether something died in a span, or was away from somebody who asked. */
function wasHindered({ history, devices }: Facts, span: { from: number; to: number }): boolean {
  const wasRefused = ({ order, replies }: Exchange) =>
    order < span.to &&
    replies.some((reply) => reply.order > span.from && reply.message.payload?.code === "unavailable");
  return (
    history.memoryLosses.some(({ from, to }) => from < span.to && to > span.from) ||
    devices.some(({ connections }) => connections.some(({ exchanges }) => exchanges.some(wasRefused)))
  );
}

/** Finds calls that were taken back while nobody was there, and of which fewer were told than there were [CALL6]. */
function missedCalls(
  facts: Facts,
  { absences, missed, isWatched }: { absences: Map<string, Absence[]>; missed: Told[]; isWatched: number },
): Finding[] {
  const takenBack = takenBackIn(facts);
  const isForgotten = (order: number) => facts.history.memoryLosses.some(({ to }) => to > order);
  const calls = offersIn(facts).filter(({ payload, order }) => {
    const isAway = absences
      .get(payload.to_user_id)
      ?.some(({ from, to }) => from < order && to > Number.MAX_SAFE_INTEGER);
    return isAway && order > isWatched && takenBack.has(payload.call_id) && !isForgotten(order);
  });
  return [...Map.groupBy(calls, ({ payload }) => payload.to_user_id as string)].flatMap(([userId, own]) => {
    const told = missed.filter(({ event: { payload } }) => payload.topic === `user:${userId}`);
    if (told.length >= own.length) return [];
    return [
      { text: `${userId} has missed ${own.length} calls, ${told.length} were told`, evidence: [...own, ...told] },
    ];
  });
}

const missedTrue: Rule = {
  id: "missed-true",
  says: "nobody is said to have missed what was theirs to have and they had: there all the time, read or acknowledged [BAK3]",
  look(facts) {
    const { history, known } = facts;
    const had = hadByUser(facts);
    const offers = offersIn(facts);
    const asked = new Map(missablesAsked(facts));
    const members = new Map(history.conversations.map((it) => [`conversation:${it.conversationId}`, it.userIds]));
    const findings: Finding[] = [];
    for (const { order: untilOrder, event } of missedIn(facts)) {
      const { topic, seq, event_id, type, user_ids, sender_id } = event.payload;
      const of = known.get(topic)?.get(seq);
      const find = (text: string) => findings.push({ text: `${topic} ${seq}: ${text}`, evidence: [event, of] });
      if (of !== undefined && (of.id !== event_id || of.type !== type)) find("it is another event than was said");
      if (of?.type === "message.new" && of.payload.sender_id !== sender_id) find("it has another author than was said");
      // Whether a ghost was a member just then nobody can tell.
      const inConversation = members.get(topic)?.concat(history.ghosts ?? []);
      const audience = inConversation ?? [topic.slice(topic.indexOf(":") + 1)];
      for (const userId of user_ids) {
        if (userId === sender_id || !audience.includes(userId)) find(`it was not for ${userId}`);
        const order = asked.get(`${topic} ${seq}`);
        const span = { userId, until: timeOf(event), untilOrder };
        if (order !== undefined && wasThere(facts, { ...span, order })) find(`${userId} was there all the time`);
        if (of === undefined || history.pushAfterMs === undefined || history.pushAfterMs === null) continue;
        const before = timeOf(of) + history.pushAfterMs - slackMs;
        if (hadIt(had.get(userId) ?? [], of, before)) find(`${userId} had it in time`);
      }
    }
    for (const { order: untilOrder, event } of unreachedIn(facts)) {
      const { call_id, from_user_id, to_user_id } = event.payload;
      const offer = offers.find(({ payload }) => payload.call_id === call_id);
      if (offer === undefined) continue;
      const find = (text: string) => findings.push({ text: `call ${call_id}: ${text}`, evidence: [offer, event] });
      if (offer.fromUserId !== from_user_id || offer.payload.to_user_id !== to_user_id) find("it is between others");
      const span = { userId: to_user_id, order: offer.order, until: timeOf(event), untilOrder };
      if (wasThere(facts, span)) find("its callee was there");
    }
    return findings;
  },
};

/** When what a topic has under a `seq` was asked for. */
function* missablesAsked(facts: Facts): Generator<[string, number]> {
  for (const { topic, seq, askedAt } of messagesOf(facts).byId.values()) yield [`${topic} ${seq}`, askedAt];
  for (const { topic, seq, askedAt } of missablesIn(facts)) yield [`${topic} ${seq}`, askedAt];
}

/** Tells what a user was told to have acknowledged or read, by the server's clock, ms. */
interface Had {
  at: number;
  /** Of an acknowledgement: everything up to this position of the log. */
  position: number;
  /** Of reading: a topic up to this number. */
  topic: string | null;
  seq: number;
}

function hadByUser({ devices }: Facts): Map<string, Had[]> {
  const had = devices.flatMap(({ device: { userId }, connections }) =>
    connections.flatMap(({ exchanges }) => [
      ...repliesTo(exchanges, "ack")
        .filter(({ message }) => message.type === "ack")
        .map(({ message }) => {
          const position = positionOf(message.payload.cursor);
          return { userId, at: timeOf(message), position, topic: null, seq: 0 };
        }),
      ...repliesTo(exchanges, "mark.read")
        .filter(({ message }) => message.type === "ack")
        .map(({ request, message }) => {
          const topic = `conversation:${request.payload.conversation_id}`;
          return { userId, at: timeOf(message), position: 0, topic, seq: message.payload.up_to_seq };
        }),
    ]),
  );
  return Map.groupBy(had, ({ userId }) => userId);
}

const hadIt = (had: Had[], event: LoggedMessage, before: number) =>
  had.some(
    ({ at, position, topic, seq }) =>
      at < before && (position >= event.position || (topic === event.topic && seq >= event.seq)),
  );

export const missedRules: Rule[] = [missedOnce, missedTold, unreachedTold, missedTrue];
