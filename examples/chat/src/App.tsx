/** Puts the page together: the conversations beside the one that is open, the state of the line above, calls over all. */
import { useEffect, useSyncExternalStore } from "react";
import { useConversations } from "ws-service/client/react";
import { Calls } from "./Calls.tsx";
import { ConversationList } from "./ConversationList.tsx";
import { LineBanner } from "./LineBanner.tsx";
import { Thread } from "./Thread.tsx";

function subscribeToHash(listener: () => void) {
  window.addEventListener("hashchange", listener);
  return () => window.removeEventListener("hashchange", listener);
}

/** The open conversation stands in the address: a reload keeps it, and the browser's back goes to the list. */
const useOpenConversation = (): string | null =>
  useSyncExternalStore(subscribeToHash, () => decodeURIComponent(location.hash.slice(1)) || null);

export function App({ me }: { me: string }) {
  const open = useOpenConversation();
  const list = useConversations();
  const unread = list.items.reduce((sum, it) => sum + it.unread, 0);
  useEffect(() => {
    document.title = unread === 0 ? "Chat" : `(${unread}) Chat`;
  }, [unread]);

  return (
    <div className="app" data-pane={open === null ? "list" : "thread"}>
      <ConversationList me={me} list={list} open={open} />
      <main className="main">
        <LineBanner />
        <Calls />
        {open === null ? <Nothing /> : <Thread key={open} id={open} me={me} />}
      </main>
    </div>
  );
}

const Nothing = () => (
  <div className="nothing">
    <img src="/icon.svg" alt="" width="56" height="56" />
    <p>Choose a conversation</p>
  </div>
);
