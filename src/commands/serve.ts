/** Runs the service until it is told to end; under `bun --hot` it takes new handlers while everybody stays connected. */
import packageJson from "../../package.json" with { type: "json" };
import { type App, startApp } from "../app.ts";
import { loadConfig } from "../config/loader.ts";
import { routes } from "../handlers/routes.ts";
import { createLogSink } from "../telemetry/logger.ts";
import type { Command } from "./command.ts";

interface Running {
  app: App;
  ended: Promise<number>;
}

// Survives a hot reload, which runs the whole program again in the same process.
const shared = globalThis as { wsServiceRunning?: Promise<Running> };

export const serve: Command = {
  name: "serve",
  summary: "run the service (also without a word)",
  usage: "serve [--config <file>]",
  options: {
    config: { summary: "the configuration; else WS_CONFIG, else configs/config.yaml, else defaults", value: "file" },
  },
  async run(args, io) {
    if (shared.wsServiceRunning !== undefined) {
      const { app, ended } = await shared.wsServiceRunning;
      app.replaceRoutes(routes);
      return ended;
    }
    shared.wsServiceRunning = start(args.value("config"), io);
    return (await shared.wsServiceRunning).ended;
  },
};

async function start(file: string | undefined, io: Parameters<Command["run"]>[1]): Promise<Running> {
  const startedAt = performance.now();
  const loaded = await loadConfig({ ...(file === undefined ? {} : { file }), env: io.env, cwd: io.cwd });
  const { config, notices } = loaded;
  const sink = createLogSink(config.log);
  const { logger } = sink;
  for (const notice of notices) logger.warn(notice);
  const app = await startApp({ config, routes, logger, version: packageJson.version });
  const { promise: ended, resolve } = Promise.withResolvers<number>();
  io.signals.onTerminate(() => {
    app
      .drain()
      .then(
        () => 0,
        (error) => {
          logger.error({ error: String(error) }, "stopping failed");
          return 1;
        },
      )
      .then((exitCode) => sink.flush().then(() => resolve(exitCode)));
  });
  io.signals.onHangup(() => {
    app.reload().then(
      () => logger.info("certificates and keys read again"),
      (error) => logger.error({ error: String(error) }, "certificates or keys could not be read; the former stay"),
    );
  });
  const { host, tls } = config.server;
  const url = `${tls === null ? "ws" : "wss"}://${host.includes(":") ? `[${host}]` : host}:${app.port}/ws`;
  const startMs = Math.round(performance.now() - startedAt);
  logger.info({ url, config: loaded.file, version: packageJson.version, start_ms: startMs }, "listening");
  logger.flush();
  return { app, ended };
}
