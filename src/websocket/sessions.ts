/** A connection's way from open to closed: authentication, what it is subscribed to by itself, and leaving without a trace. */
import { AuthenticationError } from "../auth/authenticator.ts";
import type { CallService } from "../calls/service.ts";
import type { Cluster } from "../cluster/ports.ts";
import type { Survey } from "../cluster/survey.ts";
import type { Config } from "../config/schema.ts";
import { createBatches } from "../ground/batches.ts";
import { KeyedQueue } from "../ground/keyed-queue.ts";
import type { Reply } from "../handlers/context.ts";
import type { DeviceRef, Entered, PresenceTracker } from "../presence/tracker.ts";
import type { TypingTracker } from "../presence/typing.ts";
import type { ClientPayload, Since } from "../protocol/client.ts";
import { CloseCode, closeLabel } from "../protocol/close.ts";
import { type AuthFailureCode, authFailureTable, ProtocolError } from "../protocol/errors.ts";
import { protocolVersion } from "../protocol/limits.ts";
import { everyoneTopic } from "../protocol/topic.ts";
import { AskerGone } from "../storage/fair-queue.ts";
import type { CursorStore, DeviceOfUser } from "../storage/ports.ts";
import type { SubscriptionManager } from "../subscription/manager.ts";
import type { Membership } from "../subscription/membership.ts";
import type { Tell } from "../subscription/tell.ts";
import { noteBroken } from "../telemetry/broken.ts";
import { type Counts, countOne } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";
import type { Connection, Session } from "./connection.ts";
import type { ConnectionQuota } from "./connection-quota.ts";
import { type Credentials, type TokenSession, TooManyFailures } from "./credentials.ts";
import { DeviceLimit, type DeviceQuestions } from "./device-limit.ts";
import type { Hub } from "./hub.ts";

export interface SessionsOptions {
  config: Config;
  hub: Hub;
  cluster: Pick<Cluster, "bus" | "presence">;
  /** Asks all nodes. */
  survey: Survey<DeviceQuestions>;
  tell: Tell;
  credentials: Credentials;
  quota: Pick<ConnectionQuota, "identify" | "leave">;
  presence: PresenceTracker;
  typing: TypingTracker;
  calls: CallService;
  subscriptions: SubscriptionManager;
  membership: Pick<Membership, "recheck">;
  cursors: CursorStore;
  counts: Counts;
  now: () => number;
  logger: Logger;
}

/** With these a device does not come back in a moment: closed, left, closed without a code, and sent away for being too many [PRE1] [CON3]. */
const finalCodes = new Set<number>([CloseCode.normal, CloseCode.goingAway, 1005, CloseCode.tooManyDevices]);

export class Sessions {
  /** Disconnects being cleaned up, and those that wait for their turn. */
  #cleaning = 0;
  readonly #waiting: (() => Promise<void>)[] = [];
  #idle: (() => void)[] = [];

  readonly #noteSeen: (devices: DeviceOfUser[]) => Promise<void>;

  readonly #newcomers = new KeyedQueue();
  readonly #deviceLimit: DeviceLimit;
  readonly #settling: Outage;
  readonly #leaving: Outage;

  constructor(private readonly options: SessionsOptions) {
    const { survey, presence, logger } = options;
    const { max_devices: devicesMax } = options.config.presence;
    this.#deviceLimit = new DeviceLimit({ presence, survey, devicesMax, logger });
    this.#settling = warnsOnce(logger, "could not settle a connection", "connections settle again");
    this.#leaving = warnsOnce(logger, "clean-up of a connection failed", "connections are cleaned up again");
    const { cursors, config } = options;
    // As often as makes sure that nobody is forgotten who was here within the retention, or nearly [LOG6].
    this.#noteSeen = createBatches((devices) => cursors.seen(devices, Math.floor(config.log.retention / 10)));
  }

  /** Greets a new connection and, where the upgrade has identified it, makes it live. Never rejects. */
  async open(connection: Connection): Promise<void> {
    const { hub } = this.options;
    hub.add(connection);
    if (connection.session === null) {
      this.#greet(connection);
      return;
    }
    try {
      await this.#register(connection, connection.session);
    } catch (error) {
      this.#giveUp(connection, error);
      return;
    }
    this.#greet(connection);
    await this.#settleIn(connection, connection.since);
  }

