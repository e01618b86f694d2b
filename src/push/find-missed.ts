/** Finds out of some events who has missed them: asks for members, devices and places once for all of them [BAK3]. */
import type { PresenceRegistry } from "../cluster/ports.ts";
import type { DirectoryView } from "../directory/directory.ts";
import { nextTurn } from "../ground/next-turn.ts";
import { pages } from "../ground/pages.ts";
import { conversationTopic } from "../protocol/topic.ts";
import type { EventLog } from "../storage/ports.ts";
import type { PushStore, UserOnTopic } from "../storage/push-store.ts";
import { type Candidate, outcomeOf, type Standing } from "./candidate.ts";
import type { Missed } from "./missed-topic.ts";
import type { Whereabouts } from "./whereabouts.ts";

export interface SearchOptions {
  directory: Pick<DirectoryView, "membersOf" | "membersOfEach">;
  presence: Pick<PresenceRegistry, "now">;
  whereabouts: Pick<Whereabouts, "seenAt">;
  store: Pick<PushStore, "standing" | "receivedThrough" | "acknowledgedBy">;
  log: Pick<EventLog, "epochs">;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Members of conversations, and users who have missed something, after whom nothing more is looked at: each is held in memory. */
  usersMax?: number;
}

export interface Found {
  /** So many of the events were looked at, from the first on: where very many may have missed them, not all at once. */
  looked: number;
  missed: Missed[];
  /** Of how many users it is not known yet whether they have a device. */
  unsure: number;
}

/** Conversations whose members are asked for by one question; of larger ones one at a time. */
const [conversationsAtOnce, membersAtOnce] = [100, 1_000];
/** Users about whom one question is asked. */
const usersAtOnce = 1_000;
const usersMaxDefault = 100_000;

/** @throws Unavailable where something cannot be asked, and nothing is known */
export async function findMissed(candidates: Candidate[], options: SearchOptions): Promise<Found> {
  const { directory, store, now, presence, whereabouts, usersMax = usersMaxDefault } = options;
  const standing = await store.standing(candidates.map(({ event }) => event.position));
  const left = candidates.filter(({ event }) => standing.has(event.position));
  const found: Found = { looked: candidates.length, missed: [], unsure: 0 };
  if (left.length === 0) return found;
  const audiences = await audiencesOf(left, { directory, usersMax });
  const beyond = left.findIndex(({ of }) => !audiences.has(of.name));
  const near = beyond < 0 ? left : left.slice(0, beyond);
  if (beyond >= 0) found.looked = candidates.indexOf(left[beyond]!);
  const seen = await whereabouts.seenAt([...new Set([...audiences.values()].flat())]);
  const aheadMs = presence.now() - now();
  const places = await placesOf(absentOf(near, { audiences, seen, aheadMs }), options);
  let users = 0;
  for (const candidate of near) {
    const { event, of, senderId, at } = candidate;
    const audience = audiences.get(of.name)!;
    const eventAt = at + aheadMs;
    const outcomes = Map.groupBy(audience, (userId) => {
      const standing = { ...places(of.name, userId), seenAt: seen.get(userId) ?? null };
      return outcomeOf({ event, senderId }, { userId, standing, eventAt });
    });
    // A view of members may name somebody twice.
    const userIds = [...new Set(outcomes.get("missed"))].sort();
    found.unsure += outcomes.get("unsure")?.length ?? 0;
    if (userIds.length > 0) found.missed.push({ event, senderId, userIds, audience: audience.length });
    users += userIds.length;
    if (users >= usersMax) return { ...found, looked: candidates.indexOf(candidate) + 1 };
    // Others have their turn beside a crowd.
    if (audience.length > membersAtOnce) await nextTurn();
  }
  return found;
}

/** Finds the members of conversations, and the owners of what is somebody's own, by topic: from the first on, as far as there is room. */
async function audiencesOf(
  candidates: Candidate[],
  { directory, usersMax }: Required<Pick<SearchOptions, "directory" | "usersMax">>,
): Promise<Map<string, readonly string[]>> {
  const audiences = new Map<string, readonly string[]>();
  const conversations = new Set<string>();
  for (const { of } of candidates) {
    if (of.kind === "conversation") conversations.add(of.key);
    else audiences.set(of.name, [of.key]);
  }
  let users = 0;
  for (const page of pages([...conversations], conversationsAtOnce)) {
    const found = await directory.membersOfEach(page, membersAtOnce + 1);
    for (const id of page) {
      if (users >= usersMax) return audiences;
      const members = found.get(id) ?? [];
      const all = members.length > membersAtOnce ? await directory.membersOf(id) : members;
      audiences.set(conversationTopic(id), all);
      users += all.length;
    }
  }
  return audiences;
}

interface Absent {
  users: Set<string>;
  /** Members who are absent, by the conversations of the events. */
  members: UserOnTopic[];
}

/** Names those for whom it matters how far they have come: whoever is here need not be asked about. */
function absentOf(
  candidates: Candidate[],
  {
    audiences,
    seen,
    aheadMs,
  }: { audiences: Map<string, readonly string[]>; seen: Map<string, number>; aheadMs: number },
): Absent {
  const absent: Absent = { users: new Set(), members: [] };
  const newest = new Map<string, { isConversation: boolean; eventAt: number }>();
  for (const { of, at } of candidates) {
    const eventAt = Math.max(newest.get(of.name)?.eventAt ?? 0, at + aheadMs);
    newest.set(of.name, { isConversation: of.kind === "conversation", eventAt });
  }
  for (const [topic, { isConversation, eventAt }] of newest) {
    for (const userId of audiences.get(topic) ?? []) {
      if ((seen.get(userId) ?? Number.NEGATIVE_INFINITY) >= eventAt) continue;
      absent.users.add(userId);
      if (isConversation) absent.members.push({ topic, userId });
    }
  }
  return absent;
}

type Places = (topic: string, userId: string) => Omit<Standing, "seenAt">;

async function placesOf({ users, members }: Absent, { store, log }: SearchOptions): Promise<Places> {
  const received = new Map<string, number>();
  const acknowledged = new Map<string, number>();
  for (const page of pages(members, usersAtOnce)) {
    const through = await store.receivedThrough(page);
    for (const [at, { topic, userId }] of page.entries()) received.set(`${topic} ${userId}`, through[at]!);
  }
  for (const page of pages([...users], usersAtOnce)) {
    for (const { userId, ...place } of await store.acknowledgedBy(page)) {
      // Of an epoch that is not known any more it is worth nothing, of one that was lost in part as much as is still there.
      const through = log.epochs.heldOf(place) ?? 0;
      acknowledged.set(userId, Math.max(acknowledged.get(userId) ?? 0, through));
    }
  }
  return (topic, userId) => ({
    receivedThrough: received.get(`${topic} ${userId}`) ?? 0,
    acknowledgedThrough: acknowledged.get(userId) ?? 0,
  });
}
