/** Decides where the line stands above which all was read: where the reader left off, until they answer or come back. */
import { useCallback, useEffect, useRef, useState } from "react";
import type { ConversationView } from "ws-service/client";
import { usePageVisible } from "./usePageVisible.ts";

export function useUnreadMarker({ status, unread, readSeq }: ConversationView) {
  const [after, setAfter] = useState<number | null>(null);
  const isVisible = usePageVisible();
  const settled = useRef<string | null>(null);
  // While it is drawn: what is marked as read after it must not move the line.
  if (settled.current !== "live" && status !== "loading" && status !== settled.current) {
    settled.current = status;
    if (after === null && unread > 0) setAfter(readSeq);
  }
  const latest = useRef({ unread, readSeq });
  latest.current = { unread, readSeq };
  const wasVisible = useRef(isVisible);
  useEffect(() => {
    if (isVisible && !wasVisible.current) setAfter(latest.current.unread > 0 ? latest.current.readSeq : null);
    wasVisible.current = isVisible;
  }, [isVisible]);
  return { after, clear: useCallback(() => setAfter(null), []) };
}
