/** Shows what each node says of itself, in the words of `/health`, those first where something is wrong [END2]. */
import type { Reply } from "../../client/core.ts";
import { visible } from "../../telemetry/visible.ts";
import { count, Moment, NodeLink } from "../parts.tsx";

type Node = Reply<"admin.nodes">["nodes"][number];
type Status = NonNullable<Node["health"]>["status"];

const classOf = { up: "good", degraded: "warn", down: "bad" } satisfies Record<Status, string>;
const rankOf = { down: 0, degraded: 2, up: 3 } satisfies Record<Status, number>;
/** One that says nothing is worse than one that still serves. */
const rank = ({ health }: Node) => (health === null ? 1 : rankOf[health.status]);

/** @param askedNodeId the node that has asked the others */
export function Health({ nodes, askedNodeId }: { nodes: readonly Node[]; askedNodeId: string }) {
  const worstFirst = nodes.toSorted((one, other) => rank(one) - rank(other));
  const asked = nodes.find(({ node_id }) => node_id === askedNodeId)?.health;
  const isCutOff = asked?.checks.cluster !== undefined && asked.checks.cluster.status !== "up";
  return (
    <ul className="health" aria-label="Health">
      {worstFirst.map((node) => (
        <li key={node.node_id}>
          <NodeLink id={node.node_id} /> <HealthWord node={node} />
          {node.health === null ? (
            <small>
              {isCutOff && `${askedNodeId} reaches no other node just now; this one may be well. `}
              Last seen <Moment at={node.seen_at} />
            </small>
          ) : (
            Object.entries(node.health.checks).map(([name, { status, latency_ms, error }]) => (
              <small key={name}>
                {name} <span className={classOf[status]}>{status}</span>
                {error === undefined ? `, ${count(latency_ms)} ms` : `: ${visible(error)}`}
              </small>
            ))
          )}
        </li>
      ))}
    </ul>
  );
}

/** The status of the whole node in a word, and that it drains. */
export function HealthWord({ node: { health } }: { node: Node }) {
  if (health === null) return <b className="bad">no answer</b>;
  return (
    <b className={classOf[health.status]}>
      {health.status}
      {health.draining && ", draining"}
    </b>
  );
}
