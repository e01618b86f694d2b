/** Brings this node's connections in line with the directory: what it is told is a hint, upon which it asks what is so [SUB3] [AUTH4]. */
import type { DirectoryView } from "../directory/directory.ts";
import type { Timers } from "../ground/timers.ts";
import { CloseCode } from "../protocol/close.ts";
import type { Directory, DirectoryChange } from "../storage/ports.ts";
import type { Membership } from "../subscription/membership.ts";
import { type OutageLogger, warnsOnce } from "../telemetry/outage.ts";
import type { Hub } from "./hub.ts";
import { Resync } from "./resync.ts";

export interface DirectoryNewsOptions {
  view: Pick<DirectoryView, "onChange">;
  directory: Pick<Directory, "userState" | "membersAmong" | "membershipsAmong">;
  membership: Pick<Membership, "apply" | "concerns">;
  hub: Pick<Hub, "userIds" | "ofUser">;
  timers: Timers;
  /** Milliseconds since the epoch. */
  now: () => number;
  logger: OutageLogger;
}

interface Pair {
  conversationId: string;
  userId: string;
}

/** After what failed everything is looked at again so much later, ms. */
const retryDelayMs = 1_000;
/** Users that are asked about at once where all are. */
const atOnce = 64;
/** Questions at once for what single changes are about. */
const questionsAtOnce = 8;
/** More than so many changes that wait are answered by looking at everything. */
const hintsMax = 1_000;

/** Begins to follow. @returns stops it */
export function listenToDirectory(options: DirectoryNewsOptions): () => void {
  const { view, directory, membership, hub, timers, now, logger } = options;
  /** Who and what is to be asked about; named twice is asked once. */
  let pairs = new Map<string, Pair>();
  let users = new Set<string>();
  let isAsking = false;
  let isStopped = false;

  const following = warnsOnce(logger, "a change of the directory waits", "changes of the directory are followed again");
  const keyOf = ({ conversationId, userId }: Pair) => `${conversationId} ${userId}`;
  const isHere = (userId: string) => [...hub.ofUser(userId)].length > 0;
  const resync = new Resync({ run: () => follow("resync", lookAtEverything), timers, now });

  async function lookAtEverything(): Promise<void> {
    // Beside each other: what a slow client joins may take long.
    await Promise.all([membership.apply({ kind: "resync" }), sendAwayDisabled(hub.userIds())]);
  }

  async function sendAwayDisabled(userIds: string[]): Promise<void> {
    for (let start = 0; start < userIds.length; start += atOnce) {
      await Promise.all(userIds.slice(start, start + atOnce).map(sendAwayIfDisabled));
    }
  }

  async function sendAwayIfDisabled(userId: string): Promise<void> {
    // Who comes in just now is checked there.
    if (!isHere(userId) || (await directory.userState(userId)) !== "disabled") return;
    for (const connection of [...hub.ofUser(userId)]) connection.close(CloseCode.revoked, "user disabled");
  }

  /** @returns whether it went well */
  const follow = (change: string, work: () => Promise<void>) => following.attempt(work(), { change });

  /** Anybody may have sent it who can reach the database. */
  function hear(change: DirectoryChange): void {
    // Applications write many users and members at once, and most are not here.
    if (change.kind === "resync") return resync.want();
    if (change.kind === "user_changed" && isHere(change.userId)) users.add(change.userId);
    if (change.kind !== "user_changed" && membership.concerns(change)) {
      const { conversationId, userId } = change;
      pairs.set(keyOf(change), { conversationId, userId });
    }
    if (pairs.size + users.size > hintsMax) {
      pairs = new Map();
      users = new Set();
      return resync.want();
    }
    void askAll();
  }

  /** One round after the other, however many changes are told meanwhile. */
  async function askAll(): Promise<void> {
    if (isAsking) return;
    isAsking = true;
    while (pairs.size + users.size > 0 && !isStopped) {
      const [somePairs, someUsers] = [pairs, users];
      pairs = new Map();
      users = new Set();
      const isDone = await Promise.all([
        follow("membership", () => settle([...somePairs.values()])),
        follow("user", () => sendAwayDisabled([...someUsers])),
      ]);
      if (isDone.includes(false)) resync.want(retryDelayMs);
    }
    isAsking = false;
  }

  async function settle(some: Pair[]): Promise<void> {
    const questions = questionsOf(some, directory);
    for (let start = 0; start < questions.length; start += questionsAtOnce) {
      const answers = await Promise.all(questions.slice(start, start + questionsAtOnce).map((ask) => ask()));
      const removals = answers.flat().flatMap(({ pair, isMember }) => {
        // Told of again meanwhile: the answer may be of before that.
        if (pairs.has(keyOf(pair))) return [];
        if (!isMember) return [membership.apply({ kind: "member_removed", ...pair })];
        // Not waited for: a client may be slow to take what it joins.
        void follow("member_added", () => membership.apply({ kind: "member_added", ...pair })).then((isDone) => {
          if (!isDone) resync.want(retryDelayMs);
        });
        return [];
      });
      await Promise.all(removals);
    }
  }

  const unfollow = view.onChange(hear);
  return () => {
    isStopped = true;
    unfollow();
    resync.stop();
  };
}

type Question = () => Promise<{ pair: Pair; isMember: boolean }[]>;

/** By conversation or by user, whichever takes fewer. */
function questionsOf(pairs: Pair[], directory: Pick<Directory, "membersAmong" | "membershipsAmong">): Question[] {
  const byConversation = Map.groupBy(pairs, ({ conversationId }) => conversationId);
  const byUser = Map.groupBy(pairs, ({ userId }) => userId);
  if (byConversation.size <= byUser.size) {
    return [...byConversation].map(([conversationId, some]) => async () => {
      const userIds = some.map(({ userId }) => userId);
      const members = await directory.membersAmong(conversationId, userIds);
      return some.map((pair) => ({ pair, isMember: members.has(pair.userId) }));
    });
  }
  return [...byUser].map(([userId, some]) => async () => {
    const conversationIds = some.map(({ conversationId }) => conversationId);
    const memberships = await directory.membershipsAmong(userId, conversationIds);
    return some.map((pair) => ({ pair, isMember: memberships.has(pair.conversationId) }));
  });
}
