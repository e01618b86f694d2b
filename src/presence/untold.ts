/** Marks in the registry, where a node's death does not reach, whose status by hand others may not know of yet [PRE2] [PRE3]. */
import type { PresenceRegistry } from "../cluster/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Place } from "./departures.ts";

export interface UntoldDeps {
  registry: Pick<PresenceRegistry, "noteUntold">;
  logger: Logger;
}

export interface Untold {
  /** Before a status is stored: where this node dies before it has told, the one that the device comes to tells. Never rejects. */
  add(place: Place): Promise<void>;
  /** Others know how the user is. */
  remove(userId: string): void;
  /** The device has left. */
  forget(place: Place): void;
  /** Whether it is for this node to tell of the user. */
  has(userId: string): boolean;
}

/** Holds users of whom an update is being stored or held back, or was told while the registry was away; at most those here. */
export function createUntold({ registry, logger }: UntoldDeps): Untold {
  const places = new Map<string, Place>();

  const note = ({ userId, deviceId, connectionId }: Place, isUntold: boolean) =>
    registry.noteUntold({ userId, deviceId, connectionId, isUntold });

  async function end(place: Place): Promise<void> {
    try {
      await note(place, false);
    } catch (error) {
      // What was told was not heard on other nodes either: it is told again, and then this ends.
      logger.debug({ err: error, userId: place.userId }, "that others know of a status could not be noted");
      if (!places.has(place.userId)) places.set(place.userId, place);
    }
  }

  return {
    async add(place) {
      const before = places.get(place.userId);
      places.set(place.userId, place);
      if (before !== undefined && before.connectionId !== place.connectionId) void end(before);
      try {
        await note(place, true);
      } catch (error) {
        // Not worth failing for: it matters only where this node dies as well.
        logger.debug({ err: error, userId: place.userId }, "that others do not know of a status could not be noted");
      }
    },
    remove(userId) {
      const place = places.get(userId);
      if (place === undefined) return;
      places.delete(userId);
      void end(place);
    },
    forget({ userId, connectionId }) {
      if (places.get(userId)?.connectionId === connectionId) places.delete(userId);
    },
    has: (userId) => places.has(userId),
  };
}
