/** Runs the service until it is told to end; under `bun --hot` it takes new handlers while everybody stays connected. */
import packageJson from "../../package.json" with { type: "json" };
import type { App } from "../app.ts";
import { loadConfig } from "../config/loader.ts";
import { beginStorage, readyStorage } from "../engines.ts";
import type { Command, CommandIo } from "./command.ts";
import { findServiceManager } from "./service-manager.ts";
import { startFailureOf } from "./start-failure.ts";
import { findWorkerSlot } from "./worker.ts";

interface Running {
  /** Null: this process only watches over others, which take new handlers by themselves. */
  app: App | null;
  ended: Promise<number>;
}

// Survives a hot reload, which runs the whole program again in the same process.
const shared = globalThis as { wsServiceRunning?: Promise<Running> };

export const serve: Command = {
  name: "serve",
  summary: "run the service (also without a word)",
  usage: "serve [--config <file>] [--workers <number>|auto]",
  details: `With --workers each process is a node of the cluster, and the one that was started serves nobody: it starts the others, starts
them again where they crash, and drains them upon SIGTERM. A second SIGTERM ends at once what still drains.
A service manager that sets NOTIFY_SOCKET is told when it serves and when it drains, and with WATCHDOG_USEC that it is alive.`,
  examples: ["serve --config /etc/ws-service/config.yaml", "serve --workers auto", "--config configs/config.yaml"],
  options: {
    config: { summary: "the configuration; else WS_CONFIG, else configs/config.yaml, else defaults", value: "file" },
    workers: {
      summary: "that many processes on one port, or auto for as many as cores; needs PostgreSQL and Redis",
      value: "number",
    },
  },
  async run(args, io) {
    if (shared.wsServiceRunning !== undefined) {
      const { app, ended } = await shared.wsServiceRunning;
      if (app !== null) app.replaceRoutes((await import("../handlers/routes.ts")).routes);
      return ended;
    }
    const file = args.value("config");
    const workers = args.value("workers");
    shared.wsServiceRunning = workers === undefined ? start(file, io) : startOthers({ workers, file }, io);
    return (await shared.wsServiceRunning).ended;
  },
};

async function startOthers(
  { workers, file }: { workers: string; file: string | undefined },
  io: CommandIo,
): Promise<Running> {
  const { parseWorkers, serveWorkers } = await import("./serve-workers.ts");
  return { app: null, ended: serveWorkers({ count: parseWorkers(workers), file }, io) };
}

async function start(file: string | undefined, io: CommandIo): Promise<Running> {
  const startedAt = performance.now();
  const loaded = await loadConfig({ ...(file === undefined ? {} : { file }), env: io.env, cwd: io.cwd });
  const { config, notices } = loaded;
  await readyStorage(config);
  const slot = findWorkerSlot(io);
  const { createLogSink } = await import("../telemetry/logger.ts");
  const sink = createLogSink(config.log);
  const logger = slot === null ? sink.logger : sink.logger.child({ worker: slot.workerNumber });
  for (const notice of notices) logger.warn(notice);
  const siblings = slot === null ? {} : { siblings: slot };
  const droppedLogLines = sink.droppedLines;
  // It opens while the rest of the program is read.
  const storage = await beginStorage(config, { now: Date.now, logger });
  const [{ startApp }, { routes }] = await Promise.all([import("../app.ts"), import("../handlers/routes.ts")]);
  const app = await startApp({
    config,
    routes,
    storage,
    logger,
    version: packageJson.version,
    ...siblings,
    droppedLogLines,
  }).catch((error) => {
    throw startFailureOf(error, config);
  });
  // Of several processes the one that has started the others speaks.
  const manager = await findServiceManager(slot === null ? io.env : {}, logger);
  const { promise: ended, resolve } = Promise.withResolvers<number>();
  let terminations = 0;
  function terminate(): void {
    if (terminations++ === 0) manager.stopping("draining");
    app
      .drain()
      .then(
        () => 0,
        (error) => {
          logger.error({ err: error }, "stopping failed");
          return 1;
        },
      )
      .then((exitCode) => sink.flush().then(() => resolve(exitCode)));
  }
  function reload(): void {
    app.reload().then(
      () => logger.info("certificates and keys read again"),
      (error) => logger.error({ err: error }, "certificates or keys could not be read; the former stay"),
    );
  }
  io.signals.onTerminate(terminate);
  io.signals.onHangup(reload);
  const { host, tls } = config.server;
  const url = `${tls === null ? "ws" : "wss"}://${host.includes(":") ? `[${host}]` : host}:${app.port}/ws`;
  const startMs = Math.round(performance.now() - startedAt);
  logger.info({ url, config: loaded.file, version: packageJson.version, start_ms: startMs }, "listening");
  manager.ready(`serves ${url}`);
  slot?.takeUp({
    port: app.port,
    isReady: () => app.isReady(),
    terminateUpTo(times) {
      while (terminations < times) terminate();
    },
    reload,
  });
  return { app, ended };
}
