/** Reads what a new subscriber is told of the present: its place in conversations, who types, who is there, which calls are on [REC3] [TYP2] [PRE5] [CALL7]. */
import type { CallView, PresenceView, Snapshot } from "../protocol/server.ts";
import type { ReceiptStore } from "../storage/ports.ts";
import type { SnapshotFence } from "./snapshot-fence.ts";
import type { Subscriber } from "./subscriber.ts";
import { presenceTopic, type Topic, type TopicKind } from "./topic.ts";

export interface SnapshotSources {
  receipts: Pick<ReceiptStore, "states">;
  typing: { snapshot(conversationId: string, exceptUserId: string): NonNullable<Snapshot["typing"]> };
  presence: {
    snapshotOf(viewer: string, userIds: string[]): Promise<Map<string, PresenceView>>;
    noteShown(viewer: string, views: Iterable<PresenceView>): void;
  };
  /** Null where it cannot be told. */
  calls: { snapshotOf(device: { userId: string; deviceId: string }): Promise<CallView[] | null> };
  fence: SnapshotFence;
}

export function createSnapshots({ receipts, typing, presence, calls, fence }: SnapshotSources) {
  /**
   * By topic. Whoever comes or goes meanwhile has an event sent first, and this must not take it back: nothing is
   * waited for after it, so what is `meanwhile` waited for comes first.
   */
  const viewsFor = (subscriber: Subscriber, { users, meanwhile }: { users: string[]; meanwhile: Promise<unknown> }) =>
    fence.read(users.map(presenceTopic), async (topics) => {
      const asked = topics.map((topic) => topic.slice(presenceTopic("").length));
      // Read again and again while many come and go; not for somebody who has gone.
      if (subscriber.isClosed) return new Map();
      const [views] = await Promise.all([presence.snapshotOf(subscriber.userId, asked), meanwhile]);
      return new Map([...views].map(([user, view]) => [presenceTopic(user), view]));
    });

  return async (subscriber: Subscriber, topics: Topic[]): Promise<Map<string, Snapshot>> => {
    const { userId, deviceId } = subscriber;
    const keysOf = (kind: TopicKind) => topics.flatMap((topic) => (topic.kind === kind ? [topic.key] : []));
    const [conversations, users] = [keysOf("conversation"), keysOf("presence")];
    const asksCalls = topics.some(({ kind }) => kind === "calls");
    const meanwhile = Promise.all([
      conversations.length === 0 ? null : receipts.states(userId, conversations),
      asksCalls ? calls.snapshotOf({ userId, deviceId }) : null,
    ]);
    const views = await viewsFor(subscriber, { users, meanwhile });
    presence.noteShown(userId, views.values());
    const [places, callViews] = await meanwhile;
    const snapshots = new Map<string, Snapshot>();
    for (const { name, kind, key } of topics) {
      if (kind === "conversation") {
        const place = places?.get(key) ?? { readSeq: 0, deliveredSeq: 0, unread: 0 };
        snapshots.set(name, { read_seq: place.readSeq, delivered_seq: place.deliveredSeq, unread: place.unread });
      } else if (kind === "typing") {
        snapshots.set(name, { typing: typing.snapshot(key, userId) });
      } else if (kind === "presence") {
        const view = views.get(name);
        if (view !== undefined) snapshots.set(name, { presence: view });
      } else if (kind === "calls" && callViews !== null) {
        snapshots.set(name, { calls: callViews });
      }
    }
    return snapshots;
  };
}
