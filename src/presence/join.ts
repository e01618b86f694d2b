/** The pure rule that joins a user's devices and the status set by hand to what oneself and what others see [PRE2]. */
import type { DevicePresence, DeviceStatus } from "../cluster/ports.ts";
import type { UserStatus } from "../storage/ports.ts";

/** A presence as it looks to somebody. */
export interface Shown<Status extends string = "online" | "away" | "busy" | "offline" | "invisible"> {
  status: Status;
  text: string | null;
  emoji: string | null;
  /** Milliseconds since the epoch; only oneself is told. */
  expiresAt: number | null;
}
export type ShownToOthers = Shown<DeviceStatus | "offline">;

const offline = { status: "offline", text: null, emoji: null, expiresAt: null } as const satisfies ShownToOthers;

/** Busy beats online beats away; a user without devices is offline. */
export function joinDevices(devices: Pick<DevicePresence, "status">[]): DeviceStatus | "offline" {
  for (const status of ["busy", "online", "away"] as const) {
    if (devices.some((device) => device.status === status)) return status;
  }
  return "offline";
}

/** What one's own devices are told: the truth, `invisible` and the end of a status included. */
export function shownToSelf(devices: Pick<DevicePresence, "status">[], byHand: UserStatus | null): Shown {
  const joined = joinDevices(devices);
  if (joined === "offline") return offline;
  if (byHand === null) return { ...offline, status: joined };
  // `online` by hand gives the status back to the devices; what was written beside it stays.
  const status = byHand.status === "online" ? joined : byHand.status;
  return { status, text: byHand.text, emoji: byHand.emoji, expiresAt: byHand.expiresAt };
}

/** What others are told: somebody invisible cannot be told from somebody who is offline, so neither shows a text. */
export function shownToOthers(devices: Pick<DevicePresence, "status">[], byHand: UserStatus | null): ShownToOthers {
  const { status, text, emoji } = shownToSelf(devices, byHand);
  return status === "invisible" || status === "offline" ? offline : { status, text, emoji, expiresAt: null };
}

export function looksTheSame(one: Shown, other: Shown): boolean {
  return (
    one.status === other.status &&
    one.text === other.text &&
    one.emoji === other.emoji &&
    one.expiresAt === other.expiresAt
  );
}
