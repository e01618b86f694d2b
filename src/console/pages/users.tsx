/** Finds connections by user, device or address, and shows one user with what may be done about it. */
import type { Reply } from "../../client/core.ts";
import { pathTo, usePages, useRequest } from "../hooks.ts";
import {
  Action,
  bytes,
  type Column,
  ConnectionLink,
  count,
  Moment,
  NodeLink,
  Notices,
  Pages,
  plural,
  Search,
  Table,
  UserLink,
} from "../parts.tsx";

type Connection = Reply<"admin.connections">["connections"][number];

const columns: Column<Connection>[] = [
  { name: "User", show: (it) => <UserLink id={it.user_id} /> },
  { name: "Device", show: (it) => it.device_id },
  { name: "Connection", show: (it) => <ConnectionLink id={it.connection_id} /> },
  { name: "Node", show: (it) => <NodeLink id={it.node_id} /> },
  { name: "Address", show: (it) => it.address },
  { name: "Roles", show: (it) => it.roles.join(", ") || "–" },
  { name: "Since", show: (it) => <Moment at={it.connected_at} /> },
  { name: "Heard", show: (it) => <Moment at={it.last_heard_at} /> },
  { name: "Waiting", isNumber: true, show: (it) => bytes(it.buffered_bytes) },
];

const kinds = { user: "User", device: "Device", address: "Address", connection: "Connection" } as const;
type Kind = keyof typeof kinds;

const filterOf = { user: "user_id", device: "device_id", address: "address" } as const;

export function Users({ query }: { query: URLSearchParams }) {
  const kind = (Object.keys(kinds) as Kind[]).find((it) => query.has(it)) ?? "user";
  const text = query.get(kind) ?? "";
  function search({ text: typed = "", kind: chosen = "user" }: Record<string, string>): void {
    if (typed === "") location.hash = pathTo("users");
    else if (chosen === "connection") location.hash = pathTo("connections", typed);
    else location.hash = `${pathTo("users")}?${new URLSearchParams({ [chosen]: typed })}`;
  }
  const filter = text === "" || kind === "connection" ? {} : { [filterOf[kind]]: text };
  return (
    <>
      <h2>Users</h2>
      <Search label="Search" value={text} onSearch={search}>
        <select key={kind} name="kind" aria-label="Search by" defaultValue={kind}>
          {Object.entries(kinds).map(([value, name]) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
      </Search>
      {kind === "user" && text !== "" && (
        <p>
          <a href={pathTo("users", text)}>All about {text}</a>
        </p>
      )}
      <Connections key={JSON.stringify(filter)} filter={filter} empty="Nobody is connected so." />
    </>
  );
}

/** Pages of connections; each goes on after the last one of the page before. */
function Connections({ filter, empty }: { filter: Record<string, string>; empty: string }) {
  const { reply, error, pages } = usePages("admin.connections", filter, 3_000);
  if (reply === null) return <Notices error={error} />;
  return (
    <>
      <Notices error={error} missing={reply.missing_nodes} />
      <p className="faint">{plural(reply.total, "connection")}</p>
      <Table
        label="Connections"
        columns={columns}
        rows={reply.connections}
        keyOf={(it) => it.connection_id}
        empty={empty}
      />
      <Pages {...pages} />
    </>
  );
}

const reason = { name: "reason", label: "Reason, which the client is told", isOptional: true };
const given = (text: string | undefined) => (text === undefined || text === "" ? {} : { reason: text });

/** Says what keeps somebody out. */
function Standing({ state, blocked_until }: Reply<"admin.user">) {
  const kept = [
    state === "disabled" && "disabled",
    blocked_until !== null && `blocked until ${new Date(blocked_until).toLocaleString()}`,
  ].filter(Boolean);
  return (
    <p className={kept.length > 0 ? "bad" : "faint"}>
      {[...(state === "unknown" ? ["not in the directory"] : []), ...kept].join(", ") || "may come in"}
    </p>
  );
}

export function UserPage({ userId }: { userId: string }) {
  const { reply, error, again } = useRequest("admin.user", { user_id: userId }, 5_000);
  return (
    <>
      <h2>{userId}</h2>
      <Notices error={error} />
      {reply !== null && <Standing {...reply} />}
      <p className="actions">
        <Action
          label="Disconnect"
          question={`Disconnect all devices of ${userId}?`}
          isDanger
          fields={[reason]}
          act={async (ask, values) => {
            const { disconnected } = await ask("admin.disconnect", { user_id: userId, ...given(values.reason) });
            return `${plural(disconnected, "connection")} closed.`;
          }}
        />
        <Action
          label="Block"
          question={`Block ${userId}?`}
          isDanger
          fields={[{ name: "for", label: "For how long, such as 10m, 24h or 7d", value: "24h" }, reason]}
          act={async (ask, values) => {
            const { until, disconnected } = await ask("admin.block", {
              user_id: userId,
              for: values.for!,
              ...given(values.reason),
            });
            again();
            if (until === null) return "The block is lifted.";
            return `Blocked until ${new Date(until).toLocaleString()}; ${plural(disconnected, "connection")} closed.`;
          }}
        />
        <Action
          label="Unblock"
          question={`Let ${userId} in again?`}
          act={async (ask) => {
            await ask("admin.block", { user_id: userId, for: 0 });
            again();
            return "The block is lifted.";
          }}
        />
      </p>
      <Connections filter={{ user_id: userId }} empty={`${userId} is not connected.`} />
    </>
  );
}

export function DisconnectOne({ connectionId }: { connectionId: string }) {
  return (
    <Action
      label="Disconnect"
      question="Disconnect this one?"
      isDanger
      fields={[reason]}
      act={async (ask, values) => {
        const { disconnected } = await ask("admin.disconnect", {
          connection_id: connectionId,
          ...given(values.reason),
        });
        return `${count(disconnected)} closed.`;
      }}
    />
  );
}
