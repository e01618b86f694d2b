/** Composes who may come in and how long they stay: tokens, quotas, upgrades, sessions, and draining. */
import { createAuthenticator } from "../auth/authenticator.ts";
import { Survey } from "../cluster/survey.ts";
import { codecs } from "../protocol/codecs.ts";
import { createAddressLimiter } from "../websocket/address-limiter.ts";
import { ConnectionQuota } from "../websocket/connection-quota.ts";
import { Credentials } from "../websocket/credentials.ts";
import { createDeviceAnswers, type DeviceQuestions } from "../websocket/device-limit.ts";
import { Draining } from "../websocket/draining.ts";
import { Sessions } from "../websocket/sessions.ts";
import { Upgrades } from "../websocket/upgrade.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Calls } from "./calls.ts";
import type { Foundation } from "./foundation.ts";
import type { Presence } from "./presence.ts";
import type { Sockets } from "./sockets.ts";
import type { Subscribing } from "./subscribing.ts";

export type Entrance = PartsOf<typeof composeEntrance>;

export function composeEntrance(base: Base, parts: Foundation & Sockets & Presence & Calls & Subscribing) {
  const { config, logger, now, newId, random } = base;
  const { storage, cluster, directory, hub, tell } = parts;
  const { drain_window: windowMs, drain_timeout: timeoutMs } = config.server;
  const draining = new Draining({ hub, tell, windowMs, timeoutMs, random, logger });
  const authenticator = createAuthenticator({
    config: config.auth,
    now,
    onFault: (message) => logger.warn({ fault: message }, "keys could not be fetched"),
  });
  const addresses = createAddressLimiter(config.rate_limits);
  const quota = new ConnectionQuota(config);
  const credentials = new Credentials({ config, authenticator, directory, addresses, now, logger });
  const upgrades = new Upgrades({
    config,
    credentials,
    addresses,
    quota,
    codecs,
    connections: () => hub.size,
    isDraining: () => draining.hasBegun,
    now,
    newId,
  });
  const devices = new Survey<DeviceQuestions>({
    ...cluster,
    answers: createDeviceAnswers({ hub, now }),
    newId,
    onFault: (err, question) => logger.warn({ err, question }, "another node was not answered"),
  });
  const sessions = new Sessions({ ...base, ...parts, survey: devices, credentials, quota, cursors: storage.cursors });
  return {
    parts: { authenticator, upgrades, sessions, draining, devices },
    start: () => authenticator.start(),
    stop: async () => authenticator.stop(),
    sweep: (at) => addresses.sweep(at),
  } satisfies Area;
}
