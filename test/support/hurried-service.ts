/** Runs the service by a clock of which a minute passes in each second, so that what happens after a while need not be waited for. */
import packageJson from "../../package.json" with { type: "json" };
import { startApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { routes } from "../../src/handlers/routes.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";

const speed = 60;
const startedAt = Date.now();

const { config } = await loadConfig({ env: process.env, cwd: process.cwd() });
const { logger } = createLogSink(config.log);
const now = () => startedAt + (Date.now() - startedAt) * speed;
const app = await startApp({ config, routes, logger, version: packageJson.version, now });
logger.info({ url: `ws://127.0.0.1:${app.port}/ws` }, "listening");
