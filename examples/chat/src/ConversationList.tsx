/** Lists the conversations: who is there, what was said last and how far it has come, what is unread, who types, what waits as a draft. */
import type { ConversationListView, ConversationSummary, Message, Presence } from "ws-service/client";
import { usePresence } from "ws-service/client/react";
import { Avatar, RoomAvatar } from "./Avatar.tsx";
import { useDraft } from "./drafts.ts";
import { Tick } from "./Icon.tsx";
import { textOf, tickOf } from "./message.ts";
import { OwnStatus } from "./OwnStatus.tsx";
import { firstNameOf, peerOf, people, roomOf, titleOf } from "./people.ts";
import { shortTime } from "./time.ts";

const everybody = people.map(({ id }) => id);

export function ConversationList({ me, list, open }: { me: string; list: ConversationListView; open: string | null }) {
  const presence = usePresence(everybody);
  return (
    <aside className="sidebar">
      <OwnStatus me={me} status={presence.get(me)?.status} />
      <nav aria-label="Conversations">
        <ul className="conversations">
          {list.items.map((item) => (
            <li key={item.id}>
              <Entry item={item} me={me} isOpen={item.id === open} presence={presence} />
            </li>
          ))}
        </ul>
        {list.items.length === 0 && (
          <p className="empty">{list.status === "loading" ? "Loading…" : "No conversations yet."}</p>
        )}
      </nav>
    </aside>
  );
}

interface EntryProps {
  item: ConversationSummary;
  me: string;
  isOpen: boolean;
  presence: ReadonlyMap<string, Presence>;
}

function Entry({ item, me, isOpen, presence }: EntryProps) {
  const room = roomOf(item.id);
  const peer = peerOf(room, me);
  const { lastMessage, unread } = item;
  return (
    <a className="conversation" href={`#${encodeURIComponent(item.id)}`} aria-current={isOpen ? "page" : undefined}>
      {peer === null ? (
        <RoomAvatar room={room} size={46} />
      ) : (
        <Avatar userId={peer} size={46} status={presence.get(peer)?.status ?? "offline"} />
      )}
      <span className="conversation-title">{titleOf(room, me)}</span>
      {lastMessage !== null && (
        <time className="conversation-time" dateTime={lastMessage.createdAt}>
          {shortTime(lastMessage.createdAt)}
        </time>
      )}
      <span className="conversation-second">
        <span className="conversation-preview">
          <Preview item={item} me={me} isOpen={isOpen} />
        </span>
        {unread > 0 && (
          <span className="badge">
            {unread > 99 ? "99+" : unread}
            <span className="only-read"> unread</span>
          </span>
        )}
      </span>
    </a>
  );
}

function Preview({ item, me, isOpen }: { item: ConversationSummary; me: string; isOpen: boolean }) {
  const draft = useDraft(me, item.id);
  const { typing, lastMessage } = item;
  if (typing.length > 0)
    return (
      <span className="is-typing">
        {typing.length > 1 ? "Several people type…" : `${firstNameOf(typing[0]!)} types…`}
      </span>
    );
  if (draft !== "" && !isOpen)
    return (
      <>
        <span className="is-draft">Draft:</span> {draft}
      </>
    );
  if (lastMessage === null) return "Nothing said yet";
  return <Said message={lastMessage} item={item} me={me} />;
}

function Said({ message, item, me }: { message: Message; item: ConversationSummary; me: string }) {
  const room = roomOf(item.id);
  const tick = message.isOwn ? tickOf(message, { receipts: item.receipts, room, me }) : null;
  const isGroup = peerOf(room, me) === null;
  return (
    <>
      {tick !== null && <Tick state={tick.state} />}
      {isGroup && !message.isOwn && `${firstNameOf(message.senderId)}: `}
      {textOf(message)}
    </>
  );
}
