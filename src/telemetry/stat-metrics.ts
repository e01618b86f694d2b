/** Lists the metrics that show stats, and shows them as they are when somebody looks. */
import { Counter, Gauge, type Registry } from "prom-client";
import type { NodeStats } from "./stats.ts";

/** Names one stat; what no part counts does not compile. */
type Stat = { [Part in keyof NodeStats]: [part: Part, name: keyof NodeStats[Part] & string] }[keyof NodeStats];

export interface StatMetric {
  name: string;
  help: string;
  of: Stat;
  isCounter?: true;
  /** Prometheus wants seconds. */
  isMilliseconds?: true;
}

const ofParts: StatMetric[] = [
  { name: "ws_connections", help: "Open connections", of: ["hub", "connections"] },
  { name: "ws_connections_authenticated", help: "Open connections that are somebody's", of: ["hub", "authenticated"] },
  { name: "ws_users", help: "Users with a connection to this node", of: ["hub", "users"] },
  {
    name: "ws_connections_accepted_total",
    help: "Connections since the start",
    of: ["hub", "accepted"],
    isCounter: true,
  },
  {
    name: "ws_subscribes_total",
    help: "Subscriptions with new topics",
    of: ["subscriptions", "subscribes"],
    isCounter: true,
  },
  { name: "ws_catching_up", help: "Subscriptions under way", of: ["subscriptions", "catching_up"] },
  {
    name: "ws_replayed_events_total",
    help: "Events that were sent again",
    of: ["subscriptions", "replayed_events"],
    isCounter: true,
  },
  {
    name: "ws_replays_read_total",
    help: "Replays for which the log was asked, for not all of it was in memory",
    of: ["subscriptions", "replays_read"],
    isCounter: true,
  },
  { name: "ws_log_feeds", help: "Connections that are sent the whole log", of: ["subscriptions", "feeds"] },
  {
    name: "ws_log_feed_events_total",
    help: "Events that were sent to them",
    of: ["subscriptions", "fed_events"],
    isCounter: true,
  },
  {
    name: "ws_log_feed_behind",
    help: "Positions that the slowest of them is behind what was read of the log",
    of: ["subscriptions", "feed_behind"],
  },
  { name: "ws_sequencer_topics", help: "Logged topics heard on this node", of: ["sequencer", "topics"] },
  { name: "ws_sequencer_waiting", help: "Topics with events above a gap", of: ["sequencer", "waiting"] },
  {
    name: "ws_replay_memory_bytes",
    help: "Memory for events that whoever comes back is served out of",
    of: ["sequencer", "recent_bytes"],
  },
  { name: "ws_cursor_position", help: "Position up to which this node has published", of: ["sequencer", "position"] },
  { name: "ws_log_position", help: "Position of the log's last event", of: ["log", "position"] },
  { name: "ws_log_events", help: "Events in the log", of: ["log", "events"] },
  { name: "ws_log_topics", help: "Topics in the log", of: ["log", "topics"] },
  { name: "ws_log_epoch", help: "Epochs that the log has had, of which this is the newest", of: ["log", "epoch"] },
  { name: "ws_log_losses", help: "Epochs that began because the log had lost events", of: ["log", "losses"] },
  {
    name: "ws_log_held_seconds",
    help: "For how long appends under way have held everybody's cursor where it is",
    of: ["log", "held_ms"],
    isMilliseconds: true,
  },
  { name: "ws_erasures", help: "Users who are being erased, on the whole cluster", of: ["erasure", "running"] },
  { name: "ws_log_waiting", help: "Events that wait for the log", of: ["log", "waiting"] },
  { name: "ws_presence_users", help: "Users who are connected, on the whole cluster", of: ["presence", "users"] },
  {
    name: "ws_presence_devices",
    help: "Devices that are connected, on the whole cluster",
    of: ["presence", "devices"],
  },
  { name: "ws_typing", help: "Users who type, known to this node", of: ["typing", "typing"] },
  { name: "ws_calls", help: "Calls that are known, on the whole cluster", of: ["calls", "calls"] },
  { name: "ws_calls_offered_total", help: "Calls offered on this node", of: ["calls", "offered"], isCounter: true },
  { name: "ws_calls_ended_total", help: "Calls ended by this node", of: ["calls", "ended"], isCounter: true },
  { name: "ws_cleaning_up", help: "Disconnects that are being cleaned up", of: ["sessions", "cleaning_up"] },
  { name: "ws_bus_topics", help: "Topics that this node hears on the bus", of: ["cluster", "topics"] },
  {
    name: "ws_bus_dropped_total",
    help: "Messages that the bus could not take",
    of: ["cluster", "dropped"],
    isCounter: true,
  },
  {
    name: "ws_bus_malformed_total",
    help: "Messages from the bus that made no sense",
    of: ["cluster", "malformed"],
    isCounter: true,
  },
];

/** Counts what backends are told of having been missed [BAK3]. */
const ofPush: StatMetric[] = [
  { name: "ws_push_on", help: "Whether missed events are looked for", of: ["push", "on"] },
  { name: "ws_push_turn", help: "Whether this node looks for them", of: ["push", "turn"] },
  { name: "ws_push_behind", help: "Positions of the log that were not looked at yet", of: ["push", "behind"] },
  {
    name: "ws_push_oldest_seconds",
    help: "Age of the oldest event that was not looked at yet",
    of: ["push", "oldest_ms"],
    isMilliseconds: true,
  },
  {
    name: "ws_push_missed_total",
    help: "Missed events that this node has told of",
    of: ["push", "told"],
    isCounter: true,
  },
  {
    name: "ws_push_missed_users_total",
    help: "Users who have missed them",
    of: ["push", "users"],
    isCounter: true,
  },
];

/** Counts what applications hand over by themselves, by the way it comes [PUB2]. */
const ofIngest = (["outbox", "stream"] as const).flatMap((way): StatMetric[] => [
  { name: `ws_ingest_${way}_waiting`, help: "Entries that wait, of all nodes", of: ["ingest", `${way}_waiting`] },
  {
    name: `ws_ingest_${way}_oldest_seconds`,
    help: "Age of the oldest of them",
    of: ["ingest", `${way}_oldest_ms`],
    isMilliseconds: true,
  },
  {
    name: `ws_ingest_${way}_published_total`,
    help: "Entries that this node has published",
    of: ["ingest", `${way}_published`],
    isCounter: true,
  },
  {
    name: `ws_ingest_${way}_rejected_total`,
    help: "Entries that made no sense",
    of: ["ingest", `${way}_rejected`],
    isCounter: true,
  },
]);

/** @returns shows the stats from then on; null: they cannot be read */
export function createStatMetrics(registers: Registry[]): (stats: NodeStats | null) => void {
  const shown = [...ofParts, ...ofPush, ...ofIngest].map(({ name, help, isCounter, ...stat }) => {
    const metric = isCounter ? new Counter({ name, help, registers }) : new Gauge({ name, help, registers });
    return { ...stat, metric };
  });
  return (stats) => {
    for (const { of, metric, isMilliseconds } of shown) {
      const value = stats === null ? undefined : countOf(stats, of);
      metric.reset();
      // A stat that is not there has no line, which is not the same as 0.
      if (value === undefined) metric.remove();
      else metric.inc(isMilliseconds ? value / 1_000 : value);
    }
  };
}

function countOf(stats: NodeStats, [part, name]: Stat): number | undefined {
  const counts: Partial<Record<string, number>> = stats[part];
  return counts[name];
}
