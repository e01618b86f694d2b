/** Reads a presence record as its user and as others see it at a moment, and says when that changes by itself [PRE2]. */
import type { DevicePresence, DeviceStatus, PresenceRecord } from "../cluster/ports.ts";
import type { UserStatus } from "../storage/ports.ts";

/** A presence as it looks to somebody. */
export interface View<Status extends string = "online" | "away" | "busy" | "offline" | "invisible"> {
  status: Status;
  text: string | null;
  emoji: string | null;
  /** Milliseconds since 1970; only oneself is told. */
  expiresAt: number | null;
}
export type ViewForOthers = View<DeviceStatus | "offline">;

export const offline = { status: "offline", text: null, emoji: null, expiresAt: null } as const satisfies ViewForOthers;

/** Devices that are here, or may come back unseen. */
export const presentDevices = ({ devices }: PresenceRecord, now: number): DevicePresence[] =>
  devices.filter(({ leaving }) => leaving === undefined || leaving.until > now);

const rank = { offline: 0, away: 1, online: 2, busy: 3 } as const;

/** Joins devices: busy beats online beats away; a user without devices is offline. */
export function joinDevices(devices: readonly Pick<DevicePresence, "status">[]): DeviceStatus | "offline" {
  let joined: DeviceStatus | "offline" = "offline";
  for (const { status } of devices) if (rank[status] > rank[joined]) joined = status;
  return joined;
}

/** Shows the truth to one's own devices, `invisible` and the end of a status included. */
export function viewForSelf(record: PresenceRecord, now: number): View {
  const joined = joinDevices(presentDevices(record, now));
  const byHand = unlessOver(record.byHand, now);
  if (joined === "offline") return offline;
  if (byHand === null) return { ...offline, status: joined };
  // `online` by hand gives the status back to the devices; what was written beside it stays.
  const status = byHand.status === "online" ? joined : byHand.status;
  return { status, text: byHand.text, emoji: byHand.emoji, expiresAt: byHand.expiresAt };
}

/** Shows a backend that may know it somebody invisible as such [BAK1]. */
export const viewForBackend = (record: PresenceRecord, now: number): View => ({
  ...viewForSelf(record, now),
  expiresAt: null,
});

/** Shows others somebody invisible as somebody who is offline, without a text. */
export function viewForOthers(record: PresenceRecord, now: number): ViewForOthers {
  const { status, text, emoji } = viewForSelf(record, now);
  return status === "invisible" || status === "offline" ? offline : { status, text, emoji, expiresAt: null };
}

export const isVisible = (record: PresenceRecord, now: number) => viewForOthers(record, now).status !== "offline";

/** Tells when the record looks different by itself: the end of a grace or of a status; null: never. */
export function nextMoment({ devices, byHand }: PresenceRecord, now: number): number | null {
  let next: number | null = null;
  const note = (moment: number | null | undefined) => {
    if (moment != null && moment > now) next = Math.min(next ?? moment, moment);
  };
  for (const { leaving } of devices) note(leaving?.until);
  note(byHand?.expiresAt);
  return next;
}

export function looksTheSame(one: View, other: View): boolean {
  return (
    one.status === other.status &&
    one.text === other.text &&
    one.emoji === other.emoji &&
    one.expiresAt === other.expiresAt
  );
}

/** Leaves out a status whose end has come. */
export const unlessOver = (byHand: UserStatus | null, now: number): UserStatus | null =>
  byHand !== null && byHand.expiresAt !== null && byHand.expiresAt <= now ? null : byHand;
