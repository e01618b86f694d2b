/** Rules of requests and connections: one reply each, no faults, and everybody gets back [ENV3] [ENV5] [ENV7]. */
import type { Received } from "../client.ts";
import { messagesOf } from "./messages.ts";
import type { Rule } from "./rule.ts";

/** Lists what a client that does nothing wrong may be told. */
const expectedErrors = new Set(["unavailable", "rate_limited"]);
/** Calls end while others still speak in them. */
const expectedCallErrors = new Set([
  "call_not_found",
  "call_ended",
  "call_already_answered",
  "not_a_party",
  "call_conflict",
]);
/** How a server may end a connection of a client that does nothing wrong: a crash, a restart, or a client too slow. */
const expectedCloses = new Set([1001, 1006, 1012, 4101, 4102, 4103, 4104, 4105]);

const oneReply: Rule = {
  id: "one-reply",
  says: "a request gets exactly one reply, in the order of requests, or its connection closes [ENV3] [ENV7]",
  look: ({ devices }) =>
    devices.flatMap(({ name, connections }) =>
      connections.flatMap(({ connection, exchanges }) => {
        const asked = new Set(exchanges.map(({ id }) => id));
        const stray = connection.entries.flatMap((entry) =>
          entry.kind === "message" && entry.message.reply_to !== undefined && !asked.has(entry.message.reply_to)
            ? [{ text: `${name} got a reply to nothing`, evidence: [entry.message] }]
            : [],
        );
        const twice = exchanges
          .filter(({ replies }) => replies.length > 1)
          .map((exchange) => ({ text: `${name} got two replies`, evidence: [exchange] }));
        const answered = exchanges.filter(({ replies }) => replies.length > 0);
        const outOfTurn = answered
          .filter(({ replies }, index) => index > 0 && replies[0]!.order < answered[index - 1]!.replies[0]!.order)
          .map((exchange) => ({ text: `${name} got a reply before its turn`, evidence: [exchange] }));
        return [...stray, ...twice, ...outOfTurn];
      }),
    ),
};

const everyReply: Rule = {
  id: "every-reply",
  says: "at rest no request of an open connection is without its reply [ENV3]",
  atRest: true,
  look: ({ devices }) =>
    devices.flatMap(({ name, present }) =>
      (present?.exchanges ?? [])
        .filter(({ replies }) => replies.length === 0)
        .map((exchange) => ({ text: `${name} got no reply to ${exchange.type}`, evidence: [exchange] })),
    ),
};

const noFault: Rule = {
  id: "no-fault",
  says: "who does nothing wrong is neither refused nor sent away for good [ENV4] [ENV5]",
  look(facts) {
    const { history, devices } = facts;
    const { byId } = messagesOf(facts);
    const isDeletedBy = ({ message_id }: any, order: number) =>
      byId.get(message_id)?.deletions.some(({ askedAt }) => askedAt < order);
    return devices.flatMap(({ name, connections }) =>
      connections.flatMap(({ connection, exchanges }) => {
        // A cursor that was given out by a log that has gone back is worth nothing, also to who has not been told yet.
        const isLost = (type: string) => (type === "ack" || isChange(type)) && history.logLosses.length > 0;
        // It stood for so long on its way that its end had come.
        const isLate = ({ expires_at }: any, { payload, timestamp }: Received) =>
          payload.field === "payload.expires_at" && Date.parse(expires_at) <= Date.parse(timestamp);
        const refused = exchanges.flatMap(({ type, payload, replies }) =>
          replies
            .filter(
              ({ message, order }) =>
                message.type === "error" &&
                !isExpected(type, message.payload.code) &&
                !isLost(type) &&
                !isLate(payload, message) &&
                !(isChange(type) && message.payload.code === "conflict" && isDeletedBy(payload, order)),
            )
            .map(({ message }) => ({ text: `${name} was refused ${type}`, evidence: [payload, message] })),
        );
        // Found as a member when the request came, a ghost may have been taken out again when it was answered.
        const isGhosts = ({ topic }: any) => history.ghosts?.some((ghost) => topic === `presence:${ghost}`);
        const rejected = exchanges.flatMap(({ type, payload, replies }) =>
          replies
            .filter(({ message }) => message.type === "subscribed" && !message.payload.rejected.every(isGhosts))
            .map(({ message }) => ({ text: `${name} may not ${type}`, evidence: [payload, message.payload.rejected] })),
        );
        const { closed } = connection;
        const sentAway = closed !== null && !closed.byClient && !expectedCloses.has(closed.code);
        return [
          ...refused,
          ...rejected,
          ...(sentAway ? [{ text: `${name} was closed with ${closed.code}`, evidence: [closed] }] : []),
        ];
      }),
    );
  },
};

/** Whether it changes something, which may be lost with the log. */
const isChange = (type: string) => type === "message.edit" || type === "message.delete" || type.startsWith("reaction.");

const isExpected = (type: string, code: string) =>
  expectedErrors.has(code) ||
  // Kept from writing is only who is a member: whether a ghost is one, its backend does not look.
  (type === "admin.members.update" && code === "not_found") ||
  (type.startsWith("call.") && expectedCallErrors.has(code));

const everybodyBack: Rule = {
  id: "everybody-back",
  says: "at rest every device is live, but for those that have signed off [ENV5]",
  atRest: true,
  look: ({ history, devices }) =>
    devices
      .filter(({ device, present }) => history.rest!.statuses[device.userId] !== "offline" && !present?.liveFrom)
      .map(({ name, connections }) => ({
        text: `${name} is not back`,
        evidence: [connections.at(-1)?.connection.closed],
      })),
};

export const requestRules: Rule[] = [oneReply, everyReply, noFault, everybodyBack];
