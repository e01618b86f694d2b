/** Shows the cluster, or one node of it, at a glance: figures of this moment, and the last hour. */
import { useMemo } from "react";
import { Chart } from "../chart.tsx";
import { useRequest, useSamples, useSession } from "../hooks.ts";
import type { Sample } from "../last-hour.ts";
import { bytes, count, Notices } from "../parts.tsx";
import { Health } from "./health.tsx";

const everyMs = 2_000;
const healthEveryMs = 3_000;

type Figures = Record<string, Record<string, number>>;

export function Cluster({ nodeId }: { nodeId: string | undefined }) {
  const stats = useRequest("admin.stats", {}, everyMs);
  const health = useRequest("admin.nodes", {}, healthEveryMs);
  const hour = useSamples(nodeId);
  const { about } = useSession();
  const { reply } = stats;
  const ofNode = reply?.nodes.find(({ node_id }) => node_id === nodeId)?.figures;
  const figures = (nodeId === undefined ? reply : (ofNode ?? null)) as Figures | null;
  const last = hour.samples.at(-1);
  return (
    <>
      <h2>{nodeId === undefined ? "Cluster" : `Node ${nodeId}`}</h2>
      {health.reply !== null && (
        <Health
          nodes={health.reply.nodes.filter(({ node_id }) => nodeId === undefined || node_id === nodeId)}
          askedNodeId={about.node_id}
        />
      )}
      <Notices error={stats.error ?? health.error ?? hour.error} missing={reply?.missing_nodes} />
      {figures !== null && (
        <Tiles figures={figures} nodes={nodeId === undefined ? reply!.nodes.length : null} {...hour} last={last} />
      )}
      <h3>The last hour</h3>
      {hour.samples.length < 2 ? (
        <p className="empty">Samples come every {hour.stepMs / 1_000} s; the graphs begin with the second one.</p>
      ) : (
        <Graphs samples={hour.samples} stepMs={hour.stepMs} />
      )}
      {figures !== null && <Details figures={figures} />}
    </>
  );
}

interface TilesOf {
  figures: Figures;
  nodes: number | null;
  samples: readonly Sample[];
  stepMs: number;
  last: Sample | undefined;
}

function Tiles({ figures, nodes, samples, stepMs, last }: TilesOf) {
  const perSecond = (amount: number | undefined) => (amount === undefined ? "–" : rate(amount, stepMs));
  const inAll = (name: "missed" | "slow_clients") => count(samples.reduce((sum, it) => sum + it[name], 0));
  const known = (amount: number | null | undefined) => (amount == null ? "–" : count(amount));
  const times = (of: number | undefined, mean: number | undefined, most: number | undefined) =>
    of === undefined || of === 0 ? "–" : `${mean} / ${most}`;
  const refusals = refusalsIn(samples);
  // Presence is told of the whole cluster, by each node.
  const users = nodes === null ? figures.hub?.users : figures.presence?.users;
  return (
    <>
      <dl className="tiles">
        {nodes !== null && <Tile name="Nodes" value={count(nodes)} />}
        <Tile name="Connections" value={known(figures.hub?.connections)} />
        <Tile name="Users" value={known(users)} />
        <Tile name="Messages in" value={perSecond(last?.messages_in)} unit="a second" />
        <Tile name="Messages out" value={perSecond(last?.messages_out)} unit="a second" />
        <Tile
          name="Append"
          value={times(last?.appends, last?.append_ms, last?.append_ms_max)}
          unit="ms, mean / longest"
        />
        <Tile
          name="Delivery"
          value={times(last?.deliveries, last?.delivery_ms, last?.delivery_ms_max)}
          unit="ms, mean / longest"
        />
        <Tile name="Log head" value={known(figures.log?.position)} />
        <Tile name="Lag" value={known(figures.log?.position === undefined ? null : last?.lag)} unit="positions" />
        <Tile name="Missed" value={inAll("missed")} unit="in the hour" />
        <Tile name="Slow clients" value={inAll("slow_clients")} unit="in the hour" />
        <Tile name="Refusals" value={count(refusals.reduce((sum, [, number]) => sum + number, 0))} unit="in the hour" />
      </dl>
      {refusals.length > 0 && (
        <p className="reasons">
          Refused in the hour:{" "}
          {refusals.map(([reason, number]) => (
            <span key={reason}>
              {/^\d+$/.test(reason) ? `HTTP ${reason}` : reason} <b>{count(number)}</b>
            </span>
          ))}
        </p>
      )}
    </>
  );
}

