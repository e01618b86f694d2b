/** Lists the topics that somebody hears, and shows one of them: its subscribers, and a conversation's members. */
import type { Reply } from "../../client/core.ts";
import { pathTo, usePages, useRequest } from "../hooks.ts";
import {
  Action,
  type Column,
  ConnectionLink,
  count,
  NodeLink,
  Notices,
  Pages,
  plural,
  Search,
  Table,
  TopicLink,
  UserLink,
} from "../parts.tsx";

type Topic = Reply<"admin.topics">["topics"][number];
type Subscriber = Reply<"admin.topic">["connections"][number];
type Member = Reply<"admin.members">["members"][number];

const conversationPrefix = "conversation:";

const columns: Column<Topic>[] = [
  { name: "Topic", show: (it) => <TopicLink name={it.topic} /> },
  { name: "Subscribers", isNumber: true, show: (it) => count(it.subscribers) },
];

export function Topics({ prefix }: { prefix: string }) {
  return (
    <>
      <h2>Topics</h2>
      <Search
        label="Beginning, such as conversation:c1"
        value={prefix}
        onSearch={({ text = "" }) => {
          location.hash =
            text === "" ? pathTo("topics") : `${pathTo("topics")}?${new URLSearchParams({ prefix: text })}`;
        }}
      />
      {prefix !== "" && (
        <p>
          <TopicLink name={prefix.includes(":") ? prefix : `${conversationPrefix}${prefix}`} />
        </p>
      )}
      <TopicList key={prefix} prefix={prefix} />
    </>
  );
}

function TopicList({ prefix }: { prefix: string }) {
  const { reply, error, pages } = usePages("admin.topics", prefix === "" ? {} : { prefix }, 3_000);
  if (reply === null) return <Notices error={error} />;
  return (
    <>
      <Notices error={error} missing={reply.missing_nodes} />
      <Table
        label="Topics"
        columns={columns}
        rows={reply.topics}
        keyOf={(it) => it.topic}
        empty="Nobody hears any such topic."
      />
      <Pages {...pages} />
    </>
  );
}

const subscriberColumns: Column<Subscriber>[] = [
  { name: "User", show: (it) => <UserLink id={it.user_id} /> },
  { name: "Device", show: (it) => it.device_id },
  { name: "Connection", show: (it) => <ConnectionLink id={it.connection_id} /> },
  { name: "Node", show: (it) => <NodeLink id={it.node_id} /> },
];

export function TopicPage({ name }: { name: string }) {
  const { reply, error } = useRequest("admin.topic", { topic: name }, 3_000);
  const conversationId = name.startsWith(conversationPrefix) ? name.slice(conversationPrefix.length) : null;
  return (
    <>
      <h2>{name}</h2>
      <Notices error={error} missing={reply?.missing_nodes} />
      {reply !== null && (
        <p className="faint">
          {plural(reply.subscribers, "subscriber")}
          {reply.head !== null && `, last event ${count(reply.head.seq)}`}
          {reply.nodes.map(({ node_id, subscribers }) => ` · ${node_id} ${count(subscribers)}`).join("")}
        </p>
      )}
      {conversationId !== null && <Members conversationId={conversationId} />}
      <h3>Subscribers</h3>
      {reply !== null && (
        <Table
          label="Subscribers"
          columns={subscriberColumns}
          rows={reply.connections}
          keyOf={(it) => it.connection_id}
          empty="Nobody hears it."
        />
      )}
    </>
  );
}

function Members({ conversationId }: { conversationId: string }) {
  const of = { conversation_id: conversationId };
  const { reply, error, again, pages } = usePages("admin.members", of, 5_000);
  const memberColumns: Column<Member>[] = [
    { name: "Member", show: (it) => <UserLink id={it.user_id} /> },
    { name: "May write", show: (it) => (it.may_write ? "yes" : <span className="bad">no</span>) },
    {
      name: "Change",
      show: ({ user_id, may_write }) => (
        <span className="actions">
          <Action
            label={may_write ? "Mute" : "Unmute"}
            question={may_write ? `Keep ${user_id} from writing?` : `Let ${user_id} write again?`}
            act={async (ask) => {
              await ask("admin.members.update", { ...of, user_id, may_write: !may_write });
              again();
              return may_write ? "Muted." : "May write.";
            }}
          />
          <Action
            label="Remove"
            question={`Remove ${user_id} from ${conversationId}?`}
            isDanger
            act={async (ask) => {
              await ask("admin.members.remove", { ...of, user_ids: [user_id] });
              again();
              return "Removed.";
            }}
          />
        </span>
      ),
    },
  ];
  return (
    <>
      <h3>Members</h3>
      <Notices error={error} />
      <p className="actions">
        <Action
          label="Add"
          question={`Add members to ${conversationId}`}
          fields={[{ name: "users", label: "Users, with spaces between them" }]}
          act={async (ask, { users = "" }) => {
            const userIds = users.split(/[\s,]+/).filter(Boolean);
            await ask("admin.members.add", { ...of, user_ids: userIds });
            again();
            return `${userIds.join(", ")} added.`;
          }}
        />
      </p>
      {reply !== null && (
        <>
          <Table
            label="Members"
            columns={memberColumns}
            rows={reply.members}
            keyOf={(it) => it.user_id}
            empty="It has no members."
          />
          <Pages {...pages} />
        </>
      )}
    </>
  );
}
