/** Says who one talks to, and how they are; from here they are called. */
import type { Presence } from "ws-service/client";
import { useCalls, useClient, usePresence } from "ws-service/client/react";
import { Avatar, RoomAvatar } from "./Avatar.tsx";
import { Icon } from "./Icon.tsx";
import { firstNameOf, peerOf, personOf, type Room, titleOf } from "./people.ts";
import { lastSeen } from "./time.ts";

export function ThreadHeader({ room, me }: { room: Room; me: string }) {
  const others = room.members.filter((it) => it !== me);
  const presence = usePresence(others);
  const peer = peerOf(room, me);
  const title = titleOf(room, me);
  return (
    <header className="thread-header">
      <button type="button" className="icon-button back" aria-label="Back to the conversations" onClick={leave}>
        <Icon name="back" />
      </button>
      {peer === null ? (
        <RoomAvatar room={room} size={40} />
      ) : (
        <Avatar userId={peer} size={40} status={presence.get(peer)?.status ?? "offline"} />
      )}
      <div className="thread-title">
        <h2>{title}</h2>
        <p>
          {peer === null ? (
            <WhoIsHere userIds={others} presence={presence} />
          ) : (
            <HowTheyAre presence={presence.get(peer)} />
          )}
        </p>
      </div>
      {peer !== null && !personOf(peer).isMachine && <CallButtons userId={peer} conversationId={room.id} />}
    </header>
  );
}

function CallButtons({ userId, conversationId }: { userId: string; conversationId: string }) {
  const client = useClient();
  const isInCall = useCalls().length > 0;
  const name = firstNameOf(userId);
  const button = (media: "audio" | "video", label: string) => (
    <button
      type="button"
      className="icon-button"
      aria-label={label}
      title={label}
      disabled={isInCall}
      onClick={() => client.call(userId, { media, conversationId })}
    >
      <Icon name={media === "video" ? "video" : "phone"} />
    </button>
  );
  return (
    <>
      {button("audio", `Call ${name}`)}
      {button("video", `Call ${name} with video`)}
    </>
  );
}

const leave = () => {
  location.hash = "";
};

type Presences = ReadonlyMap<string, Presence>;

function WhoIsHere({ userIds, presence }: { userIds: readonly string[]; presence: Presences }) {
  const here = userIds.filter((it) => (presence.get(it)?.status ?? "offline") !== "offline").length;
  return (
    <>
      {userIds.map(firstNameOf).join(", ")} and you{here > 0 && ` · ${here} online`}
    </>
  );
}

const names = { online: "Online", away: "Away", busy: "Busy", invisible: "Invisible" } as const;

function HowTheyAre({ presence }: { presence: Presence | undefined }) {
  if (presence === undefined) return null;
  if (presence.status === "offline") return presence.lastSeen === null ? "Offline" : lastSeen(presence.lastSeen);
  const said = [presence.statusEmoji, presence.statusText].filter(Boolean).join(" ");
  return said === "" ? names[presence.status] : `${names[presence.status]} · ${said}`;
}
