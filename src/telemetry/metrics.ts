/** Shows what a node counts as Prometheus text. */
import { residentBytes } from "../ground/memory.ts";
import { openFiles, openFilesMax } from "../ground/open-files.ts";
import type { AppendedBatch, Counts, Tally } from "./counts.ts";
import { Instruments, secondsBuckets } from "./instruments.ts";
import { LoopLag } from "./loop-lag.ts";
import { createStatMetrics } from "./stat-metrics.ts";
import type { NodeStats } from "./stats.ts";

export interface MetricsOptions {
  counts: Counts;
  stats: () => Promise<NodeStats>;
  /** Log lines that were dropped because nobody read them. */
  droppedLogLines: () => number;
  /** Which parts are as they should be, by name [END2]. */
  /** Says what `/health` does. */
  health: () => Promise<{ status: string; checks: Record<string, { status: string }>; draining: boolean }>;
  isDraining: () => boolean;
  /** When retention last went through the whole log, ms since 1970; null: not since the start. */
  retainedAt: () => number | null;
  version: string;
  nodeId: string;
}

export class Metrics {
  readonly #instruments = new Instruments();
  readonly #showStats = createStatMetrics([this.#instruments.register]);
  readonly #appendSeconds = this.#instruments.histogram("ws_append_seconds", "How long the log took for a batch", [
    ...secondsBuckets,
  ]);
  readonly #batchEvents = this.#instruments.histogram(
    "ws_append_batch_events",
    "Events of a batch",
    [1, 2, 5, 10, 20, 50, 100, 200, 500],
  );
  readonly #lagSeconds = this.#instruments.histogram("ws_event_loop_lag_seconds", "How late a timer came", [
    ...secondsBuckets,
  ]);
  readonly #deliverySeconds = this.#instruments.histogram(
    "ws_delivery_seconds",
    "How old logged events were when subscribers here were sent them",
    [...secondsBuckets],
  );
  readonly #requestSeconds = this.#instruments.histogram(
    "ws_request_seconds",
    "How long requests took until they were answered, by type",
    [...secondsBuckets],
    "type",
  );
  readonly #up = this.#instruments.gauge("ws_up", "Whether a part is as it should be, as /health says", "part");
  #isReady = false;
  readonly #lag = new LoopLag((lagMs) => this.#lagSeconds.observe(lagMs / 1_000));

  constructor(private readonly options: MetricsOptions) {
    this.#showCounts();
    this.#showProcess();
    const { counts } = options;
    counts.onAppended((batch) => this.#noteAppended(batch));
    counts.deliveries.onNoted = (ms) => this.#deliverySeconds.observe(ms / 1_000);
    counts.onAnswered = (type, ms) => this.#requestSeconds.labels(type).observe(ms / 1_000);
  }

  get contentType(): string {
    return this.#instruments.register.contentType;
  }

  /** Gives Prometheus text; stats that cannot be read right now are left out. */
  async text(): Promise<string> {
    const [stats, health] = await Promise.all([this.#readStats(), this.options.health()]);
    this.#showStats(stats);
    for (const [part, { status }] of Object.entries(health.checks)) this.#up.labels(part).set(status === "up" ? 1 : 0);
    this.#isReady = health.status !== "down" && !health.draining;
    return this.#instruments.register.metrics();
  }

  stop(): void {
    const { counts } = this.options;
    counts.deliveries.onNoted = counts.onAnswered = null;
    this.#lag.stop();
  }

  /** Null while they cannot be read. */
  #readStats(): Promise<NodeStats | null> {
    return this.options.stats().catch(() => null);
  }

  #noteAppended({ events, durationMs }: AppendedBatch): void {
    this.#appendSeconds.observe(durationMs / 1_000);
    this.#batchEvents.observe(events);
  }

  #showCounts(): void {
    const { counts, droppedLogLines, isDraining, retainedAt } = this.options;
    const tallies: [name: string, help: string, label: string, read: () => Tally][] = [
      ["ws_messages_in_total", "Well-formed requests, by type", "type", () => counts.messagesIn],
      ["ws_errors_total", "Error replies, by code", "code", () => counts.errors],
      ["ws_events_published_total", "Events that this node has published", "kind", () => counts.published],
      ["ws_connections_refused_total", "Refused connections, by HTTP status", "status", () => counts.refused],
      ["ws_closes_total", "Ended connections, by close code", "code", () => counts.closes],
      ["ws_invariants_broken_total", "What must always hold and did not, by what", "invariant", () => counts.broken],
    ];
    const instruments = this.#instruments;
    for (const [name, help, label, read] of tallies) instruments.tallied({ name, help, label }, read);
    instruments.counted(
      "ws_backpressure_closes_total",
      "Connections that were too slow",
      () => counts.backpressureCloses,
    );
    instruments.counted("ws_messages_out_total", "Messages written to sockets", () => counts.messagesOut);
    instruments.counted("ws_bytes_out_total", "Their bytes, before compression", () => counts.bytesOut);
    instruments.measured("ws_draining", "Whether this node lets its connections go", () => (isDraining() ? 1 : 0));
    instruments.measured("ws_ready", "Whether this node takes people, as /ready says", () => (this.#isReady ? 1 : 0));
    instruments.measured(
      "ws_retention_last_seconds",
      "When retention last went through the whole log, since 1970; 0: not since the start",
      () => (retainedAt() ?? 0) / 1_000,
    );
    instruments.counted("ws_append_failures_total", "Batches that the log refused", () => counts.appendFailures);
    instruments.counted("ws_log_lines_dropped_total", "Log lines that nobody read", droppedLogLines);
  }

  #showProcess(): void {
    const instruments = this.#instruments;
    const startedAtSeconds = Date.now() / 1_000 - process.uptime();
    instruments.counted("process_cpu_seconds_total", "CPU time of the process", cpuSeconds);
    instruments.measured("process_resident_memory_bytes", "Memory of the process", residentBytes);
    instruments.measured("process_open_fds", "Open file descriptors", openFiles);
    const filesMax = openFilesMax();
    if (filesMax !== null) instruments.measured("process_max_fds", "File descriptors that it may open", () => filesMax);
    instruments.measured("process_start_time_seconds", "When the process started", () => startedAtSeconds);
    instruments.told(
      { name: "ws_build_info", help: "The version, as a label", label: "version" },
      this.options.version,
    );
  }
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
