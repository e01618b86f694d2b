/** Composes the service of its areas, each in a file of `app/`, and says how it drains and stops. */
import { Composition } from "./app/area.ts";
import { type AppOptions, baseOf } from "./app/base.ts";
import { composeCalls } from "./app/calls.ts";
import { composeEntrance } from "./app/entrance.ts";
import { composeErasure } from "./app/erasure.ts";
import { openFoundation } from "./app/foundation.ts";
import { composeFrontDoor } from "./app/front-door.ts";
import { composeIngest } from "./app/ingest.ts";
import { composeMessaging } from "./app/messaging.ts";
import { composeOperations } from "./app/operations.ts";
import { composePresence } from "./app/presence.ts";
import { composePush } from "./app/push.ts";
import { composeRequests } from "./app/requests.ts";
import { composeSessions } from "./app/sessions.ts";
import { composeSockets } from "./app/sockets.ts";
import { composeSubscribing } from "./app/subscribing.ts";
import type { Routes } from "./handlers/context.ts";
import { checkEventTypes } from "./handlers/events.ts";
import type { NodeStats } from "./telemetry/stats.ts";

export type { AppOptions } from "./app/base.ts";

export interface App {
  port: number;
  /** Puts new handlers in place while everybody stays connected. */
  replaceRoutes(routes: Routes): void;
  /** Reads certificates and keys again. */
  reload(): Promise<void>;
  /** Lets everybody go, each at its own moment, then stops; a second call ends it at once [DRN]. */
  drain(): Promise<void>;
  /** Tells whether this process can serve, whatever its siblings [END2]. */
  isReady(): Promise<boolean>;
  stats(): Promise<NodeStats>;
}

/** How long letting go of the engines may take at the very end. */
const stopTimeoutMs = 3_000;

/** @throws StartError where the configuration cannot be served */
export async function startApp(options: AppOptions): Promise<App> {
  checkEventTypes(options.config);
  const base = baseOf(options);
  // In this order they are built and started; they are stopped in the reverse order.
  const service = Composition.of(base, await openFoundation(base))
    .add(composeSockets)
    .add(composeMessaging)
    .add(composePresence)
    .add(composePush)
    .add(composeCalls)
    .add(composeSubscribing)
    .add(composeIngest)
    .add(composeErasure)
    .add(composeEntrance)
    .add(composeSessions)
    .add(composeRequests)
    .add(composeFrontDoor)
    .add(composeOperations);
  const { authenticator, calls, cleanUp, draining, health, ingest, publisher, push, receipts, router, server, stats } =
    service.parts;
  await service.start();
  let drained: Promise<void> | null = null;

  async function drainAndStop(): Promise<void> {
    draining.begin();
    await draining.within([calls.endAll()]);
    await draining.within([draining.letGo(), ingest.stop(), push.stop()]);
    draining.closeAll();
    await draining.within([cleanUp.done(), publisher.drained(), receipts.stop(), draining.parted()]);
    // Engines that do not answer must not keep a process that has nothing left to do.
    const stopped = service.stop().then(() => base.logger.info("stopped"));
    await Promise.race([stopped, Bun.sleep(stopTimeoutMs)]);
  }

  return {
    port: server.port,
    replaceRoutes: (fresh) => router.replaceRoutes(fresh),
    async reload() {
      await Promise.all([server.rotateCertificate(), authenticator.reload()]);
    },
    drain() {
      if (drained !== null) draining.hurry();
      drained ??= drainAndStop();
      return drained;
    },
    isReady: health.isReady,
    stats,
  };
}
