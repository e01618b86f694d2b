/** Makes the ports of storage of what the worker of the SQLite file answers: pages long questions, so that others get their turn in between. */
import { type AtOnce, atOnce, onceThere, type Steps } from "../../ground/at-once.ts";
import { pages } from "../../ground/pages.ts";
import type { ConversationStore } from "../conversation-store.ts";
import { BeingErased, type Directory } from "../directory-store.ts";
import type { ErasureStore } from "../erasure-store.ts";
import { emptyOverview, type OverviewPage, type OverviewQuery, type OverviewStore } from "../overview-store.ts";
import type { CursorStore, EventLog, ReceiptStore, StatusStore, TopicHead } from "../ports.ts";
import type { PushStore } from "../push-store.ts";
import type { StoredStatus } from "../status-store.ts";
import type { PeersPosition } from "./directory.ts";
import type { DirectoryWatch } from "./directory-watch.ts";
import type { Operations } from "./engine.ts";
import type { HeadEntries } from "./event-log.ts";
import type { OverviewRows } from "./overviews.ts";
import type { ReceiptStateEntries } from "./receipts.ts";
import type { WorkerCalls } from "./worker-calls.ts";

/** The worker, with what is small answered before it. */
export interface WorkerCaller extends Pick<WorkerCalls, "call"> {
  /** Calls it; what is answered before it is there at once. */
  ask<Name extends keyof Operations>(
    operation: Name,
    ...values: Parameters<Operations[Name]>
  ): AtOnce<ReturnType<Operations[Name]>>;
  /** Gives what is answered before it; undefined: it has to be called. */
  here<Name extends keyof Operations>(
    operation: Name,
    ...values: Parameters<Operations[Name]>
  ): { value: ReturnType<Operations[Name]> } | undefined;
}

/** Conversations whose unread messages are counted by one call: other calls get their turn in between. */
const statesPerCall = 50;

/** Conversations that are looked at by one call: other calls get their turn in between. */
const overviewsPerCall = 250;

/** Conversations whose members are counted by one call. */
const countsPerCall = 500;

export function createEventLog(calls: WorkerCaller, now: () => number): Omit<EventLog, "append" | "epochs" | "note"> {
  function* heads(topics: string[]): Steps<Map<string, TopicHead>> {
    const asked = [...new Set(topics)];
    const answer = calls.ask("heads", asked);
    return toHeads(asked, answer instanceof Promise ? yield answer : answer);
  }
  return {
    find: (once) => calls.call("find", once),
    async replay({ topics, ...rest }) {
      const asked = [...new Set(topics)];
      const { heads, ...page } = await calls.call("replay", { topics: asked, ...rest });
      return { ...page, heads: toHeads(asked, heads) };
    },
    range: (query) => calls.call("range", query),
    page: (query) => calls.call("page", query),
    pageOf: (query) => calls.call("pageOf", query),
    feed: (query) => calls.call("feed", query),
    heads: (topics) => atOnce(heads(topics)),
    headsNow(topics) {
      const asked = [...new Set(topics)];
      const found = calls.here("heads", asked);
      return found === undefined ? null : toHeads(asked, found.value);
    },
    movedSince: (position, limit) => calls.call("movedSince", position, limit),
    movedAmong: (query) => calls.call("movedAmong", query),
    watermark: () => calls.call("watermark"),
    trim: (policy) => calls.call("trim", policy, now()),
    stats: () => calls.call("stats"),
  };
}

function toHeads(topics: string[], entries: HeadEntries): Map<string, TopicHead> {
  const heads = new Map<string, TopicHead>(entries);
  for (const topic of topics) {
    if (!heads.has(topic)) heads.set(topic, { seq: 0, position: 0, trimmedPosition: 0 });
  }
  return heads;
}

