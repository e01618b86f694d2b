/** Keeps what was written and not sent, for each conversation, over reloads. */
import { useSyncExternalStore } from "react";

const listeners = new Set<() => void>();

function subscribe(listener: () => void) {
  listeners.add(listener);
  window.addEventListener("storage", listener);
  return () => {
    listeners.delete(listener);
    window.removeEventListener("storage", listener);
  };
}

const keyOf = (me: string, conversationId: string) => `draft ${me} ${conversationId}`;

export const draftOf = (me: string, conversationId: string): string =>
  localStorage.getItem(keyOf(me, conversationId)) ?? "";

export function keepDraft(me: string, conversationId: string, text: string): void {
  if (text.trim() === "") localStorage.removeItem(keyOf(me, conversationId));
  else localStorage.setItem(keyOf(me, conversationId), text);
  for (const listener of listeners) listener();
}

export const useDraft = (me: string, conversationId: string): string =>
  useSyncExternalStore(subscribe, () => draftOf(me, conversationId));
