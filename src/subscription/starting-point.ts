/** Finds where a connection that comes back goes on, as it says or as its device has acknowledged [LOG4] [LOG6]. */
import type { Sequencer } from "../broadcast/sequencer.ts";
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

type Locating = Pick<Sequencer, "epochs" | "repair" | "reach">;

interface LookedUpIn {
  cursors: Pick<CursorStore, "acknowledged">;
  sequencer: Locating;
}

/** The position of a cursor that this node or another has given out; null: of another log, of a part that is lost, or above what was sent. */
export async function locate(cursor: string, sequencer: Locating): Promise<number | null> {
  const { epochs } = sequencer;
  // Another node may have begun an epoch, and have given the cursor out just before the client came here.
  for (let repairs = 0; repairs < 2 && epochs.read(cursor) === null; repairs++) await sequencer.repair();
  const place = epochs.read(cursor);
  return place?.holds && (await sequencer.reach(place.position)) ? place.position : null;
}

export async function startingPointOf(
  { userId, deviceId }: Subscriber,
  since: Since,
  { cursors, sequencer }: LookedUpIn,
): Promise<StartingPoint> {
  const { breaks } = sequencer.epochs;
  if (since !== "acked") {
    const position = await locate(since.cursor, sequencer);
    const isUnbroken = sequencer.epochs.isUnbrokenSince(since.cursor);
    return { position, breaks, seen: (isUnbroken ? since.seen : undefined) ?? {}, isUnbroken };
  }
  const acked = await cursors.acknowledged(userId, deviceId);
  // A device that never acknowledged anything is owed whatever the log still has.
  if (acked === null) return { position: 0, breaks, seen: {}, isUnbroken: true };
  const position = await locate(acked, sequencer);
  return { position, breaks, seen: {}, isUnbroken: sequencer.epochs.isUnbrokenSince(acked) };
}
