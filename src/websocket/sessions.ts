/** Brings a connection in: its greeting, its authentication, and what it is subscribed to by itself. */
import { AuthenticationError } from "../auth/authenticator.ts";
import type { Config } from "../config/schema.ts";
import { type AtOnce, atOnce, type Steps } from "../ground/at-once.ts";
import { momentText } from "../ground/moments.ts";
import type { Reply } from "../handlers/context.ts";
import type { ClientPayload, Since } from "../protocol/client.ts";
import { CloseCode } from "../protocol/close.ts";
import { type AuthFailureCode, authFailureTable, ProtocolError } from "../protocol/errors.ts";
import { protocolVersion } from "../protocol/limits.ts";
import { AskerGone } from "../storage/fair-queue.ts";
import type { CursorStore } from "../storage/ports.ts";
import type { SubscriptionManager } from "../subscription/manager.ts";
import type { Membership } from "../subscription/membership.ts";
import type { Tell } from "../subscription/tell.ts";
import { noteBroken } from "../telemetry/broken.ts";
import type { Counts } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";
import type { Connection } from "./connection.ts";
import type { UserSession } from "./credentials.ts";
import { type Credentials, type TokenSession, TooManyFailures } from "./credentials.ts";
import type { Hub } from "./hub.ts";
import type { Registration } from "./registration.ts";

export interface SessionsOptions {
  config: Pick<Config, "auth" | "websocket">;
  hub: Pick<Hub, "add">;
  tell: Tell;
  credentials: Pick<Credentials, "verify" | "checkUser">;
  registration: Pick<Registration, "register" | "limitDevices">;
  subscriptions: Pick<SubscriptionManager, "subscribe">;
  membership: Pick<Membership, "recheck">;
  cursors: Pick<CursorStore, "acknowledged">;
  counts: Counts;
  now: () => number;
  logger: Logger;
}

export class Sessions {
  readonly #settling: Outage;

  constructor(private readonly options: SessionsOptions) {
    this.#settling = warnsOnce(options.logger, "could not settle a connection", "connections settle again");
  }

  /** Greets a new connection and, where the upgrade has identified it, makes it live. Never rejects. */
  open(connection: Connection): AtOnce<void> {
    return atOnce(this.#open(connection));
  }

  *#open(connection: Connection): Steps<void> {
    const { hub } = this.options;
    hub.add(connection);
    if (connection.session === null) {
      this.#greet(connection);
      return;
    }
    try {
      const registering = this.options.registration.register(connection, connection.session);
      if (registering instanceof Promise) yield registering;
    } catch (error) {
      this.#giveUp(connection, error);
      return;
    }
    connection.holdBack();
    this.#greet(connection);
    yield* this.#settleIn(connection, connection.since);
    connection.speak();
  }

  /** Answers `authenticate`: the first one makes the connection its user's, later ones extend it [AUTH1] [AUTH3]. */
  async authenticate(
    connection: Connection,
    { token, device_id, since }: ClientPayload<"authenticate">,
  ): Promise<Reply> {
    const { config, cursors } = this.options;
    // Authenticated by the gateway in front; there is nothing to check a token against.
    if (config.auth.mode === "trusted") {
      return this.#success(connection, await cursors.acknowledged(connection.userId, connection.deviceId));
    }
    const session = await this.#verify(connection, { token, device_id });
    if ("failure" in session) return this.#fail(connection, session.failure);
    const deviceId = session.deviceId ?? connection.deviceId;
    // Before it is live: the next try of one that is would be taken for a refresh, and it would never settle in.
    const acked = await cursors.acknowledged(session.userId, deviceId);
    // A connection that left meanwhile must not come to life again: nobody would ever take its device out [SUB5].
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
    await this.options.registration.register(connection, session);
    return {
      ...this.#success(connection, acked),
      after: async () => atOnce(this.#settleIn(connection, since ?? connection.since)),
    };
  }

  #greet(connection: Connection): void {
    const { config, now, tell } = this.options;
    tell(connection, "connected", {
      connection_id: connection.connectionId,
      device_id: connection.deviceId,
      user_id: connection.userId === "" ? null : connection.userId,
      authenticated: connection.isAuthenticated,
      protocol_version: protocolVersion,
      server_time: momentText(now()),
      ping_interval_ms: config.websocket.ping_period,
      max_message_size: config.websocket.max_message_size,
      ...(connection.isAuthenticated ? {} : { auth_timeout_ms: config.auth.timeout }),
    });
  }

  /** Asks again: a user who was disabled or blocked since the check was not among the connections that were closed [AUTH4]. */
  *#checkAgain(connection: Connection): Steps<void> {
    try {
      const checking = this.options.credentials.checkUser(connection);
      if (checking instanceof Promise) yield checking;
    } catch (error) {
      if (error instanceof AuthenticationError) return connection.close(CloseCode.revoked, error.code);
      // It is not asked again: the client may come back and be checked anew.
      this.#giveUp(connection, error);
    }
  }

  /**
   * Checks a connection that is live now once more, and subscribes it to its own topics [SUB2]. One that is told so stays,
   * whatever the storage does from then on. Never rejects.
   */
  *#settleIn(connection: Connection, since: Since | undefined): Steps<void> {
    const { config, subscriptions, tell } = this.options;
    const topics = config.websocket.auto_subscribe;
    if (connection.isClosed) return;
    const checked = atOnce(this.#checkAgain(connection));
    if (topics.length === 0) {
      if (checked instanceof Promise) yield checked;
      return;
    }
    try {
      const subscribing = subscriptions.subscribe(connection, { topics, since });
      const { payload } = subscribing instanceof Promise ? yield subscribing : subscribing;
      if (checked instanceof Promise) yield checked;
      if (connection.isClosed) return;
      tell(connection, "subscribed", payload);
      this.#settling.ended();
    } catch (error) {
      if (!(error instanceof AskerGone)) this.#giveUp(connection, error);
    }
  }

  /** Leaves at once what the new token, or the directory, does not allow any more: a refresh is a change of rights [AUTH3]. */
  async #refresh(connection: Connection, session: UserSession): Promise<void> {
    const { registration, membership } = this.options;
    const wasBackend = connection.roles.includes("service");
    connection.assume(session);
    try {
      await membership.recheck(connection);
      if (wasBackend && !session.roles.includes("service")) await registration.limitDevices(connection);
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
        // A connection that is in stays in, and is told what is wrong with its token whatever others behind its address do.
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
        expires_at: expiresAt === null ? null : momentText(expiresAt),
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
}
