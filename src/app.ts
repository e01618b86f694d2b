/** Builds the parts from the configuration, joins them, and starts and stops them in order. */
import { createAuthenticator } from "./auth/authenticator.ts";
import type { Audience } from "./broadcast/broadcaster.ts";
import { createBroadcasting } from "./broadcast/broadcasting.ts";
import type { NativeTopics } from "./broadcast/ports.ts";
import { createCalls } from "./calls/calls.ts";
import type { Config } from "./config/schema.ts";
import { createDirectoryView } from "./directory/directory.ts";
import { createCluster, createStorage } from "./engines.ts";
import { realTimers } from "./ground/timers.ts";
import type { Stats } from "./handlers/admin-questions.ts";
import type { Routes, Services } from "./handlers/context.ts";
import { ReceiptRelay } from "./handlers/receipt-relay.ts";
import type { Siblings } from "./health/checkers.ts";
import { createHealth } from "./health/health.ts";
import { createIngest } from "./ingest/ingest.ts";
import { type Cause, PresenceTracker } from "./presence/tracker.ts";
import { TypingTracker } from "./presence/typing.ts";
import { type Codec, jsonCodec } from "./protocol/codec.ts";
import type { WireFormat } from "./protocol/limits.ts";
import { protobufCodec } from "./protocol/protobuf/codec.ts";
import { createRateLimiter } from "./router/rate-limiter.ts";
import { Router } from "./router/router.ts";
import { FairQueue } from "./storage/fair-queue.ts";
import { Retention } from "./storage/retention.ts";
import { createSnapshots } from "./subscription/snapshots.ts";
import { createSubscriptions, subscriptionSettings } from "./subscription/subscriptions.ts";
import { everyoneTopic, presenceTopic } from "./subscription/topic.ts";
import { Counts } from "./telemetry/counts.ts";
import type { Logger } from "./telemetry/logger.ts";
import { warnsOnce } from "./telemetry/outage.ts";
import { createAddressLimiter } from "./websocket/address-limiter.ts";
import { createAdministration } from "./websocket/administration.ts";
import { closeReplaced, listenToBus } from "./websocket/bus-listener.ts";
import type { Connection } from "./websocket/connection.ts";
import { ConnectionQuota } from "./websocket/connection-quota.ts";
import { Credentials } from "./websocket/credentials.ts";
import { listenToDirectory } from "./websocket/directory-listener.ts";
import { Draining } from "./websocket/draining.ts";
import { Hub } from "./websocket/hub.ts";
import { Liveness } from "./websocket/liveness.ts";
import { startOperations } from "./websocket/operations.ts";
import { bufferBytesMax, Server } from "./websocket/server.ts";
import { Sessions } from "./websocket/sessions.ts";
import { statsOf } from "./websocket/stats.ts";
import { Upgrades } from "./websocket/upgrade.ts";

export interface AppOptions {
  config: Config;
  routes: Routes;
  logger: Logger;
  version: string;
  now?: () => number;
  newId?: () => string;
  random?: () => number;
  /** Log lines that were dropped, for the metrics. */
  droppedLogLines?: () => number;
  /** The other processes on the same port. */
  siblings?: Siblings;
}

export interface App {
  port: number;
  /** Puts new handlers in place while everybody stays connected. */
  replaceRoutes(routes: Routes): void;
  /** Reads certificates and keys again. */
  reload(): Promise<void>;
  /** Lets everybody go, each at its own moment, then stops; a second call ends it at once [DRN]. */
  drain(): Promise<void>;
  /** Whether this process can serve, whatever its siblings [END2]. */
  isReady(): Promise<boolean>;
  stats(): Promise<Stats>;
}

/** How long letting go of the engines may take at the very end. */
const stopTimeoutMs = 3_000;

