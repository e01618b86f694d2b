/** Reads what a new subscriber is told of the present: how conversations stand and whether it may write there, who types, who is there, which calls are on [REC3] [TYP2] [PRE5] [CALL7]. */
import type { DirectoryView } from "../directory/directory.ts";
import { nextTurn } from "../ground/next-turn.ts";
import { pages } from "../ground/pages.ts";
import type { WireFormat } from "../protocol/limits.ts";
import type { CallView, PresenceView, Snapshot } from "../protocol/server.ts";
import type { Topic, TopicKind } from "../protocol/topic.ts";
import { type Overview, type OverviewStore, overviewsMax } from "../storage/overview-store.ts";
import { shownEvent } from "./shown-event.ts";
import type { Subscriber } from "./subscriber.ts";

export interface SnapshotSources {
  overviews: OverviewStore;
  directory: Pick<DirectoryView, "toldOfReceipts" | "membershipsAmong">;
  /** Of the last messages and receipts of one answer: a slow client must be able to take it [CON7]. */
  listBytesMax: Record<WireFormat, number>;
  typing: { snapshot(conversationId: string, exceptUserId: string): NonNullable<Snapshot["typing"]> };
  presence: {
    prepareSnapshots(userIds: string[]): Promise<void>;
    snapshotOf(asker: { userId: string; connectionId: string }, userId: string): PresenceView;
  };
  /** Null where it cannot be told. */
  calls: { snapshotOf(device: { userId: string; deviceId: string }): Promise<CallView[] | null> };
}

/** Bytes of the last messages and receipts of one answer; what must be converted has fewer, for everybody waits for that. */
const listBytes: Record<WireFormat, number> = { json: 8 * 1024 * 1024, protobuf: 2 * 1024 * 1024 };

/** Leaves as much room for what comes meanwhile, of the bytes that may wait for one client. */
export const listBytesMax = (bufferBytes: number): Record<WireFormat, number> => ({
  json: Math.min(listBytes.json, bufferBytes / 2),
  protobuf: Math.min(listBytes.protobuf, bufferBytes / 2),
});

/** One that is JSON text already: what is stored is passed on as it is. */
export interface WrittenSnapshot {
  text: string;
}

export type Snapshots = Map<string, Snapshot | WrittenSnapshot>;

export function createSnapshots(sources: SnapshotSources) {
  const { typing, presence, calls } = sources;
  return async (subscriber: Subscriber, topics: Topic[]): Promise<Snapshots> => {
    const { userId, deviceId } = subscriber;
    const keysOf = (kind: TopicKind) => topics.flatMap((topic) => (topic.kind === kind ? [topic.key] : []));
    const users = keysOf("presence");
    const asksCalls = topics.some(({ kind }) => kind === "calls");
    const [overviews, callViews] = await Promise.all([
      readOverviews(sources, subscriber, keysOf("conversation")),
      asksCalls ? calls.snapshotOf({ userId, deviceId }) : null,
      users.length === 0 || subscriber.isClosed ? null : presence.prepareSnapshots(users),
    ]);
    await nextTurn();
    const snapshots: Snapshots = new Map();
    for (const { name, kind, key } of topics) {
      if (kind === "conversation") {
        const text = overviews.get(key);
        if (text !== undefined) snapshots.set(name, { text });
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

/** Reads a page at a time, as many statements for any number of a page, and writes it before the next one. */
async function readOverviews(
  { overviews: store, directory, listBytesMax }: SnapshotSources,
  { userId, format, isClosed }: Subscriber,
  conversationIds: string[],
): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  if (isClosed || conversationIds.length === 0) return texts;
  // Memberships are known since it was asked who may hear them.
  const [told, memberships] = await Promise.all([
    directory.toldOfReceipts(conversationIds),
    directory.membershipsAmong(userId, conversationIds),
  ]);
  let bytesMax = listBytesMax[format];
  for (const page of pages(conversationIds, overviewsMax)) {
    const asked = page.map((conversationId) => ({ conversationId, isTold: told.has(conversationId) }));
    const { overviews, bytes } = await store.read({ userId, conversations: asked, bytesMax });
    bytesMax -= bytes;
    for (const [conversationId, overview] of overviews) {
      const mayWrite = memberships.get(conversationId)?.mayWrite ?? true;
      texts.set(conversationId, textOf(overview, mayWrite));
    }
  }
  return texts;
}

function textOf({ readSeq, deliveredSeq, unread, lastMessage, receipts }: Overview, mayWrite: boolean): string {
  let text = `{"read_seq":${readSeq},"delivered_seq":${deliveredSeq},"unread":${unread}`;
  if (!mayWrite) text += `,"may_write":false`;
  if (lastMessage !== undefined) text += `,"last_message":${lastMessage === null ? "null" : shownEvent(lastMessage)}`;
  if (receipts !== undefined) text += `,"receipts":${receipts}`;
  return `${text}}`;
}
