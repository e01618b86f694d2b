/** What a new subscriber is told of the present: its place in conversations, who types, who is there [REC3] [TYP2] [PRE5]. */
import type { PresenceView, Snapshot } from "../protocol/server.ts";
import type { ReceiptStore } from "../storage/ports.ts";
import type { Subscriber } from "./subscriber.ts";
import type { Topic, TopicKind } from "./topic.ts";

export interface SnapshotSources {
  receipts: Pick<ReceiptStore, "states">;
  typing: { snapshot(conversationId: string, exceptUserId: string): NonNullable<Snapshot["typing"]> };
  presence: { snapshotOf(viewer: string, userIds: string[]): Promise<Map<string, PresenceView>> };
}

export function createSnapshots({ receipts, typing, presence }: SnapshotSources) {
  return async ({ userId }: Subscriber, topics: Topic[]): Promise<Map<string, Snapshot>> => {
    const keysOf = (kind: TopicKind) => topics.flatMap((topic) => (topic.kind === kind ? [topic.key] : []));
    const [conversations, users] = [keysOf("conversation"), keysOf("presence")];
    const [places, views] = await Promise.all([
      conversations.length === 0 ? null : receipts.states(userId, conversations),
      users.length === 0 ? null : presence.snapshotOf(userId, users),
    ]);
    const snapshots = new Map<string, Snapshot>();
    for (const { name, kind, key } of topics) {
      if (kind === "conversation") {
        const place = places?.get(key) ?? { readSeq: 0, deliveredSeq: 0, unread: 0 };
        snapshots.set(name, { read_seq: place.readSeq, delivered_seq: place.deliveredSeq, unread: place.unread });
      } else if (kind === "typing") {
        snapshots.set(name, { typing: typing.snapshot(key, userId) });
      } else if (kind === "presence") {
        const view = views?.get(key);
        if (view !== undefined) snapshots.set(name, { presence: view });
      }
    }
    return snapshots;
  };
}
