/** Composes who may come in and for how long: tokens, quotas, upgrades, this node's health, and draining. */
import { createAuthenticator } from "../auth/authenticator.ts";
import { createHealth } from "../health/health.ts";
import { codecs } from "../protocol/codecs.ts";
import { AddressLimiter } from "../websocket/address-limiter.ts";
import { ConnectionQuota } from "../websocket/connection-quota.ts";
import { Credentials } from "../websocket/credentials.ts";
import { Draining } from "../websocket/draining.ts";
import { Upgrades } from "../websocket/upgrade.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Foundation } from "./foundation.ts";
import type { Sockets } from "./sockets.ts";

export type Entrance = PartsOf<typeof composeEntrance>;

export function composeEntrance(base: Base, parts: Foundation & Sockets) {
  const { config, siblings, logger, now, newId, random } = base;
  const { directory, storage, cluster, hub, tell } = parts;
  const { drain_window: windowMs, drain_timeout: timeoutMs } = config.server;
  const draining = new Draining({ hub, tell, windowMs, timeoutMs, random, logger });
  const health = createHealth({
    storage,
    cluster,
    isClusterRequired: config.cluster.required,
    cacheMs: config.operations.health_cache,
    siblings,
    draining: () => draining.hasBegun,
    logger,
  });
  const authenticator = createAuthenticator({
    config: config.auth,
    now,
    onFault: (message) => logger.warn({ fault: message }, "keys could not be fetched"),
  });
  const addresses = new AddressLimiter(config.rate_limits);
  const internalAddresses = new AddressLimiter(config.rate_limits);
  const quota = new ConnectionQuota(config);
  const credentials = new Credentials({ config, authenticator, directory, addresses, now, logger });
  const upgrades = new Upgrades({
    config,
    credentials,
    addresses,
    internalAddresses,
    quota,
    codecs,
    connections: () => hub.size - quota.internal,
    isDraining: () => draining.hasBegun,
    now,
    newId,
  });
  return {
    parts: { authenticator, credentials, internalAddresses, quota, upgrades, draining, health },
    start() {
      // Before anybody asks: a storage that refuses from the start says so by itself.
      void health.isReady();
      return authenticator.start();
    },
    stop: async () => authenticator.stop(),
    sweep(at) {
      addresses.sweep(at);
      internalAddresses.sweep(at);
    },
  } satisfies Area;
}
