/** Loads what was before as soon as the reader comes near to where it would begin. */
import { type RefObject, useEffect, useRef } from "react";
import type { Conversation, ConversationView } from "ws-service/client";

/** @returns what stands at the top */
export function useLoadOlder(
  conversation: Conversation,
  { hasOlder, isLoadingOlder, status, messages }: ConversationView,
  box: RefObject<HTMLDivElement | null>,
): RefObject<HTMLDivElement | null> {
  const top = useRef<HTMLDivElement>(null);
  const count = messages.length;
  // Watched anew after each page: what is still in sight asks for the next one.
  useEffect(() => {
    if (!hasOlder || isLoadingOlder || status === "loading") return;
    const observer = new IntersectionObserver(
      ([entry]) => {
        // Offline: the reader may try again by coming back.
        if (entry?.isIntersecting) conversation.loadOlder().catch(() => {});
      },
      { root: box.current, rootMargin: "600px 0px 0px" },
    );
    observer.observe(top.current!);
    return () => observer.disconnect();
  }, [conversation, box, hasOlder, isLoadingOlder, status, count]);
  return top;
}