  /** Answers `authenticate`: the first one makes the connection its user's, later ones extend it [AUTH1] [AUTH3]. */
  async authenticate(
    connection: Connection,
    { token, device_id, since }: ClientPayload<"authenticate">,
  ): Promise<Reply> {
    const { config, cursors } = this.options;
    // Whoever is in front has authenticated; there is nothing to check a token against.
    if (config.auth.mode === "trusted") {
      return this.#success(connection, await cursors.acknowledged(connection.userId, connection.deviceId));
    }
    const session = await this.#verify(connection, { token, device_id });
    if ("failure" in session) return this.#fail(connection, session.failure);
    const deviceId = session.deviceId ?? connection.deviceId;
    // Before it is live: the next try of one that is would be taken for a refresh, and it would never settle in.
    const acked = await cursors.acknowledged(session.userId, deviceId);
    // Who left meanwhile must not come to life again: nobody would ever take its device out [SUB5].
    if (connection.isClosed) throw new ProtocolError("not_authenticated", "The connection is closed.");
    if (connection.isAuthenticated) {
      if (session.userId !== connection.userId) {
        connection.close(CloseCode.identityChange, "another user");
        throw new ProtocolError("conflict", "This connection is another user's.");
      }
      await this.#refresh(connection, session);
      return this.#success(connection, acked);
    }
    connection.moveTo("authenticating");
    connection.deviceId = deviceId;
    await this.#register(connection, session);
    return { ...this.#success(connection, acked), after: () => this.#settleIn(connection, since ?? connection.since) };
  }

  /** Cleans up after a socket that has gone; at most `unregister_buffer` at once [SUB5]. */
  close(connection: Connection, code: number): void {
    const { hub, typing, subscriptions, config } = this.options;
    const wasLive = connection.userId !== "";
    this.#count(connection, code);
    connection.noteClosed();
    hub.remove(connection);
    this.options.quota.leave(connection);
    typing.stopAll(connection);
    subscriptions.forget(connection);
    if (!wasLive) return;
    const clean = finalCodes.has(code);
    this.#waiting.push(() => this.#leave(connection, { clean, hangsUp: code === CloseCode.normal }));
    if (this.#cleaning < config.websocket.unregister_buffer) void this.#clean();
  }

  /** Resolves once every disconnect so far is cleaned up. */
  async cleaned(): Promise<void> {
    if (this.#cleaning > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #count(connection: Connection, code: number): void {
    const { counts } = this.options;
    countOne(counts.closes, closeLabel(code));
    // The platform closes by itself, with 1006, where a publish finds no room for a client that is behind.
    const isSlow = code === CloseCode.slowConsumer || (code === 1006 && connection.backpressureSince > 0);
    if (isSlow) counts.backpressureCloses++;
  }

  stats() {
    return { cleaning_up: this.#cleaning + this.#waiting.length };
  }

  #greet(connection: Connection): void {
    const { config, now, tell } = this.options;
    tell(connection, "connected", {
      connection_id: connection.connectionId,
      device_id: connection.deviceId,
      user_id: connection.userId === "" ? null : connection.userId,
      authenticated: connection.isAuthenticated,
      protocol_version: protocolVersion,
      server_time: new Date(now()).toISOString(),
      ping_interval_ms: config.websocket.ping_period,
      max_message_size: config.websocket.max_message_size,
      ...(connection.isAuthenticated ? {} : { auth_timeout_ms: config.auth.timeout }),
    });
  }

  /** Makes the device known everywhere, in place of an older connection of it, and of another device where there are too many. */
  async #register(connection: Connection, session: Session): Promise<void> {
    const { cluster, hub, logger, presence } = this.options;
    const { deviceId, connectionId } = connection;
    const { userId } = session;
    connection.moveTo("authenticating");
    const entered = await this.#enter({ userId, deviceId, connectionId, isGone: () => connection.isClosed }, session);
    if (entered === null) return;
    const { replaced } = entered;
    // Even where the newer one has gone meanwhile: the device's entry is no longer the older one's, and leaves with this.
    for (const older of hub.find({ userId, deviceId })) older.close(CloseCode.replaced, "replaced by the same device");
    if (replaced !== null)
      cluster.bus.broadcast({ kind: "replaced", userId, deviceId, connectionId: replaced.connectionId });
    if (connection.isClosed) {
      await presence.disconnect({ userId, deviceId, connectionId, clean: false });
      return;
    }
    connection.assume(session);
    connection.moveTo("live");
    hub.identify(connection);
    this.options.quota.identify(connection);
    connection.subscribe(everyoneTopic);
    void this.#checkAgain(connection);
    // Where it fails it is tried when the device comes next, or acknowledges.
    this.#noteSeen([{ userId, deviceId }]).catch(() => {});
    logger.debug(
      { connection_id: connectionId, user_id: userId, device_id: deviceId, address: connection.address },
      "connected",
    );
  }

  /** Enters the device; half-open lines of a client that changed its network must not keep its own tabs out [CON3]. */
  async #enter(
    { isGone, ...place }: DeviceRef & { isGone: () => boolean },
    { roles }: Session,
  ): Promise<Entered | null> {
    const { presence } = this.options;
    if (roles.includes("service")) return presence.connect({ ...place, regardless: true }, isGone);
    const entered = await presence.connect(place, isGone);
    if (entered === null || entered.accepted) return entered;
    return this.#newcomers.run(place.userId, async () => {
      await this.#deviceLimit.make(place);
      const late = await presence.connect({ ...place, regardless: true }, isGone);
      // Another node may have let one in at the same moment.
      await this.#deviceLimit.make(place);
      return late;
    });
  }

  /** Whoever was disabled or blocked between its check and now was not among the connections that were closed [AUTH4]. */
  async #checkAgain(connection: Connection): Promise<void> {
    try {
      await this.options.credentials.checkUser(connection);
    } catch (error) {
      if (error instanceof AuthenticationError) return connection.close(CloseCode.revoked, error.code);
      // Nobody asks again: it may come back and be checked anew.
      this.#giveUp(connection, error);
    }
  }

  /** Subscribes an authenticated connection to its own topics [SUB2]. Never rejects. */
  async #settleIn(connection: Connection, since: Since | undefined): Promise<void> {
    const { config, subscriptions, tell } = this.options;
    const topics = config.websocket.auto_subscribe;
    if (connection.isClosed || topics.length === 0) return;
    try {
      tell(connection, "subscribed", await subscriptions.subscribe(connection, { topics, since }));
      this.#settling.ended();
    } catch (error) {
      if (!(error instanceof AskerGone)) this.#giveUp(connection, error);
    }
  }

  /** A refresh is a change of rights: what the new token, or the directory, does not allow any more is left at once [AUTH3]. */
  async #refresh(connection: Connection, session: Session): Promise<void> {
    const wasBackend = connection.roles.includes("service");
    connection.assume(session);
    try {
      await this.options.membership.recheck(connection);
      // It counts from now on.
      if (wasBackend && !session.roles.includes("service")) await this.#deviceLimit.make(connection);
    } catch (error) {
      // It may be on what it has no right to any more, and nobody can tell: it comes back with its new token.
      this.#giveUp(connection, error);
    }
  }

  async #verify(
    connection: Connection,
    { token, device_id }: { token: string; device_id: string | undefined },
  ): Promise<TokenSession | { failure: AuthFailureCode }> {
    const { credentials } = this.options;
    const { address, isAuthenticated } = connection;
    try {
      const deviceId = device_id ?? null;
      const session = await credentials.verify(token, { address, deviceId });
      if (isAuthenticated && session.deviceId !== null && session.deviceId !== connection.deviceId) {
        throw new AuthenticationError("token_invalid", "The token is for another device.");
      }
      await credentials.checkUser(session);
      return session;
    } catch (error) {
      if (error instanceof TooManyFailures) {
        // Whoever is in stays in, and is told what is wrong with its token whatever others behind its address do.
        if (isAuthenticated) return { failure: "token_invalid" };
        throw new ProtocolError("rate_limited", error.message, error);
      }
      if (!(error instanceof AuthenticationError)) throw error;
      return { failure: error.code };
    }
  }

  #success({ userId, deviceId, roles, expiresAt }: Connection, acked: string | null): Reply {
    return {
      type: "auth.success",
      payload: {
        user_id: userId,
        device_id: deviceId,
        roles: [...roles],
        expires_at: expiresAt === null ? null : new Date(expiresAt).toISOString(),
        acked_cursor: acked,
      },
    };
  }

  /** Ends a connection that is nobody's; one that is somebody's lives on until its own token ends [AUTH1]. */
  #fail(connection: Connection, code: AuthFailureCode): Reply {
    const payload = { code, retryable: authFailureTable[code].retryable };
    if (connection.isAuthenticated) return { type: "auth.failed", payload };
    return { type: "auth.failed", payload, after: () => connection.close(CloseCode.authenticationFailed, code) };
  }

  /** Ends one connection that something has gone wrong with here. */
  fail(connection: Connection, error: unknown): void {
    const { connectionId: connection_id, userId: user_id } = connection;
    if (!noteBroken(error, this.options, { connection_id, user_id }))
      this.options.logger.error({ connection_id, user_id, err: error }, "a connection failed");
    connection.close(CloseCode.internal, "internal");
  }

  #giveUp(connection: Connection, error: unknown): void {
    const { connectionId, userId } = connection;
    const who = { connection_id: connectionId, user_id: userId };
    if (!noteBroken(error, this.options, who)) this.#settling.began(error, who);
    connection.close(CloseCode.internal, "could not settle in");
  }

  async #clean(): Promise<void> {
    this.#cleaning++;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) await next();
    this.#cleaning--;
    if (this.#cleaning === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  async #leave(connection: Connection, { clean, hangsUp }: { clean: boolean; hangsUp: boolean }): Promise<void> {
    const { calls, hub, logger, presence } = this.options;
    const { userId, deviceId, connectionId } = connection;
    const who = { connection_id: connectionId, user_id: userId };
    try {
      await presence.disconnect({ userId, deviceId, connectionId, clean });
      logger.debug({ ...who, clean }, "disconnected");
    } catch (error) {
      // Presence tries again by itself; calls must hear of it all the same.
      this.#leaving.began(error, who);
    }
    // Where the same device is here again already no call has lost it; whether it is on another node presence knows.
    if (hub.find({ userId, deviceId }).length === 0)
      await this.#leaving.attempt(calls.deviceDisconnected({ userId, deviceId }, { hangsUp }), who);
  }
}
