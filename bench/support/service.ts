/** The service as a program that can be measured: the real application, from its own start, with quiet settings. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { routes } from "../../src/handlers/routes.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { answerMeasurements } from "./measured.ts";

const folder = mkdtempSync(join(tmpdir(), "ws-service-bench-"));
const { config } = await loadConfig({
  cwd: folder,
  env: {
    WS__SERVER__PORT: "0",
    WS__STORAGE__URL: `sqlite:${join(folder, "bench.db")}`,
    WS__RATE_LIMITS__ENABLED: "false",
    WS__WEBSOCKET__REGISTER_BUFFER: "20000",
    WS__LOG__LEVEL: "warn",
    ...process.env,
  },
});
const { logger } = createLogSink(config.log);
await addMembers(JSON.parse(process.env.MEMBERS ?? '{"users":0,"conversations":0}'));
const app = await startApp({ config, routes, logger, version: "bench" });
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
process.on("SIGTERM", () => process.exit(0));

answerMeasurements(app.port);

/** Conversations that were there before anybody connected: how they come into being is not what is measured. */
async function addMembers({ users, conversations }: { users: number; conversations: number }): Promise<void> {
  const storage = createSqliteStorage({ path: join(folder, "bench.db"), callTimeoutMs: 60_000 });
  await storage.start();
  const everybody = Array.from({ length: users }, (_, index) => `user-${index}`);
  for (const key of ["everybody", ...Array.from({ length: conversations }, (_, index) => `c${index}`)]) {
    await storage.directory.addMembers(key, everybody);
  }
  await storage.stop();
}
