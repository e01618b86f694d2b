/** Shows one conversation: what was said, as far back as one likes, and where one goes on saying it. */
import { useCallback, useEffect, useMemo, useState } from "react";
import type { ConversationView, Message } from "ws-service/client";
import { useConversation } from "ws-service/client/react";
import { Composer } from "./Composer.tsx";
import { DeleteDialog } from "./DeleteDialog.tsx";
import { Icon } from "./Icon.tsx";
import { MessageRow } from "./MessageRow.tsx";
import { tickOf } from "./message.ts";
import { firstNameOf, peerOf, roomOf, titleOf } from "./people.ts";
import { daysOf } from "./rows.ts";
import { ThreadHeader } from "./ThreadHeader.tsx";
import { dayName } from "./time.ts";
import { useLoadOlder } from "./useLoadOlder.ts";
import { usePageVisible } from "./usePageVisible.ts";
import { useThreadScroll } from "./useThreadScroll.ts";
import { useUnreadMarker } from "./useUnreadMarker.ts";

export function Thread({ id, me }: { id: string; me: string }) {
  const [view, conversation] = useConversation(id);
  const room = roomOf(id);
  const isGroup = peerOf(room, me) === null;
  const isReady = view.status !== "loading";
  const marker = useUnreadMarker(view);
  const scroll = useThreadScroll("[data-unread]", isReady);
  const [edited, setEdited] = useState<Message | null>(null);
  const [deleted, setDeleted] = useState<Message | null>(null);
  const days = useMemo(() => daysOf(view.messages, marker.after), [view.messages, marker.after]);
  const top = useLoadOlder(conversation, view, scroll.box);
  useMarkRead(view, scroll, conversation.markRead.bind(conversation));

  const send = useCallback(
    async (text: string) => {
      marker.clear();
      if (edited === null) await conversation.send(text);
      else await conversation.edit(edited.id, text);
      setEdited(null);
      if (edited === null) scroll.toEnd();
    },
    [conversation, edited, marker.clear, scroll.toEnd],
  );
  const editLast = () => setEdited(view.messages.findLast(isEditable) ?? null);

  if (view.status === "removed") return <p className="nothing">You are not in this conversation any more.</p>;
  return (
    <section className="thread" aria-label={titleOf(room, me)}>
      <ThreadHeader room={room} me={me} />
      <div
        className="messages"
        ref={scroll.box}
        role="log"
        aria-label="Messages"
        aria-busy={!isReady || view.isLoadingOlder}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is reached by the keyboard
        tabIndex={0}
        onKeyDown={walk}
      >
        <div className="days">
          <div ref={top} className="top">
            {view.hasOlder ? (
              <span className="spinner" data-on={view.isLoadingOlder || !isReady} />
            ) : (
              isReady && <p className="beginning">This is where it began.</p>
            )}
          </div>
          {days.map(({ key, moment, rows }) => (
            <section key={key} aria-label={dayName(moment)}>
              <h3 className="day">
                <time dateTime={moment}>{dayName(moment)}</time>
              </h3>
              <ol>
                {rows.map(({ message, ...row }) => (
                  <MessageRow
                    key={message.key}
                    message={message}
                    {...row}
                    me={me}
                    isGroup={isGroup}
                    conversation={conversation}
                    mayWrite={view.mayWrite}
                    tick={message.isOwn ? tickOf(message, { receipts: view.receipts, room, me }) : null}
                    onEdit={setEdited}
                    onDelete={setDeleted}
                  />
                ))}
              </ol>
            </section>
          ))}
        </div>
      </div>
      <div className="thread-foot">
        {!scroll.isAtEnd && (
          <button type="button" className="to-end" onClick={scroll.toEnd}>
            <Icon name="down" />
            {view.unread > 0 ? `${view.unread} new` : "Newest"}
          </button>
        )}
        <TypingLine userIds={view.typing} />
      </div>
      {view.mayWrite ? (
        <Composer
          key={edited?.id ?? "new"}
          me={me}
          conversation={conversation}
          title={titleOf(room, me)}
          edited={edited}
          onSend={send}
          onEditLast={editLast}
          onCancel={() => setEdited(null)}
        />
      ) : (
        <p className="read-only">
          <Icon name="lock" />
          {room.writers === undefined
            ? "You may not write here at the moment."
            : `Only ${room.writers.map(firstNameOf).join(", ")} can write here.`}
        </p>
      )}
      <DeleteDialog message={deleted} onClose={() => setDeleted(null)} onDelete={({ id }) => conversation.delete(id)} />
    </section>
  );
}

const isEditable = (message: Message) => message.isOwn && message.content !== null && message.state !== "failed";

/** Marks what is seen: on a page that is looked at, as far as its end is. */
function useMarkRead(
  { messages, status, unread }: ConversationView,
  { lastSeen, isAtEnd, box }: ReturnType<typeof useThreadScroll>,
  markRead: (upTo?: number) => void,
): void {
  const isVisible = usePageVisible();
  useEffect(() => {
    if (!isVisible || status === "loading" || unread === 0) return;
    const mark = () => {
      const seq = lastSeen();
      if (seq !== undefined) markRead(seq);
    };
    mark();
    const element = box.current!;
    element.addEventListener("scroll", mark, { passive: true });
    return () => element.removeEventListener("scroll", mark);
  }, [isVisible, status, unread, messages, isAtEnd]);
}

/** Up and down go from message to message. */
function walk(event: React.KeyboardEvent<HTMLDivElement>): void {
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const messages = [...event.currentTarget.querySelectorAll<HTMLElement>("[data-key]")];
  const at = messages.findIndex((it) => it.contains(document.activeElement));
  if (event.key === "Escape") event.currentTarget.parentElement?.querySelector("textarea")?.focus();
  if (step === undefined || (at < 0 && event.target !== event.currentTarget)) return;
  const next = at < 0 ? messages.at(-1) : messages[at + step];
  if (next === undefined) return;
  event.preventDefault();
  next.focus();
}

function TypingLine({ userIds }: { userIds: readonly string[] }) {
  const names = userIds.map(firstNameOf);
  const text =
    names.length === 0 ? "" : names.length === 1 ? `${names[0]} is typing` : `${names.join(", ")} are typing`;
  return (
    <p className="typing" role="status" data-on={text !== ""}>
      {text !== "" && (
        <>
          {text}
          <span className="dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
        </>
      )}
    </p>
  );
}
