/** Makes a connection its user's: known on every node, in place of an older one of its device, within the limit of devices [CON3]. */
import type { Bus } from "../cluster/ports.ts";
import { createBatches } from "../ground/batches.ts";
import { KeyedQueue } from "../ground/keyed-queue.ts";
import type { ConnectResult, DeviceRef, PresenceTracker } from "../presence/tracker.ts";
import { CloseCode } from "../protocol/close.ts";
import { everyoneTopic } from "../protocol/topic.ts";
import type { CursorStore, DeviceOfUser } from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Connection, UserSession } from "./connection.ts";
import type { ConnectionQuota } from "./connection-quota.ts";
import type { DeviceLimit } from "./device-limit.ts";
import type { Hub } from "./hub.ts";

export interface RegistrationOptions {
  hub: Pick<Hub, "find" | "identify">;
  bus: Pick<Bus, "broadcast">;
  presence: Pick<PresenceTracker, "connect" | "disconnect">;
  deviceLimit: Pick<DeviceLimit, "make">;
  quota: Pick<ConnectionQuota, "identify">;
  cursors: Pick<CursorStore, "seen">;
  /** For how long what is known of devices that stay away is kept, ms. */
  retentionMs: number;
  logger: Pick<Logger, "debug">;
}

export class Registration {
  readonly #noteSeen: (devices: DeviceOfUser[]) => Promise<void>;
  readonly #newcomers = new KeyedQueue();

  constructor(private readonly options: RegistrationOptions) {
    const { cursors, retentionMs } = options;
    // As often as makes sure that nobody is forgotten who was here within the retention, or nearly [LOG6].
    this.#noteSeen = createBatches((devices) => cursors.seen(devices, Math.floor(retentionMs / 10)));
  }

  /** Makes the connection live, unless it has gone meanwhile. @returns whether it is */
  async register(connection: Connection, session: UserSession): Promise<boolean> {
    const { bus, hub, logger, presence, quota } = this.options;
    const { deviceId, connectionId } = connection;
    const { userId } = session;
    connection.moveTo("authenticating");
    const entered = await this.#enter({ userId, deviceId, connectionId, isGone: () => connection.isClosed }, session);
    if (entered === null) return false;
    const { replaced } = entered;
    // Even where the newer one has gone meanwhile: the device's entry is no longer the older one's, and leaves with this.
    for (const older of hub.find({ userId, deviceId })) older.close(CloseCode.replaced, "replaced by the same device");
    if (replaced !== null) bus.broadcast({ kind: "replaced", userId, deviceId, connectionId: replaced.connectionId });
    if (connection.isClosed) {
      await presence.disconnect({ userId, deviceId, connectionId, clean: false });
      return false;
    }
    connection.assume(session);
    connection.moveTo("live");
    hub.identify(connection);
    quota.identify(connection);
    connection.subscribe(everyoneTopic);
    // Where it fails it is tried when the device comes next, or acknowledges.
    this.#noteSeen([{ userId, deviceId }]).catch(() => {});
    logger.debug(
      { connection_id: connectionId, user_id: userId, device_id: deviceId, address: connection.address },
      "connected",
    );
    return true;
  }

  /** Makes a backend's device count that is none any more. */
  limitDevices(connection: Connection): Promise<void> {
    return this.options.deviceLimit.make(connection);
  }

  /** Enters the device; half-open lines of a client that changed its network must not keep its own tabs out. */
  async #enter(
    { isGone, ...place }: DeviceRef & { isGone: () => boolean },
    { roles }: UserSession,
  ): Promise<ConnectResult | null> {
    const { presence, deviceLimit } = this.options;
    if (roles.includes("service")) return presence.connect({ ...place, regardless: true }, isGone);
    const entered = await presence.connect(place, isGone);
    if (entered === null || entered.accepted) return entered;
    return this.#newcomers.run(place.userId, async () => {
      await deviceLimit.make(place);
      const late = await presence.connect({ ...place, regardless: true }, isGone);
      // Another node may have let one in at the same moment.
      await deviceLimit.make(place);
      return late;
    });
  }
}
