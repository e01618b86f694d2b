/** Shows one connection, and what it receives and sends, live. */
import { useEffect, useState } from "react";
import type { ServerPayloads } from "../../client/wire.ts";
import { visible } from "../../telemetry/visible.ts";
import { useRequest, useSession } from "../hooks.ts";
import { bytes, count, Moment, NodeLink, Notices, TopicLink, UserLink } from "../parts.tsx";
import { sentenceOfError } from "../session.ts";
import { DisconnectOne } from "./users.tsx";

type Watched = ServerPayloads["admin.watched"];
type Message = Watched["messages"][number] & { number: number };

/** So many of the newest stay on the page. */
const shownMax = 300;

export function ConnectionPage({ connectionId }: { connectionId: string }) {
  const { reply, error } = useRequest("admin.connection", { connection_id: connectionId }, 3_000);
  const connection = reply?.connection;
  return (
    <>
      <h2 className="id">{connectionId}</h2>
      <Notices error={error} missing={reply?.missing_nodes} />
      {connection !== undefined && (
        <>
          <dl className="facts">
            <dt>User</dt>
            <dd>
              <UserLink id={connection.user_id} />
            </dd>
            <dt>Device</dt>
            <dd>{connection.device_id}</dd>
            <dt>Node</dt>
            <dd>
              <NodeLink id={connection.node_id} />
            </dd>
            <dt>Address</dt>
            <dd>{connection.address}</dd>
            <dt>Format</dt>
            <dd>{connection.format}</dd>
            <dt>Roles</dt>
            <dd>{connection.roles.join(", ") || "–"}</dd>
            <dt>Connected</dt>
            <dd>
              <Moment at={connection.connected_at} />
            </dd>
            <dt>Heard</dt>
            <dd>
              <Moment at={connection.last_heard_at} />
            </dd>
            <dt>Waiting for it</dt>
            <dd>{bytes(connection.buffered_bytes)}</dd>
          </dl>
          {error === null && (
            <p className="actions">
              <DisconnectOne connectionId={connectionId} />
            </p>
          )}
        </>
      )}
      <Live connectionId={connectionId} />
      {connection !== undefined && (
        <>
          <h3>Topics</h3>
          <ul className="topics">
            {connection.topics.map((name) => (
              <li key={name}>
                <TopicLink name={name} />
              </li>
            ))}
          </ul>
          {connection.topic_count > connection.topics.length && (
            <p className="faint">and {count(connection.topic_count - connection.topics.length)} more</p>
          )}
        </>
      )}
    </>
  );
}

function Live({ connectionId }: { connectionId: string }) {
  const { about } = useSession();
  const [wanted, setWanted] = useState<{ payloads: boolean } | null>(null);
  const [payloads, setPayloads] = useState(false);
  const live = useWatch(connectionId, wanted);
  return (
    <section aria-label="Messages">
      <h3>Messages</h3>
      <p className="actions">
        <button
          type="button"
          className={wanted === null ? "primary" : undefined}
          onClick={() => setWanted(wanted === null ? { payloads } : null)}
        >
          {wanted === null ? "Watch" : "Stop"}
        </button>
        {about.show_payloads && (
          <label className="choice">
            <input
              type="checkbox"
              checked={payloads}
              disabled={wanted !== null}
              onChange={(event) => setPayloads(event.currentTarget.checked)}
            />
            with what is in them
          </label>
        )}
        <span role="status" className="faint">
          {live.status}
        </span>
        <span className="faint">→ from the client, ← to it</span>
      </p>
      <ol className="live" reversed aria-label="Newest first">
        {live.messages.map((message) => (
          <li key={message.number} className={message.direction}>
            <time>{message.at.slice(11, 23)}</time>
            <span className="direction" title={`${message.direction} by the server`}>
              {message.direction === "received" ? "→" : "←"}
            </span>
            <b>{message.type}</b>
            <span>
              {message.topic}
              {message.seq !== undefined && ` #${message.seq}`}
            </span>
            <span className="size">{bytes(message.bytes)}</span>
            {message.payload !== undefined && <code>{visible(JSON.stringify(message.payload))}</code>}
          </li>
        ))}
      </ol>
    </section>
  );
}

/** Watches as long as it is wanted; what came stays when that ends. */
function useWatch(connectionId: string, wanted: { payloads: boolean } | null): { messages: Message[]; status: string } {
  const { connection } = useSession();
  const [messages, setMessages] = useState<Message[]>([]);
  const [status, setStatus] = useState("");
  useEffect(() => {
    if (wanted === null) return;
    let isOver = false;
    let watchId: string | null = null;
    const early: Watched[] = [];
    setMessages([]);
    setStatus("beginning …");
    function take({ messages: more, left_out: leftOut, ended, code }: Watched): void {
      setMessages((before) => {
        const from = before[0]?.number ?? 0;
        const numbered = more.map((message, index) => ({ ...message, number: from + index + 1 }));
        return [...numbered.reverse(), ...before].slice(0, shownMax);
      });
      if (leftOut > 0) setStatus(`${count(leftOut)} were too many to show`);
      if (ended !== undefined) setStatus(`ended: ${ended}${code === undefined ? "" : ` (${code})`}`);
    }
    const unlistenNews = connection.onNews((news) => {
      if (news.kind !== "event" || news.event.type !== "admin.watched") return;
      const payload = news.event.payload as unknown as Watched;
      // Kept until the answer has said which watch it is of.
      if (watchId === null) early.push(payload);
      else if (payload.watch_id === watchId) take(payload);
    });
    const unlistenState = connection.onState((state) => {
      if (watchId !== null && state.status !== "live") setStatus("ended: the console's own connection broke");
    });
    connection.request("admin.watch", { connection_id: connectionId, ...wanted }).then(
      (reply) => {
        if (isOver) return void connection.request("admin.unwatch", { watch_id: reply.watch_id }).catch(() => {});
        watchId = reply.watch_id;
        setStatus("watching");
        for (const payload of early) if (payload.watch_id === watchId) take(payload);
      },
      (error) => setStatus(sentenceOfError(error)),
    );
    return () => {
      isOver = true;
      unlistenNews();
      unlistenState();
      setStatus((before) => (before.startsWith("ended") ? before : ""));
      if (watchId !== null) void connection.request("admin.unwatch", { watch_id: watchId }).catch(() => {});
    };
  }, [connection, connectionId, wanted]);
  return { messages, status };
}
