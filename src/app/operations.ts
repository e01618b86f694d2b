/** Composes what operators see and what runs beside: signs of life, retention, and the internal listener with its metrics [END3]. */
import { isLoopback } from "../config/addresses.ts";
import type { About, Guesses, InnerSockets } from "../operations/listener.ts";
import { Retention } from "../storage/retention.ts";
import type { MetricsOptions } from "../telemetry/metrics.ts";
import { warnsOnce } from "../telemetry/outage.ts";
import type { Connection } from "../websocket/connection.ts";
import { listenAt } from "../websocket/listening.ts";
import type { Area } from "./area.ts";
import type { Base } from "./base.ts";
import type { Entrance } from "./entrance.ts";
import type { Foundation } from "./foundation.ts";
import type { FrontDoor } from "./front-door.ts";
import type { Messaging } from "./messaging.ts";
import type { Requests } from "./requests.ts";
import type { Sockets } from "./sockets.ts";

export function composeOperations(
  base: Base,
  parts: Foundation & Sockets & Messaging & Entrance & Requests & FrontDoor,
) {
  const { config, logger } = base;
  const { storage, cluster, sequencer, hub, draining, stats, listeners, server, health, internalAddresses } = parts;
  const retention = new Retention({
    storage,
    settings: config.log,
    everyMs: config.websocket.cleanup_interval,
    onTakenOut: () => sequencer.forgetPublished(),
    isEnding: () => draining.hasBegun,
    logger,
  });
  const living = warnsOnce(logger, "this node could not say that it lives", "this node says again that it lives");
  const { nodeId } = cluster;
  const about: About = {
    node_id: nodeId,
    version: base.version,
    auth: config.auth.mode,
    show_payloads: config.operations.show_payloads,
  };
  // Passed on within the process: what a proxy to the public port would need of TLS, of hosts and of addresses is not needed,
  // and the operator's own address is in the lists.
  const sockets: InnerSockets<Connection> = {
    handlers: server.handlers,
    answer: async (request, listener) => server.answerSocket(request, listener, { isInternal: true }),
    addressOf: (request, listener) => server.addressOf(request, listener),
    isOfThisMachine: (request, listener) => server.isOfThisMachine(request, listener),
    add: (listener) => listeners.addBeside(listener),
    remove: (listener) => listeners.removeBeside(listener),
  };
  const metrics = {
    ...base,
    stats,
    nodeId,
    health: () => health.report(),
    isDraining: () => draining.hasBegun,
    retainedAt: () => retention.doneAt,
  };
  const guesses: Guesses = {
    mayFail: (address) => internalAddresses.mayFail(address, base.now()),
    noteFailure(address) {
      internalAddresses.noteFailure(address, base.now());
      logger.warn({ address }, "a wrong token for the internal listener");
    },
  };
  const internal = new InternalListener(config.operations, { ...metrics, about, sockets, guesses });
  return {
    parts: {},
    async start() {
      await cluster.nodes.beat(hub.size);
      await internal.start();
    },
    stop: () => internal.stop(),
    sweep(at) {
      void living.attempt(cluster.nodes.beat(hub.size));
      void retention.run(at);
    },
  } satisfies Area;
}

/** Listens where `operations.listen` is set; what it needs is loaded only then. */
class InternalListener {
  #parts: { stop(): Promise<void> | void }[] = [];

  constructor(
    private readonly settings: Base["config"]["operations"],
    private readonly options: MetricsOptions &
      Pick<Base, "logger"> & { about: About; sockets: InnerSockets<Connection>; guesses: Guesses },
  ) {}

  /** @throws StartError where the port is taken */
  async start(): Promise<void> {
    const { listen, token } = this.settings;
    const { about, guesses, logger, sockets } = this.options;
    if (listen === null) return;
    const [{ Metrics }, { startListener }, { consoleFiles }] = await Promise.all([
      import("../telemetry/metrics.ts"),
      import("../operations/listener.ts"),
      import("../operations/console-files.ts"),
    ]);
    const metrics = new Metrics(this.options);
    const settings = { host: "operations.listen", port: "operations.listen" };
    const onFault = (err: Error) => logger.error({ err }, "request to the internal listener failed");
    const listener = listenAt({ ...listen, settings }, () =>
      startListener({ listen, token, metrics, about, sockets, guesses, consoleFiles, isLoopback, onFault }),
    );
    this.#parts = [metrics, listener];
    logger.info({ url: listener.url }, "metrics and console");
  }

  async stop(): Promise<void> {
    for (const part of this.#parts) await part.stop();
  }
}