export function createReceiptStore(calls: WorkerCaller, now: () => number): ReceiptStore {
  return {
    advance: (marks) => calls.call("advance", marks, now()),
    unsent: (query, messageIdsMax) => calls.call("unsent", query, messageIdsMax),
    passOver: (tellings) => calls.call("passOver", tellings),
    async states(userId, conversationIds) {
      const asked = [...new Set(conversationIds)];
      const states = new Map(asked.map((id) => [id, { asOfSeq: 0, readSeq: 0, deliveredSeq: 0, unread: 0 }]));
      for (const page of pages(asked, statesPerCall)) {
        const found: ReceiptStateEntries = await calls.call("receiptStates", userId, page);
        for (const [conversationId, state] of found) states.set(conversationId, state);
      }
      return states;
    },
  };
}

export function createOverviewStore(calls: WorkerCaller): OverviewStore {
  function* readInParts({ conversations, bytesMax, userId }: OverviewQuery): Steps<OverviewPage> {
    const page: OverviewPage = { overviews: new Map(), bytes: 0, beyond: [] };
    for (const some of pages(conversations, overviewsPerCall)) {
      const query = { userId, conversations: some, bytesMax: page.beyond.length > 0 ? -1 : bytesMax - page.bytes };
      const answer = calls.ask("overviews", query);
      const { overviews, bytes, beyond } = pageOf(query, answer instanceof Promise ? yield answer : answer);
      for (const [conversationId, overview] of overviews) page.overviews.set(conversationId, overview);
      page.bytes += bytes;
      page.beyond.push(...beyond);
    }
    return page;
  }
  return {
    read(query) {
      if (query.conversations.length > overviewsPerCall) return atOnce(readInParts(query));
      return onceThere(calls.ask("overviews", query), (rows) => pageOf(query, rows));
    },
  };
}

function pageOf({ conversations }: OverviewQuery, { entries, bytes, beyond }: OverviewRows): OverviewPage {
  const overviews = new Map(entries);
  for (const { conversationId, isTold } of conversations)
    if (!overviews.has(conversationId)) overviews.set(conversationId, emptyOverview(isTold));
  return { overviews, bytes, beyond };
}

export function createCursorStore(calls: WorkerCaller, now: () => number): CursorStore {
  return {
    acknowledge: (acknowledgements) => calls.call("acknowledge", acknowledgements, now()),
    seen: (devices, withinMs) => calls.call("seen", devices, { now: now(), notedBefore: now() - withinMs }),
    forget: (seenBefore, limit) => calls.call("forget", seenBefore, limit),
    acknowledged: (userId, deviceId) => calls.call("acknowledged", userId, deviceId),
  };
}

export function createStatusStore(calls: WorkerCaller): StatusStore {
  function* get(userIds: string[]): Steps<Map<string, StoredStatus>> {
    const answer = calls.ask("getStatuses", [...new Set(userIds)]);
    const known = answer instanceof Promise ? yield answer : answer;
    return new Map([...userIds.map((userId) => [userId, { status: null, lastSeenAt: null }] as const), ...known]);
  }
  return {
    set: (userId, status) => calls.call("setStatus", userId, status),
    get: (userIds) => atOnce(get(userIds)),
    setLastSeen: (userIds, at) => calls.call("setLastSeen", userIds, at),
    clearExpired: (expiredBy, limit) => calls.call("clearExpired", expiredBy, limit),
    keepPresent: (present) => calls.call("keepPresent", present),
    takePresent: (limit) => calls.call("takePresent", limit),
  };
}

export function createPushStore(calls: WorkerCaller, now: () => number): PushStore {
  return {
    begin: (place) => calls.call("beginPush", place),
    hasBegun: () => calls.call("hasPushBegun"),
    forget: () => calls.call("forgetPush"),
    take: (lease) => calls.call("takePush", lease, now()),
    move: (holder, place) => calls.call("movePush", holder, place),
    release: (holder) => calls.call("releasePush", holder),
    lag: () => calls.call("pushLag"),
    standing: async (positions) => new Set(await calls.call("standing", positions)),
    receivedThrough: (users) => calls.call("receivedThrough", users),
    acknowledgedBy: (userIds) => calls.call("acknowledgedBy", userIds),
  };
}

export function createConversationStore(calls: WorkerCaller): ConversationStore {
  return {
    setRetention: (conversationId, retentionMs) => calls.call("setRetention", conversationId, retentionMs),
    expire: ({ after, now }) => calls.call("expire", { after, now }),
  };
}

