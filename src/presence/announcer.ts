/** Decides which event a change of presence is for others and for one's own devices, and how often others hear of it [PRE3]. */
import type { DevicePresence } from "../cluster/ports.ts";
import type { Timers } from "../ground/timers.ts";
import type { ServerPayload } from "../protocol/server.ts";
import { presenceTopic } from "../protocol/topic.ts";
import type { UserStatus } from "../storage/ports.ts";
import { looksTheSame, type ShownToOthers, shownToOthers, shownToSelf } from "./join.ts";

/** All that a user's presence is made of. */
export interface Presence {
  devices: DevicePresence[];
  byHand: UserStatus | null;
}

type EventType = "presence.online" | "presence.offline" | "presence.update";
export type PresenceMessage = { [Type in EventType]: { type: Type; payload: ServerPayload<Type> } }[EventType];

/** The device whose request led to a message; its own connection is not told [SUB6]. */
export interface Cause {
  userId: string;
  deviceId: string;
}

export interface AnnouncerDeps {
  /** To the topic `presence:<user>`, ephemeral. */
  publish(topic: string, message: PresenceMessage, cause?: Cause): void;
  /** To the topic `user:<id>`, ephemeral. */
  tellOwnDevices(userId: string, message: PresenceMessage, cause?: Cause): void;
  setLastSeen(userId: string, at: number): Promise<void>;
  /** Whether no device of the user has come meanwhile, on any node. */
  isStillGone(userId: string): Promise<boolean>;
  /** What others see of the user at this moment, read in the user's turn; calls back there, with null where it cannot be read. */
  inTurnWithView(userId: string, use: (view: ShownToOthers | null) => void): void;
  intervalMs: number;
  now: () => number;
  timers: Timers;
}

export interface Announcer {
  /** Tells what lies between two presences of a user; nothing where nobody can see a difference. Called in the user's turn. */
  announce(change: { userId: string; before: Presence; after: Presence; cause?: Cause }): Promise<void>;
  /** Tells others that the user is gone. `lastSeenAt` in ms since the epoch; null: not known. */
  announceOffline(userId: string, lastSeenAt: number | null, cause?: Cause): void;
  /** Whether something of the user is still to be told. */
  isHeldBack(userId: string): boolean;
  /** Users whose updates are being held back for now. */
  size(): number;
  /** Calls off what is held back; nothing is told any more. */
  stop(): void;
}

/** Open for one interval after an update was sent: what changes meanwhile waits for its end, and the last one wins. */
interface Window {
  /** What others were told last by this node. */
  sent: ShownToOthers;
  pending: { cause: Cause | undefined } | null;
  cancel: () => void;
}

const hidden: ShownToOthers = shownToOthers([], null);
const moment = (at: number) => new Date(at).toISOString();
const sameDevice = (one: Cause | undefined, other: Cause | undefined) => one?.deviceId === other?.deviceId;

/** Says how a user is, whatever it was before. `lastSeenAt` and `at` in ms since the epoch; null: not known. */
export function messageOf(
  userId: string,
  { view, lastSeenAt, at }: { view: ShownToOthers; lastSeenAt: number | null; at: number },
): PresenceMessage {
  const { status, text, emoji } = view;
  if (status === "offline") {
    const payload = { user_id: userId, ...(lastSeenAt === null ? {} : { last_seen: moment(lastSeenAt) }) };
    return { type: "presence.offline", payload };
  }
  const payload = { user_id: userId, status, status_text: text, status_emoji: emoji, at: moment(at) };
  return { type: "presence.update", payload };
}

