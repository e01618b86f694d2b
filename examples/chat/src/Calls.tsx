/** Shows the calls: who rings, the one that one is in, and for a moment why it has ended. */
import { type ReactNode, useEffect, useRef, useState } from "react";
import type { Call, CallView } from "ws-service/client";
import { useCall, useCalls } from "ws-service/client/react";
import { Avatar } from "./Avatar.tsx";
import { Icon, type IconName } from "./Icon.tsx";
import { firstNameOf, personOf } from "./people.ts";
import { duration } from "./time.ts";

export const Calls = () => useShownCalls().map((call) => <CallPanel key={call.id} call={call} />);

const shownAfterMs = 4_000;

/** Those that go on, and those that have just ended. */
function useShownCalls(): readonly Call[] {
  const calls = useCalls();
  const before = useRef(calls);
  const [over, setOver] = useState<readonly Call[]>([]);
  useEffect(() => {
    const gone = before.current.filter((it) => !calls.includes(it));
    before.current = calls;
    if (gone.length === 0) return;
    setOver((others) => [...others, ...gone]);
    setTimeout(() => setOver((others) => others.filter((it) => !gone.includes(it))), shownAfterMs);
  }, [calls]);
  return [...over.filter((it) => !calls.includes(it)), ...calls];
}

function CallPanel({ call }: { call: Call }) {
  const view = useCall(call);
  const { state, direction, peerUserId, media, localStream, remoteStream, isCameraOn } = view;
  const name = personOf(peerUserId).name;
  const isOn = state === "connecting" || state === "active";
  const hasVideo = isOn && media === "video";
  const isTheirsShown = hasVideo && remoteStream !== null && remoteStream.getVideoTracks().length > 0;
  return (
    <section className="call" aria-label={`Call with ${name}`} data-state={state} data-video={hasVideo}>
      {isTheirsShown && <Media kind="video" stream={remoteStream} className="remote" label={`${name}'s picture`} />}
      {hasVideo && !isTheirsShown && (
        <span className="call-unseen">
          <Avatar userId={peerUserId} size={96} />
        </span>
      )}
      {hasVideo && isCameraOn && <Media kind="video" stream={localStream} className="local" label="Your own picture" />}
      {isOn && <Media kind="audio" stream={remoteStream} />}
      <div className="call-who">
        <span className="call-picture" data-ringing={state === "ringing"}>
          <Avatar userId={peerUserId} size={44} />
        </span>
        <div>
          <h2>{name}</h2>
          <p role="status">
            <CallState {...view} />
          </p>
        </div>
      </div>
      <div className="call-buttons">
        {state === "ringing" && direction === "incoming" ? (
          <Answer call={call} media={media} />
        ) : (
          state !== "ended" && <Controls call={call} view={view} />
        )}
      </div>
    </section>
  );
}

function Answer({ call, media }: { call: Call; media: CallView["media"] }) {
  return (
    <>
      <Button icon="hangUp" name="Decline" kind="danger" onClick={() => call.decline()} />
      {media === "video" && (
        <Button icon="phone" name="Accept without camera" onClick={() => call.accept({ media: "audio" })} />
      )}
      <Button icon={media === "video" ? "video" : "phone"} name="Accept" kind="good" onClick={() => call.accept()} />
    </>
  );
}

function Controls({ call, view: { state, isMuted, isCameraOn } }: { call: Call; view: CallView }) {
  return (
    <>
      {state === "active" && (
        <>
          <Button
            icon={isMuted ? "microphoneOff" : "microphone"}
            name="Mute"
            isPressed={isMuted}
            onClick={() => call.setMuted(!isMuted)}
          />
          <Button
            icon={isCameraOn ? "video" : "videoOff"}
            name="Camera"
            isPressed={isCameraOn}
            onClick={() => call.setMedia(isCameraOn ? "audio" : "video")}
          />
        </>
      )}
      <Button icon="hangUp" name="Hang up" kind="danger" onClick={() => call.hangUp()} />
    </>
  );
}

function CallState({
  state,
  direction,
  media,
  isReconnecting,
  busy,
  activeSince,
  endReason,
  durationMs,
  peerUserId,
}: CallView): ReactNode {
  const name = firstNameOf(peerUserId);
  switch (state) {
    case "ringing":
      if (direction === "incoming") return media === "video" ? "calls you with video" : "calls you";
      return busy ? `Ringing… ${name} is in another call` : "Ringing…";
    case "connecting":
      return "Connecting…";
    case "active":
      return isReconnecting ? "Reconnecting…" : <Duration since={activeSince!} />;
    case "ended":
      return durationMs === null
        ? (endTexts[endReason!]?.(name) ?? "Call ended")
        : `Call ended after ${duration(durationMs / 1_000)}`;
  }
}

const endTexts: Partial<Record<NonNullable<CallView["endReason"]>, (name: string) => string>> = {
  declined: (name) => `${name} declined`,
  busy: (name) => `${name} is in another call`,
  timeout: () => "No answer",
  cancelled: () => "Nobody rings any more",
  answered_elsewhere: () => "Answered on another device",
  declined_elsewhere: () => "Declined on another device",
  connection_lost: () => "The connection was lost",
  media_failed: () => "No microphone or camera to be had",
};

interface ButtonProps {
  icon: IconName;
  name: string;
  kind?: "danger" | "good";
  isPressed?: boolean;
  onClick(): unknown;
}

const Button = ({ icon, name, kind, isPressed, onClick }: ButtonProps) => (
  <button
    type="button"
    className="call-button"
    data-kind={kind}
    aria-label={name}
    title={name}
    aria-pressed={isPressed}
    onClick={() => void onClick()}
  >
    <Icon name={icon} />
  </button>
);

interface MediaProps {
  kind: "audio" | "video";
  stream: MediaStream | null;
  className?: string;
  label?: string;
}

/** What is heard comes of the one that is not seen. */
function Media({ kind: Kind, stream, className, label }: MediaProps) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    element.current!.srcObject = stream;
  }, [stream]);
  return <Kind ref={element} className={className} aria-label={label} autoPlay playsInline muted={Kind === "video"} />;
}

function Duration({ since }: { since: number }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  return <time>{duration(Math.max(0, now - since) / 1_000)}</time>;
}
