/** Remembers what this node has last shown of the users who are watched here: only what differs from it is news [PRE1] [PRE3]. */
import type { ServerPayload } from "../protocol/server.ts";

/** What others see of a user, for comparison. */
export type Look = string;

export interface ShownHere {
  /** An event is about to reach those who watch the user here. @returns whether they see a difference */
  note(userId: string, look: Look): boolean;
  /** Somebody new is shown the user. @returns false where others here were shown something else, and are to be shown how it is */
  noteSnapshot(userId: string, look: Look): boolean;
  /** Whether somebody here may take the user for something else. */
  isElse(userId: string, look: Look): boolean;
  /** Everybody who is watched here. */
  users(): string[];
  /** Drops those whom nobody watches any more. */
  sweep(): void;
}

interface Seen {
  status: string;
  text: string | null;
  emoji: string | null;
}

export const lookOf = ({ status, text, emoji }: Seen): Look =>
  // Whoever is offline shows nothing else.
  status === "offline" ? status : [status, text, emoji].join(" ");

/** What others take a user for after an event about it; null: it says nothing of that. */
export function lookAfter(type: string, payload: object): Look | null {
  switch (type) {
    case "presence.offline":
      return "offline";
    case "presence.online":
    case "presence.update": {
      const {
        status,
        status_text: text = null,
        status_emoji: emoji = null,
      } = payload as ServerPayload<"presence.online">;
      // Backends may say on the topic what they like.
      return typeof status === "string" ? lookOf({ status, text, emoji }) : null;
    }
    default:
      return null;
  }
}

/** @param watchersOf how many subscriptions to the user's presence there are on this node */
export function createShownHere(watchersOf: (userId: string) => number): ShownHere {
  /** Null: not everybody here was shown the same. One entry for each user watched since the last sweep. */
  const looks = new Map<string, Look | null>();

  return {
    note(userId, look) {
      if (looks.get(userId) === look) return false;
      if (watchersOf(userId) > 0) looks.set(userId, look);
      else looks.delete(userId);
      return true;
    },
    noteSnapshot(userId, look) {
      const before = looks.get(userId);
      if (before === look) return true;
      // An event that says the same may be on its way to those who were shown something else.
      looks.set(userId, before === undefined ? look : null);
      // Where it alone watches it has been shown what is so; whoever was shown something else has gone.
      return before === undefined || watchersOf(userId) <= 1;
    },
    isElse: (userId, look) => looks.has(userId) && looks.get(userId) !== look,
    users: () => [...looks.keys()],
    sweep() {
      for (const userId of looks.keys()) if (watchersOf(userId) === 0) looks.delete(userId);
    },
  };
}
