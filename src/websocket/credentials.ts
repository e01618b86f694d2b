/** Decides who a connection may speak for: its token, the device the token is for, its user's standing, and what failures cost an address. */
import { AuthenticationError, type Authenticator } from "../auth/authenticator.ts";
import { expiryWarningAt, type Identity } from "../auth/identity.ts";
import type { Config } from "../config/schema.ts";
import type { DirectoryView } from "../directory/directory.ts";
import { type AtOnce, atOnce, type Steps } from "../ground/at-once.ts";
import { Unavailable } from "../ground/unavailable.ts";
import type { UserState } from "../storage/directory-store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { Outage } from "../telemetry/outage.ts";
import type { AddressLimiter } from "./address-limiter.ts";

/** Says who a connection speaks for. */
export interface UserSession {
  userId: string;
  roles: readonly string[];
  grants: readonly string[];
  /** Milliseconds since 1970; null: does not expire. */
  expiresAt: number | null;
  /** When its end is told of; null: never. */
  expiryWarningAt: number | null;
}

export interface CredentialsOptions {
  config: Pick<Config, "auth">;
  authenticator: Pick<Authenticator, "verify">;
  directory: Pick<DirectoryView, "admit">;
  addresses: Pick<AddressLimiter, "mayFail" | "noteFailure">;
  /** Milliseconds since 1970. */
  now: () => number;
  logger: Pick<Logger, "info" | "warn" | "error">;
}

/** A session whose token may have named the device. */
export type TokenSession = UserSession & { deviceId: string | null };

/** The address has sent too many tokens that nobody has signed; another one that is does come in. */
export class TooManyFailures extends Error {
  constructor(readonly retryAfterMs: number) {
    super("Too many failed authentications from this address.");
  }
}

export class Credentials {
  readonly #outage: Outage;
  /** How the user stands of whom this was asked last, until this turn of the loop waits for anything: by then it may be otherwise. */
  #justSeen: { userId: string; state: UserState } | null = null;

  constructor(private readonly options: CredentialsOptions) {
    this.#outage = new Outage({
      level: "error",
      gone: "the directory cannot be asked",
      back: "the directory answers again",
      logger: options.logger,
    });
  }

  /**
   * The session that a token gives; its user's standing is `checkUser`'s to tell.
   * Every token is verified, whatever came from its address before: one that is good lets in. Only one that nobody has
   * signed for us counts against the address, for an office after a weekend sends many that have expired [AUTH3].
   * @throws AuthenticationError
   * @throws Unavailable where the keys could not be had
   * @throws TooManyFailures the token is of no worth and the address has sent too many such
   */
  verify(token: string, from: { address: string; deviceId: string | null }): AtOnce<TokenSession> {
    return atOnce(this.#verify(token, from));
  }

  *#verify(token: string, from: { address: string; deviceId: string | null }): Steps<TokenSession> {
    const { authenticator, addresses, config, now } = this.options;
    try {
      const verifying = authenticator.verify(token);
      const identity = verifying instanceof Promise ? yield verifying : verifying;
      return {
        userId: identity.userId,
        roles: identity.roles,
        grants: identity.topics,
        expiresAt: identity.expiresAt,
        expiryWarningAt: expiryWarningAt(identity, { now: now(), warningMs: config.auth.expiry_warning }),
        deviceId: deviceOf(identity, from.deviceId),
      };
    } catch (error) {
      if (!(error instanceof AuthenticationError) || error.code !== "token_invalid") throw error;
      const admission = addresses.mayFail(from.address, now());
      addresses.noteFailure(from.address, now());
      throw admission.allowed ? error : new TooManyFailures(admission.retryAfterMs);
    }
  }

  /**
   * Lets a verified or given identity act as its user: enabled, not blocked, and known, but for backends and administrators,
   * who are known by their role [AUTH2].
   * @throws AuthenticationError `user_unknown` or `user_disabled`
   * @throws Unavailable whatever the engine refuses it for
   */
  checkUser(user: { userId: string; roles: readonly string[] }): AtOnce<void> {
    return atOnce(this.#checkUser(user));
  }

  *#checkUser({ userId, roles }: { userId: string; roles: readonly string[] }): Steps<void> {
    const asking = this.#justSeen?.userId === userId ? this.#justSeen.state : atOnce(this.#stateOf(userId));
    const state = asking instanceof Promise ? yield asking : asking;
    if (state === "unknown" && roles.length === 0) {
      throw new AuthenticationError("user_unknown", "This user does not exist.");
    }
    if (state === "disabled") throw new AuthenticationError("user_disabled", "This user is disabled.");
  }

  *#stateOf(userId: string): Steps<UserState> {
    try {
      const asking = this.options.directory.admit(userId);
      const state = asking instanceof Promise ? yield asking : asking;
      this.#outage.ended();
      if (this.#justSeen === null)
        queueMicrotask(() => {
          this.#justSeen = null;
        });
      this.#justSeen = { userId, state };
      return state;
    } catch (error) {
      this.#outage.began(error);
      if (error instanceof Unavailable) throw error;
      // A view of the application's own may fail in ways that are no fault of this service, nor of who asks.
      throw new Unavailable("storage", "The directory has refused.", { cause: error });
    }
  }
}

/** The device that the token is bound to, else the one that the client names; they must not differ. */
function deviceOf({ deviceId }: Identity, named: string | null): string | null {
  if (deviceId !== null && named !== null && deviceId !== named) {
    throw new AuthenticationError("token_invalid", "The token is for another device.");
  }
  return deviceId ?? named;
}
