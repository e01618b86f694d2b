/** Draws somebody's picture, a room's, and whether somebody is there. */
import type { CSSProperties } from "react";
import { type Person, personOf, type Room } from "./people.ts";

const initialsOf = (name: string) =>
  name
    .split(" ")
    .map(([first]) => first)
    .slice(0, 2)
    .join("");

interface AvatarProps {
  userId: string;
  /** Pixels. */
  size?: number;
  /** Shown as a dot; left out: none. */
  status?: string | undefined;
}

/** It has no name of its own: the person's name stands beside it. */
export function Avatar({ userId, size = 36, status }: AvatarProps) {
  return <Picture {...pictureOf(personOf(userId))} size={size} status={status} />;
}

export function RoomAvatar({ room, size = 36 }: { room: Room; size?: number }) {
  const hue = [...room.id].reduce((sum, letter) => sum + letter.codePointAt(0)! * 37, 0) % 360;
  return <Picture text={initialsOf(room.title ?? room.id)} hue={hue} size={size} isRoom />;
}

const pictureOf = ({ name, hue }: Person) => ({ text: initialsOf(name), hue });

interface PictureProps {
  text: string;
  hue: number;
  size: number;
  status?: string | undefined;
  isRoom?: boolean;
}

function Picture({ text, hue, size, status, isRoom = false }: PictureProps) {
  return (
    <span
      className={isRoom ? "avatar is-room" : "avatar"}
      style={{ "--hue": hue, "--size": `${size}px` } as CSSProperties}
      aria-hidden="true"
    >
      {text}
      {status !== undefined && <span className="dot" data-status={status} />}
    </span>
  );
}
