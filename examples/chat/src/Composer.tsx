/** Takes what is written: keeps it as a draft, tells the others that somebody types, sends with Enter, changes what was said. */
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import type { Conversation, Message } from "ws-service/client";
import { draftOf, keepDraft } from "./drafts.ts";
import { Icon } from "./Icon.tsx";
import { textOf } from "./message.ts";

interface ComposerProps {
  me: string;
  conversation: Conversation;
  title: string;
  /** Null: something new is written. */
  edited: Message | null;
  onSend(text: string): Promise<void>;
  onEditLast(): void;
  onCancel(): void;
}

export function Composer({ me, conversation, title, edited, onSend, onEditLast, onCancel }: ComposerProps) {
  const [text, setText] = useState(() => (edited === null ? draftOf(me, conversation.id) : textOf(edited)));
  const field = useRef<HTMLTextAreaElement>(null);
  const isEmpty = text.trim() === "";
  useEffect(() => {
    // On a phone the keyboard would cover what one has come to read.
    if (edited !== null || matchMedia("(pointer: fine)").matches) field.current!.focus({ preventScroll: true });
    field.current!.setSelectionRange(-1, -1);
  }, [edited]);
  useEffect(() => () => conversation.typing.stop(), [conversation]);

  function write(value: string) {
    setText(value);
    if (edited !== null) return;
    keepDraft(me, conversation.id, value);
    if (value === "") conversation.typing.stop();
    else conversation.typing.keystroke();
  }
  function send() {
    if (isEmpty) return;
    setText("");
    if (edited === null) keepDraft(me, conversation.id, "");
    void onSend(text.trim());
    field.current!.focus();
  }
  function press(event: KeyboardEvent) {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send();
    }
    if (event.key === "Escape" && edited !== null) onCancel();
    if (event.key === "ArrowUp" && text === "" && edited === null) {
      event.preventDefault();
      onEditLast();
    }
  }

  return (
    <div className="composer">
      {edited !== null && (
        <p className="editing">
          <Icon name="edit" />
          <span>Editing your message</span>
          <button type="button" className="text-button" onClick={onCancel}>
            Cancel
          </button>
        </p>
      )}
      <div className="field">
        <textarea
          ref={field}
          rows={1}
          value={text}
          aria-label={`Write to ${title}`}
          placeholder={`Write to ${title}`}
          enterKeyHint="send"
          onChange={({ target }) => write(target.value)}
          onKeyDown={press}
          onBlur={() => conversation.typing.stop()}
        />
        <button
          type="button"
          className="send"
          aria-label={edited === null ? "Send" : "Save"}
          disabled={isEmpty}
          onClick={send}
        >
          <Icon name="send" />
        </button>
      </div>
    </div>
  );
}
