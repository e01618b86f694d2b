/** Rules of the present: nobody is left typing, and presence converges to the truth [TYP2] [PRE]. */
import type { ConnectionFacts, Facts } from "./facts.ts";
import type { ConnectionHistory } from "./history.ts";
import type { Rule } from "./rule.ts";
import { type PresentView, viewOf } from "./views.ts";

/**
 * What a present connection believes at the end: by the events alone (a look at the present must not mend what an
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

export const presentRules: Rule[] = [nobodyTypes, presenceTrue];
