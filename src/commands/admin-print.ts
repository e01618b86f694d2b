/** Prints what an operator's request is answered with, as a table for people [ADM2]. */
import { isPlainObject } from "../protocol/envelope.ts";
import type { ServerPayload } from "../protocol/server.ts";
import { visible } from "../telemetry/visible.ts";

/** With more of them nobody finds the column that a value stands in. */
const columnsMax = 12;

type Sample = ServerPayload<"admin.samples">["samples"][number];
type WatchedMessage = ServerPayload<"admin.watched">["messages"][number];

/** One message of a watched connection, as its server sees it: what it has received, and what it has sent. */
export function watchedLine({ at, direction, type, topic, seq, bytes, payload }: WatchedMessage): string {
  const place = topic === undefined ? [] : [seq === undefined ? topic : `${topic} #${seq}`];
  const shownPayload = payload === undefined ? [] : [JSON.stringify(payload)];
  const parts = [at.slice(11, 23), direction === "received" ? "<" : ">", type, ...place, `${bytes} B`, ...shownPayload];
  return visible(parts.join(" "));
}

/** The last hour in columns that fit: a second's worth of what happens often, ms as mean/longest. */
function samplesTable({ samples, step_ms }: { samples: Sample[]; step_ms: number }): string {
  const perSecond = (count: number) => String(Math.round((count / step_ms) * 10_000) / 10);
  const lines = samples.map((it) => ({
    at: it.at.slice(0, 19),
    connections: it.connections,
    "in/s": perSecond(it.messages_in),
    "out/s": perSecond(it.messages_out),
    "append ms": `${it.append_ms}/${it.append_ms_max}`,
    "delivery ms": `${it.delivery_ms}/${it.delivery_ms_max}`,
    position: it.position,
    lag: it.lag ?? "-",
    missed: it.missed,
    slow: it.slow_clients,
    refusals: Object.entries(it.refusals).map(([reason, count]) => `${reason}:${count}`),
  }));
  return lines.length === 0 ? "no samples\n" : tableOf(lines);
}

type Node = ServerPayload<"admin.nodes">["nodes"][number];

/** Says how a node is in one column: its status, and what is not up, with why. */
function healthWords({ health }: Node): string {
  if (health === null) return "no answer";
  const faults = Object.entries(health.checks)
    .filter(([, { status }]) => status !== "up")
    .map(([name, { status, error }]) => `${name} ${status}${error === undefined ? "" : ` (${error})`}`);
  const status = health.draining ? `${health.status}, draining` : health.status;
  return faults.length === 0 ? status : `${status}: ${faults.join(", ")}`;
}

type Stats = ServerPayload<"admin.stats">;
const isStatsOfOne = (payload: Record<string, unknown>): payload is Stats =>
  isListOfObjects(payload.nodes) && payload.nodes.length === 1 && "figures" in payload.nodes[0]!;
/** One node's figures are all that there are: the sums would say the same again. */
const ofOne = ({ nodes: [node], cluster }: Stats) => ({
  node_id: node!.node_id,
  ...node!.figures,
  cluster: { ...cluster, ...node!.figures.cluster },
});

/** Tables for lists, lines for everything else; `missing_nodes` and `next` are told apart from it. */
export function adminTable(payload: Record<string, unknown>): string {
  if (isListOfObjects(payload.samples)) return samplesTable(payload as ServerPayload<"admin.samples">);
  if (isListOfObjects(payload.nodes) && payload.nodes.some((node) => "health" in node))
    return tableOf(
      (payload as ServerPayload<"admin.nodes">).nodes.map((node) => ({ ...node, health: healthWords(node) })),
    );
  if (isStatsOfOne(payload)) return adminTable(ofOne(payload));
  const parts: string[] = [];
  const single: [string, string][] = [];
  for (const [name, value] of Object.entries(payload)) {
    if (name === "missing_nodes" || name === "next") continue;
    if (isListOfObjects(value)) parts.push(value.length === 0 ? `no ${name}\n` : tableOf(value));
    else if (isPlainObject(value)) {
      if (Object.keys(value).length > 0) parts.push(rows(flat(value, name)));
    } else single.push([name, shown(value)]);
  }
  if (parts.length + single.length === 0) return "done\n";
  return [...(single.length === 0 ? [] : [rows(single)]), ...parts].join("\n");
}

function tableOf(list: Record<string, unknown>[]): string {
  const flattened = list.map((item) => new Map(flat(item)));
  const names = [...new Set(flattened.flatMap((item) => [...item.keys()]))];
  if (names.length > columnsMax) return flattened.map((item) => rows([...item])).join("\n");
  const table = [names, ...flattened.map((item) => names.map((name) => item.get(name) ?? ""))];
  const widths = names.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  return table
    .map((row) => `${row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ")}`.trimEnd())
    .join("\n")
    .concat("\n");
}

function rows(pairs: [string, string][]): string {
  const width = Math.max(0, ...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${value}`.trimEnd().concat("\n")).join("");
}

/** An object's fields, and those of the objects in it under joined names. */
function flat(value: Record<string, unknown>, prefix = ""): [string, string][] {
  return Object.entries(value).flatMap(([key, inner]): [string, string][] => {
    const name = visible(prefix === "" ? key : `${prefix}.${key}`);
    return isPlainObject(inner) ? flat(inner, name) : [[name, shown(inner)]];
  });
}

function shown(value: unknown): string {
  if (value === null) return "-";
  if (Array.isArray(value))
    return value.map((it) => visible(isPlainObject(it) ? JSON.stringify(it) : String(it))).join(" ");
  return visible(String(value));
}

const isListOfObjects = (value: unknown): value is Record<string, unknown>[] =>
  Array.isArray(value) && (value.length === 0 || isPlainObject(value[0]));
