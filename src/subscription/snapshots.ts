/** Reads what a new subscriber is told of the present: how conversations stand and whether it may write there, who types, who is there, which calls are on [REC3] [TYP2] [PRE5] [CALL7]. */
import type { DirectoryView } from "../directory/directory.ts";
import { type AtOnce, atOnce, got, onceThere, type Steps } from "../ground/at-once.ts";
import { nextTurn } from "../ground/next-turn.ts";
import type { WireFormat } from "../protocol/limits.ts";
import type { CallView, PresenceView, Snapshot } from "../protocol/server.ts";
import type { Topic } from "../protocol/topic.ts";
import type { Membership } from "../storage/directory-store.ts";
import type { FairQueue } from "../storage/fair-queue.ts";
import type { Overview, OverviewPage, OverviewStore } from "../storage/overview-store.ts";
import { namesPerQuestion } from "../storage/ports.ts";
import { shownEvent } from "./shown-event.ts";
import type { Subscriber } from "./subscriber.ts";

export interface SnapshotSources {
  /** Where a question waits for its turn among its user's. */
  questions: FairQueue;
  overviews: OverviewStore;
  directory: Pick<DirectoryView, "toldOfReceipts" | "membershipsAmong" | "rememberedMemberships">;
  /** Of the last messages and receipts of one answer: a slow client must be able to take it [CON7]. */
  listBytesMax: Record<WireFormat, number>;
  typing: { snapshot(conversationId: string, exceptUserId: string): NonNullable<Snapshot["typing"]> };
  presence: {
    prepareSnapshots(userIds: string[]): Promise<void>;
    snapshotOf(asker: { userId: string; connectionId: string }, userId: string): PresenceView;
  };
  /** Null where it cannot be told. */
  calls: { snapshotOf(device: { userId: string; deviceId: string }): AtOnce<CallView[] | null> };
}

/** Bytes of the last messages and receipts of one answer; what must be converted has fewer, for everybody waits for that. */
const listBytes: Record<WireFormat, number> = { json: 8 * 1024 * 1024, protobuf: 2 * 1024 * 1024 };

/**
 * Bytes of them that are read in one turn of their user: what others ask comes in between [LIM]. A last message and its
 * receipts are fewer.
 */
const pieceBytesMax = 1024 * 1024;

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

const noOverviews: ReadonlyMap<string, string> = new Map();
const noMemberships: ReadonlyMap<string, Membership> = new Map();

export function createSnapshots(sources: SnapshotSources) {
  const { questions, directory, typing, presence, calls } = sources;
  function* read(subscriber: Subscriber, topics: Topic[]): Steps<Snapshots> {
    const { userId, deviceId } = subscriber;
    const { conversations, users, asksCalls, passes } = wantedOf(topics, subscriber);
    const reading = conversations.length > 0 ? atOnce(readOverviews(sources, subscriber, conversations)) : noOverviews;
    const prepare = async () => questions.ask(subscriber, () => presence.prepareSnapshots(users));
    if (users.length > 0) yield Promise.all([reading, prepare()]);
    const overviews = reading instanceof Promise ? yield reading : reading;
    // Last, for a list takes long to read: changes of these are told meanwhile, and who is told goes by what comes last.
    const shown = overviews === noOverviews ? [] : [...overviews.keys()];
    const memberships =
      shown.length === 0
        ? noMemberships
        : (directory.rememberedMemberships(userId, shown) ??
          (yield* got(questions.ask(subscriber, () => directory.membershipsAmong(userId, shown)))));
    const asking = asksCalls ? calls.snapshotOf({ userId, deviceId }) : null;
    const callViews = asking instanceof Promise ? yield asking : asking;
    // Of what is asked nobody any more: a consequence of this turn's may be told of yet.
    if (passes) yield nextTurn();
    const snapshots: Snapshots = new Map();
    for (const { name, kind, key } of topics) {
      if (kind === "conversation") {
        const text = overviews.get(key);
        const mayWrite = memberships.get(key)?.mayWrite ?? true;
        if (text !== undefined) snapshots.set(name, { text: mayWrite ? `${text}}` : `${text},"may_write":false}` });
      } else if (kind === "typing") {
        snapshots.set(name, { typing: typing.snapshot(key, userId) });
      } else if (kind === "presence") {
        if (!subscriber.isClosed) snapshots.set(name, { presence: presence.snapshotOf(subscriber, key) });
      } else if (kind === "calls" && callViews !== null) {
        snapshots.set(name, { calls: callViews });
      }
    }
    return snapshots;
  }
  return (subscriber: Subscriber, topics: Topic[]): AtOnce<Snapshots> => atOnce(read(subscriber, topics));
}

/** Tells what is to be read for the topics; of who has gone nothing is that takes long. */
function wantedOf(topics: Topic[], { isClosed }: Subscriber) {
  const wanted = { conversations: [] as string[], users: [] as string[], asksCalls: false, passes: false };
  for (const { kind, key } of topics) {
    if (kind === "calls") wanted.asksCalls = true;
    else if (kind === "typing" || kind === "presence") wanted.passes = true;
    if (kind === "conversation" && !isClosed) wanted.conversations.push(key);
    if (kind === "presence" && !isClosed) wanted.users.push(key);
  }
  return wanted;
}

/**
 * Reads a piece at a time, each in its turn and by one question, and writes it before the next one.
 * @returns the JSON text of each, left open for what is known last
 */
function* readOverviews(
  { questions, overviews: store, directory, listBytesMax }: SnapshotSources,
  subscriber: Subscriber,
  conversationIds: string[],
): Steps<Map<string, string>> {
  const texts = new Map<string, string>();
  const { userId, format } = subscriber;
  let told: Set<string> | null = null;
  let room = listBytesMax[format];
  let left = conversationIds;
  let count: number = namesPerQuestion;
  while (left.length > 0) {
    const piece = left.slice(0, count);
    const bytesMax = Math.min(room, pieceBytesMax);
    const readPiece = (areTold: Set<string>): AtOnce<OverviewPage> => {
      told = areTold;
      const conversations = piece.map((conversationId) => ({ conversationId, isTold: areTold.has(conversationId) }));
      return store.read({ userId, conversations, bytesMax });
    };
    const reading = questions.ask(subscriber, () =>
      onceThere(told ?? directory.toldOfReceipts(conversationIds), readPiece),
    );
    const { overviews, bytes, beyond } = reading instanceof Promise ? yield reading : reading;
    for (const [conversationId, overview] of overviews) texts.set(conversationId, textOf(overview));
    // Of what is beyond the answer the rest is left out, also what is small.
    const isFull = beyond.length > 0 && bytesMax === room;
    room = isFull ? 0 : room - bytes;
    const isCut = beyond.length > 0 && !isFull;
    left = isCut ? [...beyond, ...left.slice(piece.length)] : left.slice(piece.length);
    // Looks at hardly more than have room: the others were looked at in vain.
    count = isCut ? Math.ceil(1.25 * (piece.length - beyond.length)) : Math.min(namesPerQuestion, 2 * count);
  }
  return texts;
}

function textOf({ asOfSeq, readSeq, deliveredSeq, unread, lastMessage, receipts }: Overview): string {
  let text = `{"as_of_seq":${asOfSeq},"read_seq":${readSeq},"delivered_seq":${deliveredSeq},"unread":${unread}`;
  if (lastMessage !== undefined) text += `,"last_message":${lastMessage === null ? "null" : shownEvent(lastMessage)}`;
  if (receipts !== undefined) text += `,"receipts":${receipts}`;
  return text;
}
