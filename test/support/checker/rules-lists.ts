/** Rules of what a list of conversations is drawn from, and of pages of the log: each is as the log was in some moment between the asking and the answer [REC3] [LOG8]. */
import { type Facts, repliesTo, requestsOf } from "./facts.ts";
import type { LoggedMessage } from "./history.ts";
import { type Change, type MessageFacts, messagesOf } from "./messages.ts";
import type { Finding, Rule } from "./rule.ts";
import { kindOf } from "./rules-places.ts";

/** Between the asking and the answer. */
interface Span {
  from: number;
  to: number;
}

function messagesByTopic(facts: Facts): Map<string, MessageFacts[]> {
  return Map.groupBy(messagesOf(facts).byId.values(), ({ topic }) => topic);
}

/**
 * Counts the numbers of a topic, above the one and up to the other, that may each be a message from before a loss: what was seen of it before
 * counts no more, but it may have stayed, and nobody has read the log since. Everywhere else all is known that there is.
 */
function countUnheard(
  { history, known, logs }: Facts,
  { topic, messages, above, through }: { topic: string; messages: MessageFacts[]; above: number; through: number },
): number {
  if (history.logLosses.length === 0 || logs.has(topic)) return 0;
  const heard = new Set([...(known.get(topic)?.keys() ?? []), ...messages.map(({ seq }) => seq)]);
  return Math.max(0, through - above) - [...heard].filter((seq) => seq > above && seq <= through).length;
}

const isCertain = ({ knownAt, deletions }: MessageFacts, { from, to }: Span) =>
  knownAt < from && !deletions.some(({ askedAt }) => askedAt < to);
const isPossible = ({ askedAt, deletions }: MessageFacts, { from, to }: Span) =>
  askedAt < to && !deletions.some(({ knownAt }) => knownAt < from);

const listTrue: Rule = {
  id: "list-true",
  says: "a snapshot has the newest message, counts as unread what is, and says of others how far they are [REC3]",
  atRest: true,
  look(facts) {
    const messages = messagesByTopic(facts);
    const marks = marksIn(facts);
    return facts.devices.flatMap(({ device: { userId }, name, connections }) =>
      connections
        .flatMap(({ exchanges }) => repliesTo(exchanges, "subscribe"))
        .filter(({ message }) => message.type === "subscribed")
        .flatMap(({ request, order, message }) =>
          message.payload.topics.flatMap(({ topic, snapshot }: any) => {
            if (snapshot === undefined || !topic.startsWith("conversation:")) return [];
            const span = { from: request.order, to: order };
            const flaws = [
              ...flawsOfPlace(facts, { messages: messages.get(topic) ?? [], topic, userId, snapshot, span }),
              ...flawsOfReceipts(facts, { marks, topic, userId, snapshot, span }),
            ];
            return flaws.map((text) => ({ text: `${name}, ${topic}: ${text}`, evidence: [snapshot, span] }));
          }),
        ),
    );
  },
};

/** `unread` and `last_message` are of one moment, which `as_of_seq` names: what is above is in neither, what is not above in both. */
function flawsOfPlace(
  facts: Facts,
  asked: { messages: MessageFacts[]; topic: string; userId: string; snapshot: any; span: Span },
): string[] {
  const { messages, topic, userId, snapshot, span } = asked;
  const { last_message, unread, read_seq, as_of_seq = null } = snapshot;
  // Left out where it is large: then there is nothing to compare with.
  if (last_message === undefined) return [];
  const through = last_message?.seq ?? 0;
  const newer = messages.find(({ knownAt, seq }) => knownAt < span.from && seq > through);
  if (newer !== undefined) return [`${newer.messageId} is newer than its last message`];
  if (as_of_seq !== null && through > as_of_seq) return [`its last message is above ${as_of_seq}, which it is as of`];
  const between = messages.find(({ seq }) => as_of_seq !== null && seq > through && seq <= as_of_seq);
  if (between !== undefined) return [`${between.messageId} is newer than its last message, as of ${as_of_seq}`];
  const others = messages.filter(({ seq, senderId }) => senderId !== userId && seq > read_seq && seq <= through);
  /** Whether it was deleted by then; where no number says so, by what is possible. */
  const isGone = ({ deletions }: MessageFacts, possibly: (deletion: Change) => boolean) =>
    deletions.some((it) => (as_of_seq === null || it.seq === null ? possibly(it) : it.seq <= as_of_seq));
  const least = others.filter((it) => !isGone(it, ({ askedAt }) => askedAt < span.to)).length;
  const most =
    others.filter((it) => !isGone(it, ({ knownAt }) => knownAt < span.from)).length +
    countUnheard(facts, { topic, messages, above: read_seq, through });
  return unread < least || unread > most ? [`${unread} unread, not ${least} to ${most}`] : [];
}

