/** Looks once a second for statuses that have run out and for users whose node has died [PRE1] [PRE2]. */
import type { PresenceRegistry } from "../cluster/ports.ts";
import type { KeyedQueue } from "../ground/keyed-queue.ts";
import type { Timers } from "../ground/timers.ts";
import type { StatusStore } from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import { warnsOnce } from "../telemetry/outage.ts";
import type { Announcer, Presence } from "./announcer.ts";

export interface SweepDeps {
  registry: Pick<PresenceRegistry, "sweep" | "devicesOf">;
  statuses: Pick<StatusStore, "takeExpired" | "get">;
  announcer: Pick<Announcer, "announce" | "announceOffline">;
  queue: KeyedQueue;
  presenceOf(userId: string): Promise<Presence>;
  noteLastSeen(userIds: string[], at: number): Promise<void>;
  now: () => number;
  timers: Timers;
  logger: Logger;
}

const intervalMs = 1_000;
/** Users looked at in one go. */
const batch = 500;
/** Ends of statuses that wait to be told while the stores fail in turn. */
const untoldMax = 10_000;

type Expired = Awaited<ReturnType<StatusStore["takeExpired"]>>[number];

export function createSweep(deps: SweepDeps): { start(): void; stop(): Promise<void> } {
  const { registry, statuses, announcer, queue, presenceOf, noteLastSeen, now, timers, logger } = deps;
  const ending = warnsOnce(logger, "presence: ending statuses failed", "presence: statuses are ended again");
  const looking = warnsOnce(
    logger,
    "presence: looking for dead nodes failed",
    "presence: dead nodes are looked for again",
  );
  const reading = warnsOnce(logger, "statuses could not be read", "statuses are read again");
  let state: "idle" | "running" | "stopped" = "idle";
  let cancel = () => {};
  let round = Promise.resolve();
  /** Taken out of the store, which names them once only, and not told of yet. */
  let untold: Expired[] = [];

  async function tellExpired(): Promise<void> {
    for (let full = true; full && state === "running"; ) {
      const expired = await statuses.takeExpired(now(), batch);
      full = expired.length >= batch;
      const all = [...untold, ...expired];
      const results = await Promise.allSettled(all.map(tellOne));
      untold = all.filter((_, at) => results[at]!.status === "rejected").slice(-untoldMax);
      const failure = results.find((result) => result.status === "rejected");
      if (failure !== undefined) throw failure.reason;
    }
  }

  const tellOne = ({ userId, status }: Expired) =>
    queue.run(userId, async () => {
      const after = await presenceOf(userId);
      await announcer.announce({ userId, before: { ...after, byHand: status }, after });
    });

  /** Somebody invisible has been offline to others since long ago. */
  async function seenByOthers(userIds: string[]): Promise<{ userIds: string[]; lastSeenKnown: boolean }> {
    try {
      const stored = await statuses.get(userIds);
      reading.ended();
      const seen = userIds.filter((userId) => stored.get(userId)?.status?.status !== "invisible");
      return { userIds: seen, lastSeenKnown: true };
    } catch (error) {
      // The registry names them once only: said without a time, it is true of all of them.
      reading.began(error, { users: userIds.length });
      return { userIds, lastSeenKnown: false };
    }
  }

  async function tellLost(): Promise<void> {
    if (state !== "running") return;
    const lost = await registry.sweep();
    // They are named once only: whoever is told to stop meanwhile tells of them first.
    for (let start = 0; start < lost.length; start += batch) {
      const userIds = lost.slice(start, start + batch);
      const seen = await seenByOthers(userIds);
      const at = seen.lastSeenKnown ? now() : null;
      if (at !== null) await noteLastSeen(seen.userIds, at);
      await Promise.all(
        seen.userIds.map((userId) =>
          queue.run(userId, async () => {
            const devices = await registry.devicesOf([userId]);
            // Whoever has come back meanwhile is online again and told of.
            if ((devices.get(userId) ?? []).length === 0) announcer.announceOffline(userId, at);
          }),
        ),
      );
    }
  }

  async function runRound(): Promise<void> {
    await ending.attempt(tellExpired());
    await looking.attempt(tellLost());
    if (state === "running") arm();
  }

  function arm(): void {
    cancel = timers.after(intervalMs, () => {
      round = runRound();
    });
  }

  return {
    start() {
      if (state !== "idle") return;
      state = "running";
      arm();
    },
    async stop() {
      state = "stopped";
      cancel();
      await round;
    },
  };
}