export function createAnnouncer(deps: AnnouncerDeps): Announcer {
  const { publish, tellOwnDevices, setLastSeen, isStillGone, inTurnWithView, intervalMs, now, timers } = deps;
  const windows = new Map<string, Window>();
  let stopped = false;

  /** Online and offline events say it all: an update that waits beside them would be redundant. */
  function supersede(userId: string, sent: ShownToOthers): void {
    const window = windows.get(userId);
    if (window !== undefined) Object.assign(window, { sent, pending: null });
  }

  function announceOnline(userId: string, view: ShownToOthers, cause?: Cause): void {
    supersede(userId, view);
    const { status, text, emoji } = view;
    const payload = {
      user_id: userId,
      status,
      ...(text === null ? {} : { status_text: text }),
      ...(emoji === null ? {} : { status_emoji: emoji }),
      at: moment(now()),
    };
    publish(presenceTopic(userId), { type: "presence.online", payload }, cause);
  }

  function announceOffline(userId: string, lastSeenAt: number | null, cause?: Cause): void {
    if (stopped) return;
    supersede(userId, hidden);
    publish(presenceTopic(userId), messageOf(userId, { view: hidden, lastSeenAt, at: now() }), cause);
  }

  function announceUpdate(userId: string, view: ShownToOthers, cause?: Cause): void {
    const cancel = timers.after(intervalMs, () => {
      // Nearly always nothing has come meanwhile: then nobody is asked.
      if (window.pending === null) windows.delete(userId);
      else inTurnWithView(userId, (latest) => closeWindow(userId, window, latest));
    });
    const window: Window = { sent: view, pending: null, cancel };
    windows.set(userId, window);
    publish(presenceTopic(userId), messageOf(userId, { view, lastSeenAt: null, at: now() }), cause);
  }

  function closeWindow(userId: string, window: Window, latest: ShownToOthers | null): void {
    // Told again meanwhile: that said how it is, and has an interval of its own.
    if (windows.get(userId) !== window) return;
    windows.delete(userId);
    if (stopped || latest === null || window.pending === null) return;
    // Whoever went offline or came back meanwhile has been told of by an event of its own.
    if (latest.status === "offline" || window.sent.status === "offline") return;
    // Also where it is what was sent: meanwhile another node may have told of, or a snapshot have shown, what it was in between.
    announceUpdate(userId, latest, window.pending.cause);
  }

  /** Two devices within one interval: each must hear what the other did. */
  function hold(window: Window, cause: Cause | undefined): void {
    const isSame = window.pending === null || sameDevice(window.pending.cause, cause);
    window.pending = { cause: isSame ? cause : undefined };
  }

  function announceToOwnDevices(userId: string, before: Presence, after: Presence, cause?: Cause): void {
    const was = shownToSelf(before.devices, before.byHand);
    const is = shownToSelf(after.devices, after.byHand);
    if (was.status === "offline" || is.status === "offline" || looksTheSame(was, is)) return;
    const payload = {
      user_id: userId,
      status: is.status,
      status_text: is.text,
      status_emoji: is.emoji,
      ...(is.expiresAt === null ? {} : { expires_at: moment(is.expiresAt) }),
      at: moment(now()),
    };
    tellOwnDevices(userId, { type: "presence.update", payload }, cause);
  }

  return {
    async announce({ userId, before, after, cause }) {
      if (stopped) return;
      const was = shownToOthers(before.devices, before.byHand);
      const is = shownToOthers(after.devices, after.byHand);
      if (was.status !== "offline" && is.status === "offline") {
        const at = now();
        // Written first, so that whoever asks because of the event finds it.
        await setLastSeen(userId, at);
        // That may have taken seconds; whoever came meanwhile has been told of as online.
        if (after.devices.length > 0 || (await isStillGone(userId))) announceOffline(userId, at, cause);
      } else if (was.status === "offline" && is.status !== "offline") {
        announceOnline(userId, is, cause);
      } else if (is.status !== "offline" && !looksTheSame(was, is)) {
        const window = windows.get(userId);
        if (window === undefined) announceUpdate(userId, is, cause);
        else hold(window, cause);
      }
      if (!stopped) announceToOwnDevices(userId, before, after, cause);
    },

    announceOffline,
    isHeldBack: (userId) => (windows.get(userId)?.pending ?? null) !== null,
    size: () => windows.size,
    stop() {
      stopped = true;
      for (const window of windows.values()) window.cancel();
      windows.clear();
    },
  };
}