export function createErasureStore(
  calls: WorkerCaller,
  { now, onFinished }: { now: () => number; onFinished: () => void },
): ErasureStore {
  return {
    request: (erasure) => calls.call("requestErasure", erasure),
    find: (userId) => calls.call("findErasure", userId),
    running: () => calls.call("runningErasures"),
    claim: (lease) => calls.call("claimErasure", lease),
    keep: (job, dueInMs) => calls.call("keepErasure", job, now() + dueInMs),
    async finish(job, at) {
      const isOurs = await calls.call("finishErasure", job, at);
      onFinished();
      return isOurs;
    },
    forget: (finishedBefore, limit) => calls.call("forgetErasures", finishedBefore, limit),
    removeRows: (rows, userId, after) => calls.call("removeRows", rows, userId, after),
    naming: (query) => calls.call("naming", query),
    reactionsOf: (userId) => calls.call("reactionsOf", userId),
    forgetEvents: (events) => calls.call("forgetEvents", events),
    rewrite: (event, payload) => calls.call("rewrite", event, payload),
  };
}

export function createDirectory({
  calls,
  watch,
  now,
}: {
  calls: WorkerCaller;
  watch: DirectoryWatch;
  now: () => number;
}): Directory {
  // This node's own changes are told at once, before the call that made them resolves.
  const andTell = async <Written>(write: Promise<Written>): Promise<Written> => {
    const written = await write.catch((error: { code?: unknown }) => {
      throw error.code === "SQLITE_CONSTRAINT_TRIGGER" ? new BeingErased({ cause: error }) : error;
    });
    await watch.look();
    return written;
  };
  return {
    userState: (userId) => calls.ask("userState", userId, now()),
    standingOf: (userId) => calls.call("standingOf", userId, now()),
    block: (userId, untilMs) => calls.call("block", userId, Math.ceil(untilMs), now()),
    recheck: (userId) => andTell(calls.call("recheck", userId)),
    membershipsAmong: async (userId, conversationIds) =>
      new Map(await calls.call("membershipsAmong", userId, conversationIds)),
    membersAmong: async (conversationId, userIds) => new Map(await calls.call("membersAmong", conversationId, userIds)),
    membersPage: ({ conversationId, after = "", limit }) => calls.call("membersPage", conversationId, after, limit),
    membersOf: (conversationId, limit = -1) => calls.call("membersOf", conversationId, limit),
    membersOfEach: async (conversationIds, limit) => new Map(await calls.call("membersOfEach", conversationIds, limit)),
    memberCounts: async (conversationIds, most) => {
      const counts = new Map<string, number>();
      for (const page of pages(conversationIds, countsPerCall))
        for (const [id, count] of await calls.call("memberCounts", page, most)) counts.set(id, count);
      return counts;
    },
    conversationsOf: (userId) => calls.call("conversationsOf", userId),
    async peersOf(userId, limit) {
      const peers = new Set<string>();
      let from: PeersPosition | null = { conversationId: "", after: "" };
      while (from !== null && peers.size <= limit) {
        const step: { ids: string[]; next: PeersPosition | null } = await calls.call("peersAfter", userId, from);
        for (const id of step.ids) peers.add(id);
        from = step.next;
      }
      peers.delete(userId);
      return [...peers].slice(0, limit);
    },
    sharingWith: async (userId, userIds) => new Set(await calls.call("sharingWith", userId, userIds)),
    upsertUsers: (userIds) => andTell(calls.call("upsertUsers", userIds)),
    setDisabled: (userId, disabled) => andTell(calls.call("setDisabled", userId, disabled)),
    addMembers: (conversationId, userIds) => andTell(calls.call("addMembers", conversationId, userIds)),
    addMemberships: (userId, conversationIds) => andTell(calls.call("addMemberships", userId, conversationIds)),
    removeMembers: (conversationId, userIds) => andTell(calls.call("removeMembers", conversationId, userIds)),
    setMayWrite: ({ conversationId, userId }, mayWrite) =>
      andTell(calls.call("setMayWrite", conversationId, userId, mayWrite)),
    watch: (listener) => watch.add(listener),
  };
}
