/** Draws a message: who, what and when, how far it has come, who reacted; and offers what can be done with it. */
import { memo } from "react";
import type { Conversation, Message } from "ws-service/client";
import { Avatar } from "./Avatar.tsx";
import { Icon, Tick, type TickState } from "./Icon.tsx";
import { textOf } from "./message.ts";
import { firstNameOf, personOf } from "./people.ts";
import { RichText } from "./RichText.tsx";
import { timeOf } from "./time.ts";

const quick: readonly (readonly [reaction: string, name: string])[] = [
  ["👍", "thumbs up"],
  ["❤️", "heart"],
  ["😂", "laughing"],
  ["🎉", "party"],
  ["😮", "surprised"],
];
const nameOfReaction = new Map(quick);

interface MessageRowProps {
  message: Message;
  beginsUnread: boolean;
  isFirst: boolean;
  isLast: boolean;
  isGroup: boolean;
  me: string;
  mayWrite: boolean;
  tick: { state: TickState; detail?: string } | null;
  conversation: Conversation;
  onEdit(message: Message): void;
  onDelete(message: Message): void;
}

/** Drawn anew only where something of it is another: the message is the same object otherwise. */
export const MessageRow = memo(Row, (one, other) =>
  (Object.keys(other) as (keyof MessageRowProps)[]).every((name) =>
    name === "tick"
      ? one.tick?.state === other.tick?.state && one.tick?.detail === other.tick?.detail
      : one[name] === other[name],
  ),
);

function Row({ message, beginsUnread, isFirst, isLast, isGroup, tick, ...rest }: MessageRowProps) {
  const { key, seq, isOwn, senderId, state, createdAt, editedAt, deletedAt } = message;
  const isDeleted = deletedAt !== null;
  const isWithPicture = isGroup && !isOwn;
  return (
    <li
      className="message"
      data-key={key}
      data-seq={seq ?? undefined}
      data-own={isOwn}
      data-first={isFirst}
      data-last={isLast}
      data-state={state}
      tabIndex={-1}
    >
      {beginsUnread && (
        <p className="unread" data-unread>
          <span>New</span>
        </p>
      )}
      {isWithPicture && <span className="message-picture">{isLast && <Avatar userId={senderId} size={28} />}</span>}
      <div className="message-body">
        {isWithPicture && isFirst && (
          <span className="sender" style={{ "--hue": personOf(senderId).hue } as React.CSSProperties}>
            {personOf(senderId).name}
          </span>
        )}
        <div className="bubble" data-deleted={isDeleted}>
          <span className="only-read">{isOwn ? "You" : firstNameOf(senderId)}: </span>
          <span className="text">
            <span data-text>{isDeleted ? textOf(message) : <RichText text={textOf(message)} />}</span>
            <span className="meta">
              {editedAt !== null && <span>edited</span>}
              <time dateTime={createdAt}>{timeOf(createdAt)}</time>
              {tick !== null && <Tick {...tick} />}
            </span>
          </span>
          {state !== "failed" && !isDeleted && <Toolbar message={message} {...rest} />}
        </div>
        <Reactions message={message} {...rest} />
        {state === "failed" && <Failed message={message} conversation={rest.conversation} />}
      </div>
    </li>
  );
}

type ToolbarProps = Pick<MessageRowProps, "message" | "mayWrite" | "conversation" | "onEdit" | "onDelete">;

function Toolbar({ message, mayWrite, conversation, onEdit, onDelete }: ToolbarProps) {
  const isMine = (reaction: string) => message.reactions.some((it) => it.reaction === reaction && it.isMine);
  return (
    <div className="toolbar" role="toolbar" aria-label="What to do with this message">
      {mayWrite &&
        message.seq !== null &&
        quick.map(([reaction, name]) => (
          <button
            key={reaction}
            type="button"
            aria-label={`React with ${name}`}
            aria-pressed={isMine(reaction)}
            title={`React with ${name}`}
            onClick={() => void conversation.react(message.id, reaction, !isMine(reaction))}
          >
            {reaction}
          </button>
        ))}
      {message.isOwn && (
        <>
          {mayWrite && (
            <button type="button" aria-label="Edit" title="Edit" onClick={() => onEdit(message)}>
              <Icon name="edit" />
            </button>
          )}
          <button type="button" aria-label="Delete" title="Delete" onClick={() => onDelete(message)}>
            <Icon name="remove" />
          </button>
        </>
      )}
    </div>
  );
}

function Reactions({
  message,
  mayWrite,
  conversation,
  me,
}: Pick<MessageRowProps, "message" | "mayWrite" | "conversation" | "me">) {
  if (message.reactions.length === 0) return null;
  return (
    <ul className="reactions" aria-label="Reactions">
      {message.reactions.map(({ reaction, count, userIds, isMine }) => {
        const names = userIds.map((it) => (it === me ? "you" : firstNameOf(it))).join(", ");
        const label = `${nameOfReaction.get(reaction) ?? reaction}, ${count}: ${names}`;
        return (
          <li key={reaction}>
            <button
              type="button"
              aria-pressed={isMine}
              aria-label={label}
              title={names}
              disabled={!mayWrite}
              onClick={() => void conversation.react(message.id, reaction, !isMine)}
            >
              {reaction} {count > 1 && <span>{count}</span>}
            </button>
          </li>
        );
      })}
    </ul>
  );
}

function Failed({ message, conversation }: Pick<MessageRowProps, "message" | "conversation">) {
  return (
    <p className="failed" role="alert">
      Not sent{message.error !== undefined && `: ${message.error.message}`}
      <button type="button" className="text-button" onClick={() => void conversation.retry(message.id)}>
        Try again
      </button>
      <button type="button" className="text-button" onClick={() => void conversation.discard(message.id)}>
        Discard
      </button>
    </p>
  );
}
