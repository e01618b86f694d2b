/** Reads what a new subscriber is told of the present: its place in conversations and whether it may write there, who types, who is there, which calls are on [REC3] [TYP2] [PRE5] [CALL7]. */

import type { DirectoryView } from "../directory/directory.ts";
import { nextTurn } from "../ground/next-turn.ts";
import type { CallView, PresenceView, Snapshot } from "../protocol/server.ts";
import type { Topic, TopicKind } from "../protocol/topic.ts";
import type { ReceiptStore } from "../storage/ports.ts";
import type { Subscriber } from "./subscriber.ts";

export interface SnapshotSources {
  receipts: Pick<ReceiptStore, "states">;
  directory: Pick<DirectoryView, "membershipsAmong">;
  typing: { snapshot(conversationId: string, exceptUserId: string): NonNullable<Snapshot["typing"]> };
  presence: {
    prepareSnapshots(userIds: string[]): Promise<void>;
    snapshotOf(asker: { userId: string; connectionId: string }, userId: string): PresenceView;
  };
  /** Null where it cannot be told. */
  calls: { snapshotOf(device: { userId: string; deviceId: string }): Promise<CallView[] | null> };
}

export function createSnapshots({ receipts, directory, typing, presence, calls }: SnapshotSources) {
  return async (subscriber: Subscriber, topics: Topic[]): Promise<Map<string, Snapshot>> => {
    const { userId, deviceId } = subscriber;
    const keysOf = (kind: TopicKind) => topics.flatMap((topic) => (topic.kind === kind ? [topic.key] : []));
    const [conversations, users] = [keysOf("conversation"), keysOf("presence")];
    const asksCalls = topics.some(({ kind }) => kind === "calls");
    const [places, memberships, callViews] = await Promise.all([
      conversations.length === 0 ? null : receipts.states(userId, conversations),
      // Known since it was asked who may hear them.
      conversations.length === 0 ? null : directory.membershipsAmong(userId, conversations),
      asksCalls ? calls.snapshotOf({ userId, deviceId }) : null,
      users.length === 0 || subscriber.isClosed ? null : presence.prepareSnapshots(users),
    ]);
    await nextTurn();
    const snapshots = new Map<string, Snapshot>();
    for (const { name, kind, key } of topics) {
      if (kind === "conversation") {
        const place = places?.get(key) ?? { readSeq: 0, deliveredSeq: 0, unread: 0 };
        const mayWrite = memberships?.get(key)?.mayWrite ?? true;
        snapshots.set(name, {
          read_seq: place.readSeq,
          delivered_seq: place.deliveredSeq,
          unread: place.unread,
          ...(mayWrite ? {} : { may_write: false }),
        });
      } else if (kind === "typing") {
        snapshots.set(name, { typing: typing.snapshot(key, userId) });
      } else if (kind === "presence") {
        if (!subscriber.isClosed) snapshots.set(name, { presence: presence.snapshotOf(subscriber, key) });
      } else if (kind === "calls" && callViews !== null) {
        snapshots.set(name, { calls: callViews });
      }
    }
    return snapshots;
  };
}
