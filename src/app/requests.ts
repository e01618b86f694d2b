/** Composes what a request meets: limits, the router, and the services that handlers work with. */

import { SharedWrites } from "../ground/shared-writes.ts";
import { realTimers } from "../ground/timers.ts";
import type { Services } from "../handlers/context.ts";
import { codecs } from "../protocol/codecs.ts";
import { RateLimiter } from "../router/rate-limiter.ts";
import { Router } from "../router/router.ts";
import type { Acknowledgement } from "../storage/ports.ts";
import { Samples } from "../telemetry/samples.ts";
import { createAdministration } from "../websocket/administration.ts";
import type { Connection } from "../websocket/connection.ts";
import { statsOf } from "../websocket/stats.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Calls } from "./calls.ts";
import type { Entrance } from "./entrance.ts";
import type { Erasure } from "./erasure.ts";
import type { Foundation } from "./foundation.ts";
import type { Ingest } from "./ingest.ts";
import type { Messaging } from "./messaging.ts";
import type { Presence } from "./presence.ts";
import type { Pushing } from "./push.ts";
import type { SessionParts } from "./sessions.ts";
import type { Sockets } from "./sockets.ts";
import type { Subscribing } from "./subscribing.ts";

export type Requests = PartsOf<typeof composeRequests>;

export function composeRequests(
  base: Base,
  parts: Foundation &
    Sockets &
    Messaging &
    Presence &
    Pushing &
    Calls &
    Subscribing &
    Ingest &
    Erasure &
    Entrance &
    SessionParts,
) {
  const { config, routes, logger, counts, now, newId } = base;
  const { storage, cluster, hub, broadcaster, sessions, tracing, health } = parts;
  const stats = () => statsOf({ ...parts, log: storage.log, erasures: storage.erasures, bus: cluster.bus });
  const subscriberCount = (topic: string) => broadcaster.subscriberCount(topic);
  const samples = new Samples({ counts, stats, stepMs: config.operations.sample_interval, timers: realTimers, now });
  const admin = createAdministration({
    ...parts,
    subscriberCount,
    stats,
    samples,
    health: () => health.report(),
    newId,
    logger,
  });
  const services: Services = {
    ...parts,
    log: storage.log,
    acknowledgements: new SharedWrites<Acknowledgement, string>({
      write: (acknowledgements) => storage.cursors.acknowledge(acknowledgements),
      keyOf: ({ userId }) => userId,
    }),
    directoryStore: storage.directory,
    conversationStore: storage.conversations,
    erasures: storage.erasures,
    config,
    authenticate: (from, payload) => sessions.authenticate(from as Connection, payload),
    admin,
    now,
    newId,
  };
  const limiter = new RateLimiter(config);
  const router = new Router({ services, routes, codecs, limiter, storage, counts, tracing, logger });
  return {
    parts: { router, survey: admin.survey, stats },
    start: async () => samples.start(),
    stop: async () => samples.stop(),
    sweep(at) {
      limiter.sweep(at);
      for (const connection of hub.all()) limiter.settle(connection, at);
    },
  } satisfies Area;
}
