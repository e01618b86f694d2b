/** Answers how users are, to who asks and to who subscribes [PRE4] [PRE5]. */
import type { PresenceRegistry } from "../cluster/ports.ts";
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
  /** One view for each user asked for; who is not in `mayBeSeen` reads as offline. Oneself is told the truth [PRE4]. */
  query(viewer: string, userIds: string[], mayBeSeen: Set<string>): Promise<PresenceView[]>;
  /** The views of users who may be seen, for the answer to a subscription [PRE5]. */
  snapshotOf(viewer: string, userIds: string[]): Promise<Map<string, PresenceView>>;
}

export function createQuestions({ registry, statuses, tellLater }: QuestionsDeps): Questions {
  async function viewsOf(viewer: string, userIds: string[], mayBeSeen: (userId: string) => boolean) {
    const seen = [...new Set(userIds)].filter((userId) => userId === viewer || mayBeSeen(userId));
    const [devices, stored] =
      seen.length === 0 ? [] : await Promise.all([registry.devicesOf(seen), statuses.get(seen)]);
    const views = new Map<string, PresenceView>();
    for (const userId of userIds) views.set(userId, viewOfUnseen(userId));
    for (const userId of seen) {
      const { status: byHand = null, lastSeenAt = null } = stored?.get(userId) ?? {};
      const facts = { userId, devices: devices?.get(userId) ?? [], byHand, lastSeenAt };
      views.set(userId, userId === viewer ? viewForSelf(facts) : viewForOthers(facts));
    }
    return views;
  }

  return {
    query: async (viewer, userIds, mayBeSeen) =>
      Array.from((await viewsOf(viewer, userIds, (userId) => mayBeSeen.has(userId))).values()),
    async snapshotOf(viewer, userIds) {
      const views = await viewsOf(viewer, userIds, () => true);
      // What other nodes know is missing in it, and nothing that happens would correct it.
      if (registry.isWhole?.() === false) tellLater(userIds);
      return views;
    },
  };
}
