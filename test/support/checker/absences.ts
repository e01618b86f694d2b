/** Works out when users were away for certain, and when one of their connections was there for certain; what lies between is anybody's guess. */
import type { Received } from "../client.ts";
import { type DeviceFacts, type Facts, requestsOf } from "./facts.ts";

/** From the moment in which somebody else saw the user offline, to that in which it came back; infinite: it did not. */
export interface Absence {
  from: number;
  to: number;
}

/** Somebody else was told that a user is offline. */
interface Sighting {
  order: number;
  /** By the server's clock, ms: one who reads late hears of what was before. */
  at: number;
}

const workedOut = new WeakMap<Facts, Map<string, Absence[]>>();

/** By user; worked out once for all rules. */
export function absencesOf(facts: Facts): Map<string, Absence[]> {
  const known = workedOut.get(facts) ?? workOut(facts);
  workedOut.set(facts, known);
  return known;
}

function workOut({ history, devices }: Facts): Map<string, Absence[]> {
  const sightings = offlineSightings(devices);
  const byUser = Map.groupBy(devices, ({ device }) => device.userId);
  // Somebody who is invisible looks like one who is away.
  const mayHide = (own: DeviceFacts[]) =>
    own.some(({ device }) => requestsOf(device).some(({ payload }) => payload?.status === "invisible"));
  const members = history.conversations.flatMap(({ userIds }) => userIds);
  const absences = new Map<string, Absence[]>();
  // Without any device one is never there.
  for (const userId of members.filter((it) => !byUser.has(it)))
    absences.set(userId, [{ from: 0, to: Number.POSITIVE_INFINITY }]);
  for (const [userId, own] of byUser)
    if (!mayHide(own)) absences.set(userId, knownGaps(own, sightings.get(userId) ?? []));
  return absences;
}

function knownGaps(own: DeviceFacts[], sightings: Sighting[]): Absence[] {
  return gapsOf(own).flatMap(({ from, to, lastHeardAt }) => {
    const seen = sightings.filter((it) => it.order > from && it.at > lastHeardAt);
    const first = Math.min(...seen.map(({ order }) => order));
    return first < to ? [{ from: first, to }] : [];
  });
}

/** Spans in which the user had no connection, nor was trying to have one. */
function gapsOf(devices: DeviceFacts[]): (Absence & { lastHeardAt: number })[] {
  const connections = devices
    .flatMap((device) => device.connections.map(({ connection }) => connection))
    .toSorted((one, other) => one.openedAt - other.openedAt);
  const gaps: (Absence & { lastHeardAt: number })[] = [];
  let end = 0;
  let lastHeardAt = 0;
  for (const [index, { closed, entries }] of connections.entries()) {
    end = Math.max(end, closed?.order ?? Number.POSITIVE_INFINITY);
    for (const entry of entries)
      if (entry.kind === "message") lastHeardAt = Math.max(lastHeardAt, timeOf(entry.message) || 0);
    const next = connections[index + 1]?.openedAt ?? Number.POSITIVE_INFINITY;
    if (next > end) gaps.push({ from: end, to: next, lastHeardAt });
  }
  return gaps;
}

function offlineSightings(devices: DeviceFacts[]): Map<string, Sighting[]> {
  const sightings = new Map<string, Sighting[]>();
  for (const { connections } of devices) {
    for (const { connection } of connections) {
      for (const entry of connection.entries) {
        if (entry.kind !== "message") continue;
        for (const userId of saidToBeOffline(entry.message)) {
          const seen = sightings.get(userId) ?? [];
          seen.push({ order: entry.order, at: timeOf(entry.message) });
          sightings.set(userId, seen);
        }
      }
    }
  }
  return sightings;
}

function saidToBeOffline({ type, payload }: Received): string[] {
  if (type === "presence.offline") return [payload.user_id];
  const views: any[] =
    type === "subscribed"
      ? payload.topics.flatMap(({ snapshot }: any) => snapshot?.presence ?? [])
      : type === "presence.update"
        ? (payload.users ?? [])
        : [];
  // Of whom nothing is known it is said as well, without a moment.
  return views
    .filter(({ status, last_seen }) => status === "offline" && last_seen !== undefined)
    .map(({ user_id }) => user_id);
}

/** By the clock of the server, which is one on all nodes of a run. */
export const timeOf = ({ timestamp }: Pick<Received, "timestamp">) => Date.parse(timestamp);

/** One connection of a user, from when it was live to the last that was sent on it, by the server's clock, ms. */
interface Presence {
  openedAt: number;
  liveFrom: number;
  lastSentAt: number;
}

const presences = new WeakMap<Facts, Map<string, Presence[]>>();

function presencesOf(facts: Facts): Map<string, Presence[]> {
  const known = presences.get(facts) ?? new Map<string, Presence[]>();
  if (presences.has(facts)) return known;
  presences.set(facts, known);
  for (const { device, connections } of facts.devices) {
    for (const { connection, liveFrom } of connections) {
      if (liveFrom === null) continue;
      const times = connection.entries.map((entry) => (entry.kind === "message" ? timeOf(entry.message) || 0 : 0));
      const lastSentAt = times.reduce((last, time) => Math.max(last, time), 0);
      const own = known.get(device.userId) ?? [];
      own.push({ openedAt: connection.openedAt, liveFrom, lastSentAt });
      known.set(device.userId, own);
    }
  }
  return known;
}

/**
 * Whether one connection of the user was there from before `order` until the server's clock showed `until`, and no fault since it
 * was opened can have made it look otherwise.
 */
export function wasThere(
  facts: Facts,
  { userId, order, until, untilOrder }: { userId: string; order: number; until: number; untilOrder: number },
): boolean {
  const { memoryLosses } = facts.history;
  return (presencesOf(facts).get(userId) ?? []).some(
    ({ openedAt, liveFrom, lastSentAt }) =>
      liveFrom < order &&
      // Something that was sent later on it shows that the server had it.
      lastSentAt > until &&
      !memoryLosses.some(({ from, to }) => to > openedAt && from < untilOrder),
  );
}
