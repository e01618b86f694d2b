/** Keeps the last hour of this node: every so often a sample of what has happened since the one before, in a ring [ADM1]. */
import { residentBytes } from "../ground/memory.ts";
import { momentText } from "../ground/moments.ts";
import type { Timers } from "../ground/timers.ts";
import type { Counts, Tally, Timing } from "./counts.ts";
import type { NodeStats } from "./stats.ts";

/** Sums up one step of time; the names are those of the wire, where they are explained. */
export interface Sample {
  /** When the step began: RFC 3339, UTC. */
  at: string;
  connections: number;
  messages_in: number;
  messages_out: number;
  events: number;
  appends: number;
  append_ms: number;
  append_ms_max: number;
  deliveries: number;
  delivery_ms: number;
  delivery_ms_max: number;
  position: number;
  lag: number | null;
  missed: number;
  slow_clients: number;
  refusals: Tally;
  memory_bytes: number;
}

export interface SamplesOptions {
  counts: Counts;
  stats: () => Promise<NodeStats>;
  /** Milliseconds from one sample to the next; of all nodes the same, so that theirs can be joined. */
  stepMs: number;
  timers: Timers;
  now: () => number;
}

/** So far back go the samples. */
const hourMs = 3_600_000;

type Times = Pick<Timing, "times" | "totalMs">;

/** Sums that only grow, as they stood at the sample before. */
interface Standing {
  messagesIn: number;
  messagesOut: number;
  events: number;
  appends: Times;
  deliveries: Times;
  missed: number;
  slowClients: number;
  refusals: Tally;
}

export class Samples {
  /** Oldest first. */
  readonly #ring: Sample[] = [];
  #before: Standing;
  #missed = 0;
  #position = 0;
  /** When the step ends that is taken next, ms since 1970. */
  #dueAt = 0;
  #callOff: (() => void) | null = null;

  constructor(private readonly options: SamplesOptions) {
    this.#before = this.#standing();
  }

  get stepMs(): number {
    return this.options.stepMs;
  }

  /** Takes one at each full step of the clock from then on; a step that is over before it is taken is left out. */
  start(): void {
    const { now, stepMs } = this.options;
    const begunAt = Math.floor(now() / stepMs) * stepMs;
    // A timer may come a moment too soon: the step that was due has been taken. A clock that was set back begins anew.
    const isTaken = begunAt >= this.#dueAt - stepMs;
    this.#dueAt = (isTaken ? Math.max(begunAt, this.#dueAt) : begunAt) + stepMs;
    this.#callOff = this.options.timers.after(this.#dueAt - now(), () => {
      void this.take(this.#dueAt - stepMs).finally(() => this.#callOff !== null && this.start());
    });
  }

  stop(): void {
    this.#callOff?.();
    this.#callOff = null;
  }

  /** @param after ms since 1970: only those that began later */
  since(after: number): Sample[] {
    return this.#ring.filter(({ at }) => Date.parse(at) > after);
  }

  /** Takes the sample of the step that began at `at`, ms since 1970. Never rejects. */
  async take(at: number): Promise<void> {
    const stats = await this.options.stats().catch(() => null);
    // A figure that cannot be asked for just now stands as it stood.
    this.#missed = stats?.push.told ?? this.#missed;
    const position = stats?.log.position;
    this.#position = position ?? this.#position;
    const published = stats?.sequencer.position ?? 0;
    const { counts, stepMs } = this.options;
    const [before, now] = [this.#before, this.#standing()];
    this.#before = now;
    this.#ring.push({
      at: momentText(at),
      connections: stats?.hub.connections ?? 0,
      messages_in: now.messagesIn - before.messagesIn,
      messages_out: now.messagesOut - before.messagesOut,
      events: now.events - before.events,
      appends: now.appends.times - before.appends.times,
      append_ms: meanMs(now.appends, before.appends),
      append_ms_max: round(counts.appends.takeWorstMs()),
      deliveries: now.deliveries.times - before.deliveries.times,
      delivery_ms: meanMs(now.deliveries, before.deliveries),
      delivery_ms_max: round(counts.deliveries.takeWorstMs()),
      position: this.#position,
      lag: position === undefined ? null : Math.max(0, position - published),
      missed: Math.max(0, now.missed - before.missed),
      slow_clients: now.slowClients - before.slowClients,
      refusals: grown(now.refusals, before.refusals),
      memory_bytes: residentBytes(),
    });
    if (this.#ring.length > hourMs / stepMs) this.#ring.shift();
  }

  #standing(): Standing {
    const { counts } = this.options;
    const { appends, deliveries } = counts;
    return {
      messagesIn: sum(counts.messagesIn),
      messagesOut: counts.messagesOut,
      events: sum(counts.published),
      appends: { times: appends.times, totalMs: appends.totalMs },
      deliveries: { times: deliveries.times, totalMs: deliveries.totalMs },
      missed: this.#missed,
      slowClients: counts.backpressureCloses,
      refusals: { ...counts.errors, ...counts.refused },
    };
  }
}

/** Joins the samples of all nodes to those of the whole cluster, oldest first: one for each moment that any node has one of. */
export function joinSamples(all: Sample[][]): Sample[] {
  const byMoment = new Map<string, Sample>();
  for (const sample of all.flat()) {
    const known = byMoment.get(sample.at);
    byMoment.set(sample.at, known === undefined ? sample : joined(known, sample));
  }
  return [...byMoment.values()].sort((one, other) => (one.at < other.at ? -1 : 1));
}

function joined(one: Sample, other: Sample): Sample {
  const mean = (ms: "append_ms" | "delivery_ms", times: "appends" | "deliveries") => {
    const count = one[times] + other[times];
    return count === 0 ? 0 : round((one[ms] * one[times] + other[ms] * other[times]) / count);
  };
  const refusals = { ...one.refusals };
  for (const [reason, count] of Object.entries(other.refusals)) refusals[reason] = (refusals[reason] ?? 0) + count;
  return {
    at: one.at,
    connections: one.connections + other.connections,
    messages_in: one.messages_in + other.messages_in,
    messages_out: one.messages_out + other.messages_out,
    events: one.events + other.events,
    appends: one.appends + other.appends,
    append_ms: mean("append_ms", "appends"),
    append_ms_max: Math.max(one.append_ms_max, other.append_ms_max),
    deliveries: one.deliveries + other.deliveries,
    delivery_ms: mean("delivery_ms", "deliveries"),
    delivery_ms_max: Math.max(one.delivery_ms_max, other.delivery_ms_max),
    position: Math.max(one.position, other.position),
    lag: one.lag === null ? other.lag : Math.max(one.lag, other.lag ?? 0),
    missed: one.missed + other.missed,
    slow_clients: one.slow_clients + other.slow_clients,
    refusals,
    memory_bytes: one.memory_bytes + other.memory_bytes,
  };
}

const meanMs = (now: Times, before: Times) =>
  now.times === before.times ? 0 : round((now.totalMs - before.totalMs) / (now.times - before.times));
const sum = (tally: Tally) => Object.values(tally).reduce((total, count) => total + count, 0);
const round = (ms: number) => Math.round(ms * 100) / 100;

function grown(now: Tally, before: Tally): Tally {
  const counts = Object.entries(now).map(([key, count]) => [key, count - (before[key] ?? 0)] as const);
  return Object.fromEntries(counts.filter(([, count]) => count > 0));
}
