/** Names what each part of a node counts, as `admin.stats`, the metrics and the console show it [ADM1]. */

/** Lists the stats of one node; a part that is away has none. The names are those of the wire. */
export type NodeStats = {
  hub: { connections: number; authenticated: number; users: number; accepted: number };
  subscriptions: {
    subscribes: number;
    catching_up: number;
    replayed_events: number;
    replays_read: number;
    feeds: number;
    fed_events: number;
    feed_behind: number;
  };
  /** `users` and `devices` of the whole cluster. */
  presence: Partial<{ users: number; devices: number; leaving: number; held_back: number }>;
  /** `calls` of the whole cluster, ended ones included; `due_failures`: deadlines that were left for later. */
  calls: Partial<{ calls: number; offered: number; ended: number; due_failures: number }>;
  log: Partial<{ events: number; topics: number; position: number; held_ms: number }> & {
    waiting: number;
    epoch: number;
    losses: number;
  };
  sequencer: { topics: number; waiting: number; position: number; recent_bytes: number };
  typing: { typing: number };
  /** Users who are being erased, on the whole cluster. */
  erasure: Partial<{ running: number }>;
  sessions: { cleaning_up: number };
  /** A bus that carries nothing has none. */
  cluster: Partial<BusStats>;
  ingest: IngestStats;
  /**
   * Whether missed events are looked for (`on`) and this node does so (`turn`), how many it has `told` since it started, of how
   * many `users`; and for the whole cluster how many positions of the log it is `behind`, and how old the oldest event there is.
   */
  push: Partial<{ on: number; turn: number; told: number; users: number; behind: number; oldest_ms: number }>;
};

export type BusStats = { topics: number; dropped: number; malformed: number };

export type IngestWay = "outbox" | "stream";

/**
 * Says of each inbox whether this node holds the lease (`turn`, 1 or 0), what this node has `published` and `rejected` since
 * it started, and, unless the inbox is away, how many entries are `waiting` for the whole cluster and how old the oldest is.
 */
export type IngestStats = {
  [Name in `${IngestWay}_${"turn" | "published" | "rejected" | "waiting" | "oldest_ms"}`]?: number;
};

/** Holds the stats of a node of any version, as they travel. */
export type AnyStats = Record<string, Record<string, number>>;

/** Leaves out what is not there. */
export function toAnyStats(stats: NodeStats): AnyStats {
  const parts = Object.entries(stats).map(([part, counts]) => {
    const present = Object.entries(counts).filter(([, count]) => count !== undefined);
    return [part, Object.fromEntries(present)] as const;
  });
  return Object.fromEntries(parts);
}
