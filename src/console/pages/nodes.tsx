/** Lists the nodes of the cluster. */
import type { Reply } from "../../client/core.ts";
import { useRequest } from "../hooks.ts";
import { type Column, count, Moment, NodeLink, Notices, Table } from "../parts.tsx";
import { HealthWord } from "./health.tsx";

type Node = Reply<"admin.nodes">["nodes"][number];

const columns: Column<Node>[] = [
  { name: "Node", show: (it) => <NodeLink id={it.node_id} /> },
  { name: "Connections", isNumber: true, show: (it) => count(it.connections) },
  { name: "Version", show: (it) => it.version },
  { name: "Started", show: (it) => <Moment at={it.started_at} /> },
  { name: "Seen", show: (it) => <Moment at={it.seen_at} /> },
  {
    name: "Answers",
    show: (it) => <span className={it.answers ? "good" : "bad"}>{it.answers ? "yes" : "no"}</span>,
  },
  {
    name: "Health",
    show: (it) => <HealthWord node={it} />,
  },
];

export function Nodes() {
  const { reply, error } = useRequest("admin.nodes", {}, 3_000);
  return (
    <>
      <h2>Nodes</h2>
      <Notices error={error} missing={reply?.missing_nodes} />
      {reply !== null && (
        <Table label="Nodes" columns={columns} rows={reply.nodes} keyOf={(it) => it.node_id} empty="There is none." />
      )}
    </>
  );
}
