/** Stands for a connection in tests of what is made of its news: it tells what a test says, and remembers what it was asked. */
import type { ConnectionState, Core, News, Outbox, OutboxEntry, Subscribed } from "../../src/client/core.ts";

export interface QuietCore extends Core {
  tell(news: News): void;
  go(state: ConnectionState): void;
  /** Requests, in the order in which they came; nobody answers them. */
  readonly requests: { type: string; payload: any }[];
  /** Topics that are followed. */
  readonly followed: string[][];
  /** Answers the first follow that waits. */
  answer(subscribed: Subscribed): void;
}

export function quietCore(userId = "me"): QuietCore {
  const newsListeners = new Set<(news: News) => void>();
  const stateListeners = new Set<(state: ConnectionState) => void>();
  const outboxListeners = new Set<() => void>();
  const entries: OutboxEntry[] = [];
  const waiting: ((subscribed: Subscribed) => void)[] = [];
  const changed = () => {
    for (const listener of outboxListeners) listener();
  };
  const outbox: Outbox = {
    entries,
    onChange(listener) {
      outboxListeners.add(listener);
      return () => outboxListeners.delete(listener);
    },
    async add(type, payload, id = `entry ${entries.length}`) {
      const entry = { id, type, payload, createdAt: 0, state: "pending" as const };
      entries.push(entry as OutboxEntry);
      changed();
      return entry as OutboxEntry;
    },
    replace: async () => false,
    retry: async () => {},
    discard: async () => {},
  };
  const core = {
    userId,
    deviceId: "here",
    isLead: true,
    state: { status: "live" } as ConnectionState,
    requests: [] as { type: string; payload: any }[],
    followed: [] as string[][],
    outbox,
    onState(listener: (state: ConnectionState) => void) {
      stateListeners.add(listener);
      return () => stateListeners.delete(listener);
    },
    onNews(listener: (news: News) => void) {
      newsListeners.add(listener);
      return () => newsListeners.delete(listener);
    },
    request(type: string, payload: any) {
      core.requests.push({ type, payload });
      return new Promise<never>(() => {});
    },
    follow(topics: string[]) {
      core.followed.push(topics);
      return { ready: new Promise<Subscribed>((resolve) => waiting.push(resolve)), stop: () => {} };
    },
    keep() {},
    start() {},
    stop() {},
    async signOut() {},
    tell(news: News) {
      for (const listener of newsListeners) listener(news);
    },
    go(state: ConnectionState) {
      core.state = state;
      for (const listener of stateListeners) listener(state);
    },
    answer(subscribed: Subscribed) {
      waiting.shift()!(subscribed);
    },
  };
  return core as unknown as QuietCore;
}
