/** Shows those who watch users on this node how they are, nothing twice, and in the end what is so [PRE1] [PRE3]. */
import type { PresenceRegistry } from "../cluster/ports.ts";
import type { KeyedQueue } from "../ground/keyed-queue.ts";
import type { Timers } from "../ground/timers.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { PresenceView } from "../protocol/server.ts";
import { presenceTopic } from "../protocol/topic.ts";
import type { StatusStore } from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Cause, messageOf, type PresenceMessage } from "./announcer.ts";
import { createCorrections, type Told, unknown } from "./corrections.ts";
import { shownToOthers } from "./join.ts";
import { createShownHere, lookAfter, lookOf } from "./shown-here.ts";

export interface Recipients {
  reach: "here" | "elsewhere" | "everywhere";
  /** Whose own connection is not told [SUB6]. */
  cause?: Cause | undefined;
}

export interface ShowingDeps {
  registry: Pick<PresenceRegistry, "devicesOf" | "isWhole" | "isSettled">;
  statuses: Pick<StatusStore, "get">;
  queue: KeyedQueue;
  publish(topic: string, message: PresenceMessage, to: Recipients): void;
  /** How many subscriptions to the user's presence there are on this node. */
  watchersOf(userId: string): number;
  /** Whether something of the user is still to be told. */
  isHeldBack(userId: string): boolean;
  /** Milliseconds since the epoch. */
  now: () => number;
  timers: Timers;
  logger: Logger;
}

/** What other parts of this node say to it. */
export interface Watching {
  /** Another node's event is about to be shown here. @returns whether anybody here sees a difference */
  hear(event: { topic: string; type: string; payload: string }): boolean;
  /** The viewer is about to be sent these. */
  noteShown(viewer: string, views: Iterable<PresenceView>): void;
  /** Called from time to time: drops what is remembered of users whom nobody watches any more. */
  forgetUnwatched(): void;
}

export interface Showing extends Watching {
  /** Tells everybody, on all nodes, who sees a difference. */
  tell(topic: string, message: PresenceMessage, cause?: Cause): void;
  /** On any node some may have been shown something else than is so. */
  doubt(userIds: string[]): void;
  /** Some on this node may have. Without `userIds`: of anybody. */
  doubtHere(userIds?: string[]): void;
  stop(): void;
}

const userOf = (topic: string) => topic.slice(presenceTopic("").length);

/** It is looked at again later, as with whatever else is away. */
const unreadable = () => new ProtocolError("unavailable", "The cluster's devices cannot be read.");

export function createShowing(deps: ShowingDeps): Showing {
  const { registry, statuses, queue, publish, isHeldBack, now } = deps;
  const shown = createShownHere(deps.watchersOf);
  const corrections = createCorrections({
    ...deps,
    correct: (userId, told) => queue.run(userId, () => correct(userId, told)),
  });

  function tell(topic: string, message: PresenceMessage, cause?: Cause): void {
    const userId = userOf(topic);
    const look = lookAfter(message.type, message.payload)!;
    publish(topic, message, { reach: shown.note(userId, look) ? "everywhere" : "elsewhere", cause });
    // Another node may have said something else at the same moment, and be heard first or last.
    corrections.add([userId], look);
  }

  function refuseUnlessWhole(userIds: string[]): void {
    if (registry.isWhole?.(userIds) === false) throw unreadable();
  }

  async function correct(userId: string, told: Told): Promise<void> {
    // What is held back is told in a moment, and looked at again after it.
    if (isHeldBack(userId)) return corrections.add([userId], told);
    refuseUnlessWhole([]);
    const { status: byHand = null, lastSeenAt = null } = (await statuses.get([userId])).get(userId) ?? {};
    // The devices last, and only where the whole cluster's are known.
    const devices = (await registry.devicesOf([userId])).get(userId) ?? [];
    refuseUnlessWhole([userId]);
    const view = shownToOthers(devices, byHand);
    const look = lookOf(view);
    if (look === "offline" && registry.isSettled?.() === false) return corrections.add([userId], told);
    const topic = presenceTopic(userId);
    if (told !== undefined && told !== look) return tell(topic, messageOf(userId, { view, lastSeenAt, at: now() }));
    if (!shown.isElse(userId, look)) return;
    shown.note(userId, look);
    publish(topic, messageOf(userId, { view, lastSeenAt, at: now() }), { reach: "here" });
    // Something newer may have been shown while this was read.
    corrections.add([userId]);
  }

  return {
    tell,
    hear({ topic, type, payload }) {
      const look = lookAfter(type, JSON.parse(payload) as object);
      return look === null || shown.note(userOf(topic), look);
    },
    noteShown(viewer, views) {
      for (const { user_id, status, status_text: text = null, status_emoji: emoji = null } of views) {
        if (user_id === viewer) continue;
        if (!shown.noteSnapshot(user_id, lookOf({ status, text, emoji }))) corrections.add([user_id]);
      }
    },
    doubt: (userIds) => corrections.add(userIds, unknown),
    doubtHere: (userIds = shown.users()) => corrections.add(userIds),
    forgetUnwatched: () => shown.sweep(),
    stop: () => corrections.stop(),
  };
}
