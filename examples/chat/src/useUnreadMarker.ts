/** Decides where the line stands above which all was read: where the reader left off, until they answer or come back. */
import { useCallback, useEffect, useRef, useState } from "react";
import type { ConversationView } from "ws-service/client";
import { usePageVisible } from "./usePageVisible.ts";

interface Marker {
  /** Decided by a conversation in this state; once it is live, for good. */
  decidedBy: ConversationView["status"];
  /** Null: there is no line. */
  after: number | null;
}

export function useUnreadMarker({ status, unread, readSeq }: ConversationView) {
  const [{ decidedBy, after }, setMarker] = useState<Marker>({ decidedBy: "loading", after: null });
  const place = unread > 0 ? readSeq : null;
  // While it is drawn: what is marked as read afterwards must not move the line.
  if (decidedBy !== "live" && decidedBy !== status) setMarker({ decidedBy: status, after: after ?? place });

  const isVisible = usePageVisible();
  const before = useRef(isVisible);
  useEffect(() => {
    if (isVisible && !before.current) setMarker({ decidedBy: "live", after: place });
    before.current = isVisible;
  }, [isVisible, place]);

  return { after, clear: useCallback(() => setMarker({ decidedBy: "live", after: null }), []) };
}
