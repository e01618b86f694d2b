/** Makes a connection its user's: known on every node, in place of an older one of its device, within the limit of devices [CON3]. */
import type { Bus } from "../cluster/ports.ts";
import { type AtOnce, atOnce, got, type Steps } from "../ground/at-once.ts";
import { KeyedQueue } from "../ground/keyed-queue.ts";
import { itemsMax, pages } from "../ground/pages.ts";
import { realTimers, type Timers } from "../ground/timers.ts";
import type { ConnectResult, DeviceRef, PresenceTracker } from "../presence/tracker.ts";
import { CloseCode } from "../protocol/close.ts";
import { everyoneTopic } from "../protocol/topic.ts";
import type { CursorStore, DeviceOfUser } from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Connection } from "./connection.ts";
import type { ConnectionQuota } from "./connection-quota.ts";
import type { UserSession } from "./credentials.ts";
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
  timers?: Timers;
  logger: Pick<Logger, "debug">;
}

/** As late as this (ms) it is noted who has come: those of one second are one statement. */
const noteAfterMs = 1_000;

export class Registration {
  /** Devices that have come and are not noted yet. */
  #came: DeviceOfUser[] = [];
  #cancelNote = () => {};
  readonly #newcomers = new KeyedQueue();

  constructor(private readonly options: RegistrationOptions) {}

  /** Makes the connection live, unless it has gone meanwhile. @returns whether it is */
  register(connection: Connection, session: UserSession): AtOnce<boolean> {
    return atOnce(this.#register(connection, session));
  }

  *#register(connection: Connection, session: UserSession): Steps<boolean> {
    const { bus, hub, logger, presence, quota } = this.options;
    const { deviceId, connectionId } = connection;
    const { userId } = session;
    connection.moveTo("authenticating");
    const place = { userId, deviceId, connectionId, isGone: () => connection.isClosed };
    const entered = yield* this.#enter(place, session);
    if (entered === null) return false;
    const { replaced } = entered;
    // Even where the newer one has gone meanwhile: the device's entry is no longer the older one's, and leaves with this.
    for (const older of hub.find({ userId, deviceId })) older.close(CloseCode.replaced, "replaced by the same device");
    if (replaced !== null) bus.broadcast({ kind: "replaced", userId, deviceId, connectionId: replaced.connectionId });
    if (connection.isClosed) {
      yield presence.disconnect({ userId, deviceId, connectionId, clean: false });
      return false;
    }
    connection.assume(session);
    connection.moveTo("live");
    hub.identify(connection);
    quota.identify(connection);
    connection.subscribe(everyoneTopic);
    this.#noteSeen({ userId, deviceId });
    logger.debug(
      { connection_id: connectionId, user_id: userId, device_id: deviceId, address: connection.address },
      "connected",
    );
    return true;
  }

  /** Notes those who are not noted yet; to be called before the storage stops. */
  async stop(): Promise<void> {
    this.#cancelNote();
    await this.#noteCame();
  }

  /** Notes that the device was here, so that what it has acknowledged is kept [LOG6]. */
  #noteSeen(device: DeviceOfUser): void {
    const { retentionMs, timers = realTimers } = this.options;
    if (this.#came.push(device) > 1) return;
    this.#cancelNote = timers.after(Math.min(noteAfterMs, retentionMs / 10), () => void this.#noteCame());
  }

  async #noteCame(): Promise<void> {
    const { cursors, retentionMs } = this.options;
    const came = this.#came;
    this.#came = [];
    // As often as makes sure that nobody is forgotten who was here within the retention, or nearly.
    const withinMs = Math.floor(retentionMs / 10);
    // Where it fails it is tried when the device comes next, or acknowledges.
    for (const page of pages(came, itemsMax)) await cursors.seen(page, withinMs).catch(() => {});
  }

  /** Makes a backend's device count that is none any more. */
  limitDevices(connection: Connection): Promise<void> {
    return this.options.deviceLimit.make(connection);
  }

  /** Enters the device; half-open lines of a client that changed its network must not keep its own tabs out. */
  *#enter(
    { isGone, ...place }: DeviceRef & { isGone: () => boolean },
    { roles }: UserSession,
  ): Steps<ConnectResult | null> {
    const { presence, deviceLimit } = this.options;
    if (roles.includes("service")) return yield* got(presence.connect({ ...place, regardless: true }, isGone));
    const entering = presence.connect(place, isGone);
    const entered = entering instanceof Promise ? yield entering : entering;
    if (entered === null || entered.accepted) return entered;
    const enterLate = async () => {
      await deviceLimit.make(place);
      const late = await presence.connect({ ...place, regardless: true }, isGone);
      // Another node may have let one in at the same moment.
      await deviceLimit.make(place);
      return late;
    };
    return yield* got(this.#newcomers.run(place.userId, enterLate));
  }
}
