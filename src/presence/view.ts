/** Writes a presence down the way an answer to `presence.query` or a snapshot shows it [PRE4] [PRE5]. */
import type { DevicePresence } from "../cluster/ports.ts";
import type { PresenceView } from "../protocol/server.ts";
import type { UserStatus } from "../storage/ports.ts";
import { type Shown, shownToOthers, shownToSelf } from "./join.ts";

export interface PresenceFacts {
  userId: string;
  devices: DevicePresence[];
  byHand: UserStatus | null;
  /** Milliseconds since the epoch; null: never. */
  lastSeenAt: number | null;
}

const moment = (at: number) => new Date(at).toISOString();

/** Somebody who may not be seen cannot be told from somebody who has never been here. */
export const viewOfUnseen = (userId: string): PresenceView => ({ user_id: userId, status: "offline" });

export function viewForOthers({ userId, devices, byHand, lastSeenAt }: PresenceFacts): PresenceView {
  return view(userId, shownToOthers(devices, byHand), lastSeenAt);
}

/** The truth, with the number of devices and the end of the status. */
export function viewForSelf({ userId, devices, byHand, lastSeenAt }: PresenceFacts): PresenceView {
  return { ...view(userId, shownToSelf(devices, byHand), lastSeenAt), devices: devices.length };
}

function view(userId: string, { status, text, emoji, expiresAt }: Shown, lastSeenAt: number | null): PresenceView {
  return {
    user_id: userId,
    status,
    ...(text === null ? {} : { status_text: text }),
    ...(emoji === null ? {} : { status_emoji: emoji }),
    ...(expiresAt === null ? {} : { expires_at: moment(expiresAt) }),
    ...(status !== "offline" || lastSeenAt === null ? {} : { last_seen: moment(lastSeenAt) }),
  };
}
