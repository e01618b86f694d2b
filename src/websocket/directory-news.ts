/** Takes and gives rights on this node's connections as the directory changes, and sends away who is disabled [SUB3] [AUTH4]. */
import type { DirectoryView } from "../directory/directory.ts";
import type { Timers } from "../presence/timers.ts";
import { CloseCode } from "../protocol/close.ts";
import type { Directory, DirectoryChange } from "../storage/ports.ts";
import type { Membership } from "../subscription/membership.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Hub } from "./hub.ts";

export interface DirectoryNewsOptions {
  view: Pick<DirectoryView, "onChange">;
  directory: Pick<Directory, "userState">;
  membership: Pick<Membership, "apply">;
  hub: Pick<Hub, "userIds" | "ofUser">;
  timers: Timers;
  logger: Pick<Logger, "warn">;
}

/** After what failed everything is looked at again so much later, ms. */
const retryDelayMs = 1_000;
/** The next try waits no longer than this for one that goes on, ms: clients may be slow to take what they join. */
const retryPatienceMs = 10_000;
/** Users that are asked about at once where all are. */
const atOnce = 64;

/** Begins to follow. @returns stops it */
export function followDirectory(options: DirectoryNewsOptions): () => void {
  const { view, directory, membership, hub, timers, logger } = options;
  /** Calls off the next try; null: none is due. */
  let callOff: (() => void) | null = null;
  let isRetrying = false;
  let stopWaiting = () => {};
  let hasFailedMeanwhile = false;
  let isStopped = false;

  async function sendAwayDisabled(userIds: string[]): Promise<void> {
    for (let start = 0; start < userIds.length; start += atOnce) {
      await Promise.all(userIds.slice(start, start + atOnce).map(sendAwayIfDisabled));
    }
  }

  async function sendAwayIfDisabled(userId: string): Promise<void> {
    // Applications write many users at once, and most are not here; who comes in just now is checked there.
    if ([...hub.ofUser(userId)].length === 0) return;
    if ((await directory.userState(userId)) !== "disabled") return;
    for (const connection of [...hub.ofUser(userId)]) connection.close(CloseCode.revoked, "user disabled");
  }

  async function apply(change: DirectoryChange): Promise<void> {
    // Beside each other: what a slow client joins may take long.
    await Promise.all([
      membership.apply(change),
      change.kind === "user_changed" ? sendAwayDisabled([change.userId]) : null,
      change.kind === "resync" ? sendAwayDisabled(hub.userIds()) : null,
    ]);
  }

  async function follow(change: DirectoryChange): Promise<void> {
    try {
      await apply(change);
    } catch (error) {
      logger.warn({ err: error, change: change.kind }, "a change of the directory waits");
      tryLater();
    }
  }

  function tryLater(): void {
    // One at a time: an engine that is slow would be asked for everything each second.
    if (isRetrying) hasFailedMeanwhile = true;
    else if (!isStopped) callOff ??= timers.after(retryDelayMs, () => void retry());
  }

  async function retry(): Promise<void> {
    callOff = null;
    isRetrying = true;
    hasFailedMeanwhile = false;
    const { promise: isLong, resolve } = Promise.withResolvers<void>();
    stopWaiting = timers.after(retryPatienceMs, resolve);
    await Promise.race([follow({ kind: "resync" }), isLong]);
    stopWaiting();
    isRetrying = false;
    if (hasFailedMeanwhile) tryLater();
  }

  const unfollow = view.onChange((change) => void follow(change));
  return () => {
    isStopped = true;
    unfollow();
    callOff?.();
    stopWaiting();
  };
}
