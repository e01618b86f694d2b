/** Histories of a log that went back under its clients: how it was before, and what each device goes on with once it was told [LOG4]. */
import type { Received } from "../client.ts";
import type { ConnectionHistory, DeviceHistory, Entry, History } from "./history.ts";

/** Up to the first loss; it has not come to rest. */
export function beforeLoss(history: History): History {
  const from = firstLoss(history);
  const devices = history.devices.map((device) => ({
    ...device,
    connections: device.connections
      .filter(({ openedAt }) => openedAt < from)
      .map((connection) => ({
        ...connection,
        entries: connection.entries.filter(({ order }) => order < from),
        ...(connection.liveAt && connection.liveAt >= from ? { liveAt: null } : {}),
        closed: connection.closed !== null && connection.closed.order < from ? connection.closed : null,
      })),
  }));
  return { ...history, devices, rest: null };
}

/**
 * Begins anew where a client was told that a topic could not be recovered: nothing that it saw before counts, but for
 * what it has sent. Who was told nothing must find everything as it was.
 */
export function sinceTold(history: History): History {
  const from = firstLoss(history);
  return { ...history, devices: history.devices.map((device) => sinceToldOn(device, from)) };
}

const firstLoss = ({ logLosses }: History) => Math.min(...logLosses.map((loss) => loss.from));

function sinceToldOn(device: DeviceHistory, from: number): DeviceHistory {
  const at = device.connections.findLastIndex((connection) => toldOn(connection, from) !== undefined);
  if (at < 0) return sinceAcked(device, from);
  const connection = device.connections[at]!;
  const notice = toldOn(connection, from)!;
  const told = notice.order;
  const follows = followingThe(notice, connection);
  const answered = new Set(connection.entries.flatMap((entry) => (entry.order < told ? (replied(entry) ?? []) : [])));
  const isLater = (entry: Entry) =>
    entry.order >= told || follows.has(entry) || (entry.kind === "request" && !answered.has(entry.id));
  const earlier = [
    ...device.connections.slice(0, at),
    { ...connection, entries: connection.entries.filter((entry) => !isLater(entry)) },
  ];
  const liveAt = connection.liveAt && Math.max(connection.liveAt, told);
  const later = { ...connection, since: null, openedAt: told, liveAt, entries: connection.entries.filter(isLater) };
  return { ...device, connections: [later, ...device.connections.slice(at + 1)], earlier };
}

/** Begins where the server says: what it remembers has gone back with the log, so that a client that keeps nothing itself is told nothing [LOG6]. */
function sinceAcked(device: DeviceHistory, from: number): DeviceHistory {
  const at = device.connections.findLastIndex(({ openedAt, since }) => openedAt > from && since === "acked");
  if (at < 0) return device;
  return { ...device, connections: device.connections.slice(at), earlier: device.connections.slice(0, at) };
}

/** Finds what is live already, which may come just before the reply that says so: the events above the head that a notice names. */
function followingThe(notice: Entry, { entries }: ConnectionHistory): Set<Entry> {
  const follows = new Set<Entry>();
  const { payload, reply_to } = (notice as Entry & { kind: "message" }).message;
  // A client that did not ask has heard what is lost.
  if (reply_to === undefined) return follows;
  for (const { topic, seq, recovered } of payload.topics as { topic: string; seq?: number; recovered?: boolean }[]) {
    if (seq === undefined || recovered !== false) continue;
    const events = entries.flatMap((entry) =>
      entry.order < notice.order && entry.kind === "message" && entry.message.topic === topic ? [entry] : [],
    );
    const last = events.at(-1)?.message.seq ?? 0;
    const above = events.slice(Math.min(events.length, Math.max(0, events.length - (last - seq))));
    if (last > seq && above.every(({ message }, index) => message.seq === seq + 1 + index))
      for (const entry of above) follows.add(entry);
  }
  return follows;
}

const toldOn = ({ entries }: ConnectionHistory, from: number) =>
  entries.findLast((entry) => entry.order > from && entry.kind === "message" && isUnrecovered(entry.message));

const replied = (entry: Entry) => (entry.kind === "message" ? entry.message.reply_to : undefined);

/** Whether somebody is told here, asked or not, that a topic has to be loaded anew. */
export const isUnrecovered = ({ type, payload }: Received): boolean =>
  type === "subscribed" && payload.topics.some(({ recovered }: { recovered?: boolean }) => recovered === false);
