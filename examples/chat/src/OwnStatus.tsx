/** Shows who is here, and lets them say how they are, in which colours they like the page, and that they go. */
import { useClient, useConnectionState } from "ws-service/client/react";
import { Avatar } from "./Avatar.tsx";
import { forgetDrafts } from "./drafts.ts";
import { Icon } from "./Icon.tsx";
import { personOf } from "./people.ts";
import { switchTheme } from "./theme.ts";

const statuses = { online: "Online", away: "Away", busy: "Busy", invisible: "Invisible" } as const;

export function OwnStatus({ me, status = "offline" }: { me: string; status?: string | undefined }) {
  const client = useClient();
  const isLive = useConnectionState().status === "live";
  const signOut = async () => {
    forgetDrafts(me);
    await client.signOut();
    location.href = "/";
  };
  return (
    <header className="own">
      <Avatar userId={me} size={40} status={isLive ? status : "offline"} />
      <div className="own-text">
        <h1>{personOf(me).name}</h1>
        <label className="own-status">
          <span className="only-read">Your status</span>
          <select
            value={status in statuses ? status : "offline"}
            onChange={({ target }) => void client.setPresence({ status: target.value as keyof typeof statuses })}
          >
            {!(status in statuses) && <option value="offline">Offline</option>}
            {Object.entries(statuses).map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </label>
      </div>
      <button
        type="button"
        className="icon-button"
        aria-label="Switch between light and dark"
        title="Light or dark"
        onClick={switchTheme}
      >
        <Icon name="theme" />
      </button>
      <button type="button" className="icon-button" aria-label="Sign out" title="Sign out" onClick={signOut}>
        <Icon name="leave" />
      </button>
    </header>
  );
}