interface Mark {
  userId: string;
  topic: string;
  kind: "delivered" | "read" | "private";
  /** As far as it can have gone; infinite: nobody knows. */
  target: number;
  askedAt: number;
  /** How far it was told to be, and when; null: it was not answered, or moved nothing. */
  upToSeq: number;
  knownAt: number;
}

/** By user and topic. */
type Marks = Map<string, Mark[]>;

function marksIn(facts: Facts): Marks {
  const { byId } = messagesOf(facts);
  const asked = facts.devices.flatMap(({ device, connections }) => {
    const exchanges = connections.flatMap((connection) => connection.exchanges);
    const replies = new Map(exchanges.map((exchange) => [exchange.order, exchange.replies[0]]));
    return requestsOf(device).flatMap(({ type, payload, order }): Mark[] => {
      if (!type.startsWith("mark.")) return [];
      const { conversation_id, up_to_seq, message_ids = [] } = payload;
      const seqs: number[] = message_ids.map((id: string) => byId.get(id)?.seq ?? Number.POSITIVE_INFINITY);
      const reply = replies.get(order);
      const upToSeq = reply?.message.type === "ack" ? reply.message.payload.up_to_seq : 0;
      return [
        {
          ...{ userId: device.userId, topic: `conversation:${conversation_id}`, kind: kindOf({ type, payload }) },
          ...{ target: up_to_seq ?? Math.max(0, ...seqs), askedAt: order },
          ...{ upToSeq, knownAt: reply?.order ?? Number.POSITIVE_INFINITY },
        },
      ];
    });
  });
  const told = [...facts.known].flatMap(([topic, events]) =>
    [...events.values()].flatMap((event) => (isReceipt(event) ? [markIn(topic, event)] : [])),
  );
  return Map.groupBy([...asked, ...told], ({ userId, topic }) => `${userId} ${topic}`);
}

const isReceipt = ({ type, topic }: LoggedMessage) =>
  (type === "message.read" || type === "message.delivered") && topic.startsWith("conversation:");

/** Takes a receipt for a mark whose answer was lost. */
const markIn = (topic: string, { type, payload }: LoggedMessage): Mark => ({
  ...{ userId: payload.user_id, topic, kind: type === "message.read" ? "read" : "delivered" },
  ...{ target: payload.up_to_seq, askedAt: 0, upToSeq: payload.up_to_seq, knownAt: Number.POSITIVE_INFINITY },
});

function flawsOfReceipts(
  { history }: Facts,
  { marks, topic, userId, snapshot, span }: { marks: Marks; topic: string; userId: string; snapshot: any; span: Span },
): string[] {
  const receipts: { user_id: string; read_seq: number; delivered_seq: number }[] | undefined = snapshot.receipts;
  const members = history.conversations.find((it) => topic === `conversation:${it.conversationId}`)?.userIds;
  if (receipts === undefined || members === undefined) return [];
  const flaws = receipts
    .filter((it) => it.user_id === userId || !members.includes(it.user_id))
    .map((it) => `${it.user_id} has no receipt to show`);
  for (const other of members.filter((it) => it !== userId)) {
    const own = marks.get(`${other} ${topic}`) ?? [];
    const shown = receipts.filter(({ user_id }) => user_id === other);
    if (shown.length > 1) flaws.push(`${other} is there twice`);
    const { read_seq = 0, delivered_seq = 0 } = shown[0] ?? {};
    const read = boundsOf(
      own.filter(({ kind }) => kind === "read"),
      span,
    );
    const delivered = boundsOf(own, span);
    const isLow =
      delivered_seq <
      boundsOf(
        own.filter(({ kind }) => kind !== "private"),
        span,
      ).least;
    if (read_seq < read.least || read_seq > read.most) flaws.push(`${other} has read ${read.least} to ${read.most}`);
    if (isLow || delivered_seq > delivered.most) flaws.push(`${other} has received up to ${delivered.most} at most`);
  }
  return flaws;
}

