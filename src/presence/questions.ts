/** Answers how users are, to who asks and to who subscribes, and no more than can be known [PRE4] [PRE5]. */
import type { PresenceRegistry } from "../cluster/ports.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { PresenceView } from "../protocol/server.ts";
import type { StatusStore } from "../storage/ports.ts";
import { viewForOthers, viewForSelf, viewOfUnseen } from "./view.ts";

export interface QuestionsDeps {
  registry: Pick<PresenceRegistry, "devicesOf" | "isWhole">;
  statuses: Pick<StatusStore, "get">;
  /** Others are told how these are once that is known. */
  tellLater(userIds: string[]): void;
}

export interface Questions {
  /**
   * One view for each user asked for; who is not in `mayBeSeen` reads as offline. Oneself is told the truth [PRE4].
   * @throws ProtocolError `unavailable` where one of them may be on a node that cannot be asked about now
   */
  query(viewer: string, userIds: string[], mayBeSeen: Set<string>): Promise<PresenceView[]>;
  /**
   * The views of users who may be seen, for the answer to a subscription [PRE5]. Who may be on a node that cannot be asked
   * about now is offline in it without `last_seen`, and told of later.
   */
  snapshotOf(viewer: string, userIds: string[]): Promise<Map<string, PresenceView>>;
}

export function createQuestions({ registry, statuses, tellLater }: QuestionsDeps): Questions {
  async function devicesOf(userIds: string[]) {
    const found = await registry.devicesOf(userIds);
    return { found, isWhole: registry.isWhole?.(userIds) !== false };
  }

  /** `unknown`: whether somebody is shown as offline who may be on another node. */
  async function viewsOf(viewer: string, userIds: string[], mayBeSeen: (userId: string) => boolean) {
    const views = new Map<string, PresenceView>();
    for (const userId of userIds) views.set(userId, viewOfUnseen(userId));
    const seen = [...views.keys()].filter((userId) => userId === viewer || mayBeSeen(userId));
    if (seen.length === 0) return { views, isWhole: true, unknown: false };
    const [{ found, isWhole }, stored] = await Promise.all([devicesOf(seen), statuses.get(seen)]);
    let unknown = false;
    for (const userId of seen) {
      const { status: byHand = null, lastSeenAt = null } = stored.get(userId) ?? {};
      const facts = { userId, devices: found.get(userId) ?? [], byHand, lastSeenAt };
      if (userId === viewer) {
        const { devices, ...view } = viewForSelf(facts);
        views.set(userId, isWhole ? { ...view, devices } : view);
        continue;
      }
      const view = viewForOthers(facts);
      // Also of somebody invisible who is here: nobody may tell the two apart.
      const mayBeElsewhere = !isWhole && view.status === "offline";
      unknown ||= mayBeElsewhere;
      if (!mayBeElsewhere) views.set(userId, view);
    }
    return { views, isWhole, unknown };
  }

  return {
    async query(viewer, userIds, mayBeSeen) {
      const { views, unknown } = await viewsOf(viewer, userIds, (userId) => mayBeSeen.has(userId));
      if (unknown) {
        throw new ProtocolError("unavailable", "Who is on other nodes cannot be known right now.", {
          retryAfterMs: 1_000,
        });
      }
      return [...views.values()];
    },
    async snapshotOf(viewer, userIds) {
      const { views, isWhole } = await viewsOf(viewer, userIds, () => true);
      // What other nodes know is missing in it, and nothing that happens would correct it.
      if (!isWhole) tellLater(userIds);
      return views;
    },
  };
}