export async function startApp(options: AppOptions): Promise<App> {
  const {
    config,
    routes,
    logger,
    version,
    now = Date.now,
    newId = () => Bun.randomUUIDv7(),
    random = Math.random,
    droppedLogLines = () => 0,
    siblings,
  } = options;
  const storage = createStorage(config, { now, logger });
  // Before anything is made that carries its identity.
  await storage.start();
  const nodeId = config.cluster.node_id ?? newId();
  const counts = new Counts();
  const cluster = await createCluster(config, { storage, now, version, nodeId, counts, logger });
  const codecs: Record<WireFormat, Codec> = { json: jsonCodec, protobuf: protobufCodec };
  const hub = new Hub();
  const questions = new FairQueue({ perUser: config.storage.questions_per_user });

  // The topics exist once the server listens; nothing is published before.
  let native: NativeTopics = { publish() {}, subscriberCount: () => 0 };
  const ground = { now, newId, logger };
  const { broadcaster, sequencer, ownSent, publisher } = createBroadcasting({
    native: {
      publish: (topic, frame) => native.publish(topic, frame),
      subscriberCount: (topic) => native.subscriberCount(topic),
    },
    recipients: hub,
    codecs,
    bus: cluster.bus,
    log: storage.log,
    waitingMax: config.websocket.broadcast_buffer,
    onAppended(event) {
      typing.noteMessage(event);
      subscriptions.noteLogged();
    },
    counts,
    ...ground,
  });
  const ingest = createIngest([storage.outbox, cluster.stream], {
    publisher,
    payloadBytesMax: config.websocket.max_message_size,
    ...ground,
  });
  const { mode, cache_ttl: cacheTtlMs, cache_size: cacheSize } = config.directory;
  const directory = createDirectoryView({ directory: storage.directory, mode, cacheTtlMs, cacheSize, now });
  /** The connection that caused a change, where it is on this node. */
  const exceptOf = (cause?: Cause): Audience => (cause === undefined ? {} : { except: hub.find(cause)[0] });
  const presence = new PresenceTracker({
    nodeId: cluster.nodeId,
    registry: cluster.presence,
    statuses: storage.statuses,
    show: (userId, message, cause) =>
      void broadcaster.toTopic(presenceTopic(userId), message, { ...exceptOf(cause), reach: "here" }),
    tellOwnDevices: (userId, message, cause) =>
      void broadcaster.toUser(userId, message, { ...exceptOf(cause), reach: "here" }),
    watchersOf: (userId) => broadcaster.subscriberCount(presenceTopic(userId)),
    onSuperseded: (device) => closeReplaced(hub, device),
    settings: config.presence,
    logger,
  });
  const typing = new TypingTracker({
    publish: (topic, event, audience) => void broadcaster.toTopic(topic, event, audience),
    publishHere: (topic, event) => void broadcaster.toTopic(topic, event, { reach: "here" }),
    follow: (topic) => void cluster.bus.watch(topic),
    settings: config.typing,
    now,
  });
  const calls = createCalls({
    cluster,
    settings: config.calls,
    broadcaster,
    publisher,
    presence,
    view: directory,
    directory: storage.directory,
    ...ground,
  });
  const receipts = new ReceiptRelay({
    store: storage.receipts,
    publisher,
    windowMs: config.messages.receipt_window,
    ...ground,
  });
  const resending = warnsOnce(logger, "calls not re-sent", "calls are re-sent again");
  const living = warnsOnce(logger, "this node could not say that it lives", "this node says again that it lives");
  const { subscriptions, membership } = createSubscriptions({
    log: storage.log,
    cursors: storage.cursors,
    questions,
    sequencer,
    ownSent,
    bus: cluster.bus,
    directory,
    snapshots: createSnapshots({ receipts: storage.receipts, typing, presence, calls }),
    onSubscribed: ({ userId, deviceId }, topics) => {
      if (!topics.some(({ kind }) => kind === "calls")) return;
      // Once `subscribed` is out: calls that ring come after it.
      setImmediate(() => void resending.attempt(calls.deviceConnected({ userId, deviceId })));
    },
    onLeft(subscriber, topics) {
      const left = topics.flatMap(({ kind, key }) => (kind === "typing" || kind === "conversation" ? [key] : []));
      if (left.length > 0) typing.stopAll(subscriber, left);
    },
    subscribersOf: (userId) => hub.ofUser(userId),
    allSubscribers: () => [...hub.all()].filter((it) => it.isAuthenticated),
    tell: (subscriber, type, payload) =>
      subscriber.sendAll([{ id: newId(), type, payload: JSON.stringify(payload), at: now() }]),
    logger,
    ...subscriptionSettings(config),
  });
  const authenticator = createAuthenticator({
    config: config.auth,
    now,
    onFault: (message) => logger.warn({ fault: message }, "keys could not be fetched"),
  });
  const addresses = createAddressLimiter(config.rate_limits);
  const limiter = createRateLimiter(config);
  const quota = new ConnectionQuota(config);
  const credentials = new Credentials({ config, authenticator, directory, addresses, ...ground });
  const entrance = { config, credentials, quota };
  const upgrades = new Upgrades({
    ...entrance,
    addresses,
    codecs,
    connections: () => hub.size,
    isDraining: () => draining.hasBegun,
    ...ground,
  });
  const sessions = new Sessions({
    ...entrance,
    hub,
    cluster,
    survey: () => administration.survey,
    presence,
    typing,
    calls,
    subscriptions,
    membership,
    cursors: storage.cursors,
    counts,
    ...ground,
  });
  const { drain_window: windowMs, drain_timeout: timeoutMs } = config.server;
  const draining: Draining = new Draining({ hub, sessions, windowMs, timeoutMs, random, logger });
  const administration = createAdministration({
    cluster,
    hub,
    subscriptions,
    subscriberCount: (topic) => broadcaster.subscriberCount(topic),
    figures: () => figures(),
    tell: (connection, type, payload) => sessions.tell(connection, type, payload),
    ...ground,
  });
  const parts = { subscriptions, presence, calls, publisher, sequencer, typing };
  const services: Services = {
    config,
    storage,
    questions,
    directory,
    broadcaster,
    receipts,
    ...parts,
    authenticate: (from, payload) => sessions.authenticate(from as Connection, payload),
    admin: administration,
    ...ground,
  };
  const router = new Router({ services, routes, codecs, limiter, counts, logger });
  const health = createHealth({
    storage,
    cluster,
    isClusterRequired: config.cluster.required,
    siblings,
    draining: () => draining.hasBegun,
    logger,
  });
  const sharesPort = siblings !== undefined;
  const server = new Server({ config, router, upgrades, sessions, health, hub, logger, now, sharesPort });
  const liveness = new Liveness({
    config,
    hub,
    sessions,
    bufferBytesMax: bufferBytesMax(config.websocket),
    now,
    cleanUp,
  });

  const figures = () => statsOf({ ...parts, hub, sessions, ingest, log: storage.log, bus: cluster.bus });
  const retention = new Retention({ storage, settings: config.log, isEnding: () => draining.hasBegun, logger });
  function cleanUp(at: number): void {
    sequencer.sweep();
    cluster.bus.sweep(
      (topic) => topic === everyoneTopic || broadcaster.subscriberCount(topic) > 0 || typing.follows(topic),
    );
    presence.forgetUnwatched();
    limiter.sweep(at);
    addresses.sweep(at);
    for (const connection of hub.all()) limiter.settle(connection, at);
    void living.attempt(cluster.nodes.beat(hub.size));
    void retention.run(at);
  }

  await Promise.all([cluster.start(), authenticator.start(), sequencer.start()]);
  listenToBus({
    cluster,
    broadcaster,
    hub,
    ...parts,
    hearAdministration: (message) => administration.survey.hear(message),
    logger,
  });
  const stopListeningToDirectory = listenToDirectory({
    view: directory,
    directory: storage.directory,
    membership,
    hub,
    timers: realTimers,
    ...ground,
  });
  // Everybody hears it, so it is not asked for by anybody.
  await cluster.bus.watch(everyoneTopic);
  receipts.start();
  presence.start();
  typing.start();
  calls.start();
  await server.start();
  native = server;
  liveness.start();
  await Promise.all([cluster.nodes.beat(0), ingest.start()]);
  const measured = { counts, figures, droppedLogLines, version, nodeId: cluster.nodeId };
  const operations = await startOperations(config.operations, { ...measured, logger });

  let drained: Promise<void> | null = null;

  function drain(): Promise<void> {
    if (drained !== null) draining.hurry();
    drained ??= drainAndStop();
    return drained;
  }

  async function drainAndStop(): Promise<void> {
    draining.begin();
    await draining.within([calls.endAll()]);
    await draining.within([draining.letGo(), ingest.stop()]);
    draining.closeAll();
    await draining.within([sessions.cleaned(), publisher.drained(), receipts.stop()]);
    // Engines that do not answer must not keep a process that has nothing left to do.
    await Promise.race([stop(), Bun.sleep(stopTimeoutMs)]);
  }

  async function stop(): Promise<void> {
    await operations?.stop();
    liveness.stop();
    typing.stop();
    // Those that were begun while everybody was let go.
    await calls.endAll();
    await calls.stop();
    sequencer.stop();
    await presence.stop();
    stopListeningToDirectory();
    directory.stop();
    authenticator.stop();
    await server.stop();
    await cluster.stop();
    await storage.stop();
    logger.info("stopped");
  }

  return {
    port: server.port,
    replaceRoutes: (fresh) => router.replaceRoutes(fresh),
    async reload() {
      await Promise.all([server.rotateCertificate(), authenticator.reload()]);
    },
    drain,
    isReady: health.isReady,
    stats: figures,
  };
}