const Tile = ({ name, value, unit }: { name: string; value: string; unit?: string }) => (
  <div>
    <dt>{name}</dt>
    <dd>
      {value} {unit !== undefined && <small>{unit}</small>}
    </dd>
  </div>
);

/** By reason, the most first. */
function refusalsIn(samples: readonly Sample[]): [reason: string, number: number][] {
  const sums = new Map<string, number>();
  for (const { refusals } of samples)
    for (const [reason, number] of Object.entries(refusals)) sums.set(reason, (sums.get(reason) ?? 0) + number);
  return [...sums].sort(([, one], [, other]) => other - one);
}

function Graphs({ samples, stepMs }: { samples: readonly Sample[]; stepMs: number }) {
  const graphs = useMemo(() => {
    const at = samples.map((it) => Date.parse(it.at) / 1_000);
    const of = (read: (sample: Sample) => number | null) => samples.map(read);
    const perSecond = (read: (sample: Sample) => number) => of((it) => (read(it) * 1_000) / stepMs);
    const first = "--line-1";
    const second = "--line-2";
    const third = "--line-3";
    const refused = (it: Sample) => Object.values(it.refusals).reduce((sum, number) => sum + number, 0);
    return [
      { title: "Connections", at, lines: [{ name: "connections", colour: first, values: of((it) => it.connections) }] },
      {
        title: "Messages a second",
        at,
        lines: [
          { name: "in", colour: first, values: perSecond((it) => it.messages_in) },
          { name: "out", colour: second, values: perSecond((it) => it.messages_out) },
        ],
      },
      {
        title: "Append to the log",
        unit: "ms",
        at,
        lines: [
          { name: "mean", colour: first, values: of((it) => (it.appends === 0 ? null : it.append_ms)) },
          { name: "longest", colour: second, values: of((it) => (it.appends === 0 ? null : it.append_ms_max)) },
        ],
      },
      {
        title: "Delivery, from log to socket",
        unit: "ms",
        at,
        lines: [
          { name: "mean", colour: first, values: of((it) => (it.deliveries === 0 ? null : it.delivery_ms)) },
          { name: "longest", colour: second, values: of((it) => (it.deliveries === 0 ? null : it.delivery_ms_max)) },
        ],
      },
      {
        title: "Refusals, missed, slow clients",
        at,
        lines: [
          { name: "refusals", colour: first, values: of(refused) },
          { name: "missed", colour: second, values: of((it) => it.missed) },
          { name: "slow clients", colour: third, values: of((it) => it.slow_clients) },
        ],
      },
      {
        title: "Behind the log",
        unit: "positions",
        at,
        lines: [{ name: "lag", colour: first, values: of((it) => it.lag) }],
      },
    ];
  }, [samples, stepMs]);
  return (
    <div className="charts">
      {graphs.map((graph) => (
        <Chart key={graph.title} {...graph} />
      ))}
      <p className="faint">Memory of the processes: {bytes(samples.at(-1)?.memory_bytes ?? 0)}</p>
    </div>
  );
}

function Details({ figures }: { figures: Figures }) {
  const isPart = (value: unknown): value is Record<string, number> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  const parts = Object.entries(figures).filter(([, value]) => isPart(value) && Object.keys(value).length > 0);
  return (
    <details>
      <summary>All figures</summary>
      <div className="parts">
        {parts.map(([part, values]) => (
          <section key={part}>
            <h4>{part}</h4>
            <dl>
              {Object.entries(values).map(([name, value]) => (
                <div key={name}>
                  <dt>{name.replaceAll("_", " ")}</dt>
                  <dd>{count(value)}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </details>
  );
}

function rate(amount: number, stepMs: number): string {
  const perSecond = (amount * 1_000) / stepMs;
  return perSecond.toLocaleString(undefined, { maximumFractionDigits: perSecond < 10 ? 1 : 0 });
}
