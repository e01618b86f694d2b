/** Judges the present: nobody is left typing, presence converges to the truth, and is told as differences, now and then [TYP2] [PRE]. */
import type { ConnectionFacts, Facts } from "./facts.ts";
import type { ConnectionHistory } from "./history.ts";
import type { Rule } from "./rule.ts";
import { type PresentView, viewOf } from "./views.ts";

/**
 * Tells what a present connection believes at the end: by the events alone (a look at the present must not mend what an
 * event failed to say), and by that look alone.
 */
function viewsOf({ connection, liveFrom }: ConnectionFacts, restOrder: number): { by: string; view: PresentView }[] {
  const isLook = ({ order, ...entry }: ConnectionHistory["entries"][number]) =>
    // The first answer is how the connection came to know of anybody, also where it came back after that.
    order > Math.max(restOrder, liveFrom ?? 0) &&
    entry.kind === "message" &&
    entry.message.type === "subscribed" &&
    "reply_to" in entry.message;
  const looks = connection.entries.filter(isLook);
  return [
    { by: "events", view: viewOf({ ...connection, entries: connection.entries.filter((entry) => !isLook(entry)) }) },
    ...(looks.length === 0 ? [] : [{ by: "snapshot", view: viewOf({ ...connection, entries: looks.slice(-1) }) }]),
  ];
}

const nobodyTypes: Rule = {
  id: "nobody-types",
  says: "at rest nobody is left typing, by events and by snapshot [TYP2]",
  atRest: true,
  look: ({ history, devices }) =>
    devices.flatMap(({ name, present }) =>
      (present === null ? [] : viewsOf(present, history.rest!.order))
        .filter(({ view }) => view.typing.size > 0)
        .map(({ by, view }) => ({ text: `${name} sees somebody typing, by ${by}`, evidence: [...view.typing] })),
    ),
};

const presenceTrue: Rule = {
  id: "presence-true",
  says: "at rest everybody sees whom they share a conversation with as they are, by events and by snapshot [PRE1] [PRE2]",
  atRest: true,
  look: ({ history, devices }) =>
    devices.flatMap(({ device, name, present }) => {
      const others = othersOf(history, device.userId);
      return (present === null ? [] : viewsOf(present, history.rest!.order)).flatMap(({ by, view }) =>
        others
          .filter((userId) => (view.statuses.get(userId) ?? "unknown") !== history.rest!.statuses[userId])
          .map((userId) => ({
            text: `${name} sees ${userId} as ${view.statuses.get(userId) ?? "unknown"}, by ${by}`,
            evidence: [{ truth: history.rest!.statuses[userId] }, ...messagesAbout(present!, userId)],
          })),
      );
    }),
};

function othersOf({ conversations }: Facts["history"], userId: string): string[] {
  const mates = conversations.filter(({ userIds }) => userIds.includes(userId)).flatMap(({ userIds }) => userIds);
  return [...new Set(mates)].filter((mate) => mate !== userId);
}

const messagesAbout = ({ connection }: ConnectionFacts, userId: string) =>
  connection.entries
    .flatMap((entry) => (entry.kind === "message" ? [entry.message] : []))
    .filter(({ type, payload }) => type.startsWith("presence.") && payload.user_id === userId)
    .slice(-4);

/** Each thing that a connection was told of another user, with what it held of the user before. */
function toldOf({ connection }: ConnectionFacts, ownId: string) {
  const held = new Map<string, string>();
  /** Said by answers to `presence.query` since. */
  const answered = new Map<string, string>();
  return connection.entries.flatMap((entry) => {
    if (entry.kind !== "message") return [];
    const { type, payload, timestamp, reply_to } = entry.message;
    if (type === "subscribed")
      for (const { snapshot } of payload.topics)
        if (snapshot?.presence !== undefined) {
          held.set(snapshot.presence.user_id, lookOf(snapshot.presence));
          answered.delete(snapshot.presence.user_id);
        }
    if (type === "presence.update" && reply_to !== undefined)
      for (const user of payload.users ?? []) answered.set(user.user_id, lookOf(user));
    const userId = payload.user_id;
    if (!type.startsWith("presence.") || reply_to !== undefined || userId === undefined || userId === ownId) return [];
    const before = held.get(userId);
    const answer = answered.get(userId);
    answered.delete(userId);
    const look = type === "presence.offline" ? lookOf({ status: "offline" }) : lookOf(payload);
    held.set(userId, look);
    const isKnown = before === look && (answer ?? look) === look;
    return [{ userId, before, isKnown, at: Date.parse(timestamp), message: entry.message }];
  });
}

const lookOf = ({ status, status_text = null, status_emoji = null }: Record<string, unknown>) =>
  JSON.stringify([status, status_text, status_emoji]);

const presenceDiffers: Rule = {
  id: "presence-differs",
  says: "what a connection is told of somebody is not what it was told before [PRE1] [PRE3]",
  look: ({ devices }) =>
    devices.flatMap(({ device, name, connections }) =>
      connections.flatMap((connection) =>
        toldOf(connection, device.userId)
          .filter(({ isKnown }) => isKnown)
          .map(({ userId, before, message }) => ({
            text: `${name} was told of ${userId} what it knew`,
            evidence: [before, message, ...messagesAbout(connection, userId)],
          })),
      ),
    ),
};

/** `presence.update_interval` where it is not set, less how late a message may be stamped, ms. */
const apartMs = 1_000 - 150;

const presenceDamped: Rule = {
  id: "presence-damped",
  says: "a connection is told of somebody at most once in presence.update_interval [PRE1] [PRE3]",
  look: ({ devices }) =>
    devices.flatMap(({ device, name, connections }) =>
      connections.flatMap((connection) =>
        [...Map.groupBy(toldOf(connection, device.userId), ({ userId }) => userId)].flatMap(([userId, told]) =>
          told
            .filter(({ at }, index) => index > 0 && at - told[index - 1]!.at < apartMs)
            .map(({ message }) => ({ text: `${name} was told of ${userId} too often`, evidence: [message, ...told] })),
        ),
      ),
    ),
};

export const presentRules: Rule[] = [nobodyTypes, presenceTrue, presenceDiffers, presenceDamped];
