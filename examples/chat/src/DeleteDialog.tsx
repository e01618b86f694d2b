/** Asks before a message is deleted, as there is no way back. */
import { useEffect, useRef } from "react";
import type { Message } from "ws-service/client";
import { textOf } from "./message.ts";

interface DeleteDialogProps {
  /** Null: nothing is asked. */
  message: Message | null;
  onDelete(message: Message): Promise<void>;
  onClose(): void;
}

export function DeleteDialog({ message, onDelete, onClose }: DeleteDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (message !== null) dialog.current!.showModal();
  }, [message]);
  return (
    <dialog ref={dialog} className="dialog" aria-labelledby="delete-title" onClose={onClose}>
      <h2 id="delete-title">Delete this message for everyone?</h2>
      {message !== null && <blockquote>{textOf(message)}</blockquote>}
      <form method="dialog">
        <button type="submit" className="button">
          Keep it
        </button>
        <button type="submit" className="button is-danger" onClick={() => message !== null && void onDelete(message)}>
          Delete
        </button>
      </form>
    </dialog>
  );
}
