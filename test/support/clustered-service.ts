/** The service as a node of a cluster whose shared log is one SQLite file, so that nodes need no PostgreSQL to be proved. */
import packageJson from "../../package.json" with { type: "json" };
import { startApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { routes } from "../../src/handlers/routes.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";

const { TEST_CLUSTER_URL, TEST_CLUSTER_STREAM, ...env } = process.env;
const { config } = await loadConfig({ env, cwd: process.cwd() });
// The configuration refuses the two together, rightly: a file is shared by the processes of one machine only.
config.cluster.url = TEST_CLUSTER_URL!;
config.cluster.ingest_stream = TEST_CLUSTER_STREAM ?? null;
const { logger } = createLogSink(config.log);
const app = await startApp({ config, routes, logger, version: packageJson.version });
logger.info({ url: `ws://127.0.0.1:${app.port}/ws` }, "listening");
