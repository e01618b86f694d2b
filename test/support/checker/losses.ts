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
        closed: connection.closed !== null && connection.closed.order < from ? connection.closed : null,
      })),
  }));
  return { ...history, devices, rest: null };
}

/**
 * Who was told that a topic could not be recovered has begun anew there: nothing that it saw before counts, but for what it
 * has sent. Who was told nothing must find everything as it was.
 */
export function sinceTold(history: History): History {
  const from = firstLoss(history);
  return { ...history, devices: history.devices.map((device) => sinceToldOn(device, from)) };
}

const firstLoss = ({ logLosses }: History) => Math.min(...logLosses.map((loss) => loss.from));

function sinceToldOn(device: DeviceHistory, from: number): DeviceHistory {
  const at = device.connections.findLastIndex((connection) => toldOn(connection, from) !== undefined);
  if (at < 0) return device;
  const connection = device.connections[at]!;
  const told = toldOn(connection, from)!.order;
  const answered = new Set(connection.entries.flatMap((entry) => (entry.order < told ? (replied(entry) ?? []) : [])));
  const isLater = (entry: Entry) => entry.order >= told || (entry.kind === "request" && !answered.has(entry.id));
  const earlier = [
    ...device.connections.slice(0, at),
    { ...connection, entries: connection.entries.filter((entry) => !isLater(entry)) },
  ];
  const later = { ...connection, since: null, openedAt: told, entries: connection.entries.filter(isLater) };
  return { ...device, connections: [later, ...device.connections.slice(at + 1)], earlier };
}

const toldOn = ({ entries }: ConnectionHistory, from: number) =>
  entries.findLast((entry) => entry.order > from && entry.kind === "message" && isUnrecovered(entry.message));

const replied = (entry: Entry) => (entry.kind === "message" ? entry.message.reply_to : undefined);

/** Whether somebody is told here, asked or not, that a topic has to be loaded anew. */
export const isUnrecovered = ({ type, payload }: Received): boolean =>
  type === "subscribed" && payload.topics.some(({ recovered }: { recovered?: boolean }) => recovered === false);
