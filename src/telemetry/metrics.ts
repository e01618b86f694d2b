/** The instruments and their Prometheus text: figures are read when somebody looks, so that counting costs nothing before. */
import { readdirSync } from "node:fs";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Counts, Tally } from "./counts.ts";

export interface MetricsOptions {
  counts: Counts;
  /** Stats by part and name, such as `{ hub: { connections: 3 } }`. */
  figures: () => Promise<Record<string, Record<string, number>>>;
  /** Log lines that were dropped because nobody read them. */
  droppedLogLines: () => number;
  version: string;
  nodeId: string;
}

export interface Metrics {
  contentType: string;
  /** Prometheus text; figures that cannot be read right now are left out. */
  text(): Promise<string>;
  /** What the console shows. */
  snapshot(): Promise<Snapshot>;
  stop(): void;
}

export interface Snapshot {
  node_id: string;
  version: string;
  uptime_seconds: number;
  resident_bytes: number;
  event_loop_lag_ms: { last: number; worst: number };
  figures: Record<string, Record<string, number>>;
  counts: Record<"messages_in" | "errors" | "published" | "closes", Tally>;
  backpressure_closes: number;
  dropped_log_lines: number;
  /** Of all batches since the start. */
  appends: { batches: number; events: number; mean_ms: number };
}

interface Figure {
  name: string;
  help: string;
  of: [part: string, name: string];
  isCounter?: true;
  /** Prometheus wants seconds. */
  isMilliseconds?: true;
}

const figures: Figure[] = [
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
  { name: "ws_cursor_position", help: "Position up to which this node has published", of: ["sequencer", "position"] },
  { name: "ws_log_position", help: "Position of the log's last event", of: ["log", "position"] },
  { name: "ws_log_events", help: "Events in the log", of: ["log", "events"] },
  { name: "ws_log_topics", help: "Topics in the log", of: ["log", "topics"] },
  { name: "ws_log_epoch", help: "Epochs that the log has had, of which this is the newest", of: ["log", "epoch"] },
  { name: "ws_log_losses", help: "Epochs that began because the log had lost events", of: ["log", "losses"] },
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

/** What applications hand over by themselves, by the way it comes [PUB2]. */
const ingestFigures = ["outbox", "stream"].flatMap((way): Figure[] => [
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

const lagIntervalMs = 250;
const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

export function createMetrics(options: MetricsOptions): Metrics {
  const { counts } = options;
  const register = new Registry();
  const registers = [register];

  const gaugesByFigure = [...figures, ...ingestFigures].map((figure) => {
    const { name, help } = figure;
    return {
      figure,
      metric: figure.isCounter ? new Counter({ name, help, registers }) : new Gauge({ name, help, registers }),
    };
  });
  tallied(
    { name: "ws_messages_in_total", help: "Well-formed requests, by type", label: "type" },
    () => counts.messagesIn,
  );
  tallied({ name: "ws_errors_total", help: "Error replies, by code", label: "code" }, () => counts.errors);
  tallied(
    { name: "ws_events_published_total", help: "Events that this node has published", label: "kind" },
    () => counts.published,
  );
  tallied({ name: "ws_closes_total", help: "Ended connections, by close code", label: "code" }, () => counts.closes);
  tallied(
    { name: "ws_invariants_broken_total", help: "What must always hold and did not, by what", label: "invariant" },
    () => counts.broken,
  );
  counted("ws_backpressure_closes_total", "Connections that were too slow", () => counts.backpressureCloses);
  counted("ws_append_failures_total", "Batches that the log refused", () => counts.appendFailures);
  counted("ws_log_lines_dropped_total", "Log lines that nobody read", options.droppedLogLines);
  counted("process_cpu_seconds_total", "CPU time of the process", () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  measured("process_resident_memory_bytes", "Memory of the process", () => process.memoryUsage.rss());
  measured("process_open_fds", "Open file descriptors", openDescriptors);
  const startedAtSeconds = Date.now() / 1_000 - process.uptime();
  measured("process_start_time_seconds", "When the process started", () => startedAtSeconds);
  new Gauge({ name: "ws_build_info", help: "The version, as a label", labelNames: ["version"], registers })
    .labels(options.version)
    .set(1);

  const appendSeconds = new Histogram({
    name: "ws_append_seconds",
    help: "How long the log took for a batch",
    buckets: secondsBuckets,
    registers,
  });
  const batchEvents = new Histogram({
    name: "ws_append_batch_events",
    help: "Events of a batch",
    buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500],
    registers,
  });
  const appends = { batches: 0, events: 0, totalMs: 0 };
  counts.onAppended(({ events, durationMs }) => {
    appendSeconds.observe(durationMs / 1_000);
    batchEvents.observe(events);
    appends.batches++;
    appends.events += events;
    appends.totalMs += durationMs;
  });

  const lagSeconds = new Histogram({
    name: "ws_event_loop_lag_seconds",
    help: "How late a timer came",
    buckets: secondsBuckets,
    registers,
  });
  const lag = { lastMs: 0, worstMs: 0 };
  let due = performance.now() + lagIntervalMs;
  const timer = setInterval(() => {
    const at = performance.now();
    lag.lastMs = Math.max(0, at - due);
    lag.worstMs = Math.max(lag.worstMs, lag.lastMs);
    lagSeconds.observe(lag.lastMs / 1_000);
    due = at + lagIntervalMs;
  }, lagIntervalMs);

  function tallied({ name, help, label }: { name: string; help: string; label: string }, read: () => Tally): void {
    new Counter({
      name,
      help,
      labelNames: [label],
      registers,
      collect() {
        this.reset();
        for (const [key, count] of Object.entries(read())) this.inc({ [label]: key }, count);
      },
    });
  }
  function counted(name: string, help: string, read: () => number): void {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }
  function measured(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  }

  /** While the storage or the cluster is away, their figures are. */
  const read = () => options.figures().catch(() => ({}) as Record<string, Record<string, number>>);

  return {
    contentType: register.contentType,
    async text() {
      const all = await read();
      for (const { figure, metric } of gaugesByFigure) {
        const [part, name] = figure.of;
        const value = all[part]?.[name];
        metric.reset();
        // A figure that is not there has no line, which is not the same as 0.
        if (value === undefined) metric.remove();
        else metric.inc(figure.isMilliseconds ? value / 1_000 : value);
      }
      return register.metrics();
    },
    async snapshot() {
      const { batches, events, totalMs } = appends;
      const snapshot: Snapshot = {
        node_id: options.nodeId,
        version: options.version,
        uptime_seconds: Math.round(process.uptime()),
        resident_bytes: process.memoryUsage.rss(),
        event_loop_lag_ms: { last: round(lag.lastMs), worst: round(lag.worstMs) },
        figures: await read(),
        counts: {
          messages_in: counts.messagesIn,
          errors: counts.errors,
          published: counts.published,
          closes: counts.closes,
        },
        backpressure_closes: counts.backpressureCloses,
        dropped_log_lines: options.droppedLogLines(),
        appends: { batches, events, mean_ms: batches === 0 ? 0 : round(totalMs / batches) },
      };
      // The worst since somebody last looked.
      lag.worstMs = 0;
      return snapshot;
    },
    stop: () => clearInterval(timer),
  };
}

const round = (value: number) => Math.round(value * 100) / 100;

function openDescriptors(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return 0;
  }
}
