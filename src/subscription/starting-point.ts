/** Finds where a connection that comes back goes on, as it says or as its device has acknowledged [LOG4] [LOG6]. */
import type { Sequencer } from "../broadcast/sequencer.ts";
import { type AtOnce, atOnce, got, type Steps } from "../ground/at-once.ts";
import type { Since } from "../protocol/client.ts";
import type { CursorStore } from "../storage/ports.ts";
import type { Subscriber } from "./subscriber.ts";

export interface StartingPoint {
  /** Null: of another log, or of a part of this one that is lost (a restored backup). Nothing can be said to be recovered. */
  position: number | null;
  /** How often the log had broken when that was looked up. */
  breaks: number;
  /** Per topic the last `seq` that the client has seen after the cursor; nothing where numbers were given out once more since. */
  seen: Record<string, number>;
  /** False: the log has broken since, and nobody knows what of after the position the client has that is lost. */
  isUnbroken: boolean;
}

type Locating = Pick<Sequencer, "epochs" | "repair" | "reach" | "safePosition">;

interface LookedUpIn {
  cursors: Pick<CursorStore, "acknowledged">;
  sequencer: Locating;
}

/** The position of a cursor that this node or another has given out; null: of another log, of a part that is lost, or above what was sent. */
export function locate(cursor: string, sequencer: Locating): AtOnce<number | null> {
  const place = sequencer.epochs.read(cursor);
  const isHere = place?.holds && place.position <= sequencer.safePosition;
  return isHere ? place.position : atOnce(find(cursor, sequencer));
}

function* find(cursor: string, sequencer: Locating): Steps<number | null> {
  const { epochs } = sequencer;
  // Another node may have begun an epoch, and have given the cursor out just before the client came here.
  for (let repairs = 0; repairs < 2 && epochs.read(cursor) === null; repairs++) yield sequencer.repair();
  const place = epochs.read(cursor);
  if (!place?.holds) return null;
  const isSent = place.position <= sequencer.safePosition || (yield* got(sequencer.reach(place.position)));
  return isSent ? place.position : null;
}

export function* startingPointOf(
  { userId, deviceId }: Subscriber,
  since: Since,
  { cursors, sequencer }: LookedUpIn,
): Steps<StartingPoint> {
  const { breaks } = sequencer.epochs;
  if (since !== "acked") {
    const locating = locate(since.cursor, sequencer);
    const position = locating instanceof Promise ? yield locating : locating;
    const isUnbroken = sequencer.epochs.isUnbrokenSince(since.cursor);
    return { position, breaks, seen: (isUnbroken ? since.seen : undefined) ?? {}, isUnbroken };
  }
  const asking = cursors.acknowledged(userId, deviceId);
  const acked = asking instanceof Promise ? yield asking : asking;
  // A device that never acknowledged anything is owed whatever the log still has.
  if (acked === null) return { position: 0, breaks, seen: {}, isUnbroken: true };
  const position = yield* got(locate(acked, sequencer));
  return { position, breaks, seen: {}, isUnbroken: sequencer.epochs.isUnbrokenSince(acked) };
}
