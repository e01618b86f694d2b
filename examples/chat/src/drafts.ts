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

const prefixOf = (me: string) => `draft ${me} `;
const keyOf = (me: string, conversationId: string) => prefixOf(me) + conversationId;

export const draftOf = (me: string, conversationId: string): string =>
  localStorage.getItem(keyOf(me, conversationId)) ?? "";

export function keepDraft(me: string, conversationId: string, text: string): void {
  if (text.trim() === "") localStorage.removeItem(keyOf(me, conversationId));
  else localStorage.setItem(keyOf(me, conversationId), text);
  for (const listener of listeners) listener();
}

/** Leaves nothing of whoever signs out. */
export function forgetDrafts(me: string): void {
  for (const key of Object.keys(localStorage)) if (key.startsWith(prefixOf(me))) localStorage.removeItem(key);
}

export const useDraft = (me: string, conversationId: string): string =>
  useSyncExternalStore(subscribe, () => draftOf(me, conversationId));