const boundsOf = (marks: Mark[], { from, to }: Span) => ({
  least: Math.max(0, ...marks.filter(({ knownAt }) => knownAt < from).map(({ upToSeq }) => upToSeq)),
  most: Math.max(
    0,
    ...marks.filter(({ askedAt }) => askedAt < to).map(({ target, upToSeq }) => Math.max(target, upToSeq)),
  ),
});

const marksCount: Rule = {
  id: "marks-count",
  says: "the answer to a mark counts as unread what was so in some moment between the asking and the answer [REC3]",
  atRest: true,
  look(facts) {
    const messages = messagesByTopic(facts);
    const marks = marksIn(facts);
    return facts.devices.flatMap(({ device: { userId }, name, connections }) =>
      connections
        .flatMap(({ exchanges }) => [...repliesTo(exchanges, "mark.read"), ...repliesTo(exchanges, "mark.delivered")])
        .filter(({ message }) => message.type === "ack" && message.payload.unread !== undefined)
        .flatMap(({ request, order, message }): Finding[] => {
          const topic = `conversation:${request.payload.conversation_id}`;
          const span = { from: request.order, to: order };
          const own = (marks.get(`${userId} ${topic}`) ?? []).filter(({ kind }) => kind !== "delivered");
          const read = boundsOf(own, span);
          const now = request.type === "mark.read" ? message.payload.up_to_seq : 0;
          const ofTopic = messages.get(topic) ?? [];
          const others = ofTopic.filter(({ senderId }) => senderId !== userId);
          const least = others.filter((it) => it.seq > read.most && isCertain(it, span)).length;
          const above = Math.max(now, read.least);
          const through = Math.max(0, ...(facts.known.get(topic)?.keys() ?? []), ...ofTopic.map(({ seq }) => seq));
          const most =
            others.filter((it) => it.seq > above && isPossible(it, span)).length +
            countUnheard(facts, { topic, messages: ofTopic, above, through });
          const { unread } = message.payload;
          if (unread >= least && unread <= most) return [];
          return [
            { text: `${name}, ${topic}: ${unread} unread, not ${least} to ${most}`, evidence: [request, message] },
          ];
        }),
    );
  },
};

const pagesWhole: Rule = {
  id: "pages-whole",
  says: "a page of history has what was asked for, all of it that was known, and is never empty while there is more [LOG8]",
  look(facts) {
    const messages = messagesByTopic(facts);
    return facts.devices.flatMap(({ name, connections }) =>
      connections
        .flatMap(({ exchanges }) => repliesTo(exchanges, "history"))
        .filter(({ message }) => message.type === "history")
        .flatMap(({ request, message: { payload } }) => {
          const known = (messages.get(request.payload.topic) ?? []).filter(({ knownAt }) => knownAt < request.order);
          return flawsOfPage(request.payload, { ...payload, known }).map((text) => ({
            text: `${name}, ${request.payload.topic}: ${text}`,
            evidence: [request.payload, payload.events.map(({ seq, type }: LoggedMessage) => `${seq} ${type}`)],
          }));
        }),
    );
  },
};

function flawsOfPage(
  { topic, after_seq, before_seq, limit = 50, types }: any,
  { events, has_more, known }: { events: LoggedMessage[]; has_more: boolean; known: MessageFacts[] },
): string[] {
  const flaws: string[] = [];
  const seqs = events.map(({ seq }) => seq);
  const isMeant = ({ topic: of, seq, type }: Pick<LoggedMessage, "topic" | "seq" | "type">) =>
    of === topic && seq > (after_seq ?? 0) && seq < (before_seq ?? Infinity) && (types?.includes(type) ?? true);
  if (has_more && events.length === 0) flaws.push("there is more, and the page is empty");
  if (events.length > limit) flaws.push("it is longer than was asked for");
  if (!events.every(isMeant)) flaws.push("it has what was not asked for");
  if (seqs.some((seq, index) => index > 0 && seq <= seqs[index - 1]!)) flaws.push("it is out of order");
  const isForward = after_seq !== undefined;
  const covered = (seq: number) => !has_more || (isForward ? seq <= (seqs.at(-1) ?? 0) : seq >= (seqs[0] ?? Infinity));
  const missing = known.find(
    (it) => isMeant({ ...it, type: "message.new" }) && covered(it.seq) && !seqs.includes(it.seq),
  );
  if (missing !== undefined) flaws.push(`it lacks ${missing.seq}`);
  return flaws;
}

export const listRules: Rule[] = [listTrue, marksCount, pagesWhole];
