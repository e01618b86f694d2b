/** Says that the line is away, since when there is something to say, and what becomes of what is written meanwhile. */
import { useEffect, useState } from "react";
import type { ConnectionState } from "ws-service/client";
import { useClient, useConnectionState } from "ws-service/client/react";

export function LineBanner() {
  const client = useClient();
  const state = useSettled(useConnectionState());
  const text = useText(state);
  // There from the beginning, so that a reader for the blind hears what changes in it.
  return (
    <div className="line-banner" role="status" data-status={text === null ? "live" : state.status}>
      {text !== null && (
        <p>
          {text}
          {state.status === "stopped" && (
            <button type="button" className="text-button" onClick={() => client.start()}>
              Connect again
            </button>
          )}
        </p>
      )}
    </div>
  );
}

/** The state; waiting, until it is live: the banner does not blink while tries come and go. */
function useSettled(state: ConnectionState): ConnectionState {
  const [settled, setSettled] = useState(state);
  if (state.status === "connecting" && settled.status === "waiting") return settled;
  if (state !== settled) setSettled(state);
  return state;
}

function useText(state: ConnectionState): string | null {
  const seconds = useSecondsUntil(state.status === "waiting" ? state.retryAt : null);
  switch (state.status) {
    case "live":
    case "connecting":
      return null;
    case "waiting": {
      if (state.reason === "offline") return "You are offline. What you write is kept, and sent when you are back.";
      const when = seconds > 0 ? ` Trying again in ${seconds} s.` : " Trying again.";
      return `No connection. What you write is kept.${when}`;
    }
    case "stopped":
      return stopTexts[state.reason] ?? "Not connected.";
  }
}

const stopTexts: Partial<Record<(ConnectionState & { status: "stopped" })["reason"], string>> = {
  new: "",
  replaced: "Another window of this device has taken over.",
  revoked: "You were signed out by an administrator.",
  authentication: "You are not signed in any more.",
  too_many_devices: "You are signed in on too many devices.",
  version: "This page is too old. Load it again.",
};

function useSecondsUntil(moment: number | null): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (moment === null) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, [moment]);
  return moment === null ? 0 : Math.max(0, Math.ceil((moment - now) / 1_000));
}
