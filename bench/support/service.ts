/** The service as a program that can be measured: the real application, from its own start, with quiet settings. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { routes } from "../../src/handlers/routes.ts";
import { migrateStorage } from "../../src/storage/migrate.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { gatherCrowd } from "./crowd.ts";
import { answerMeasurements } from "./measured.ts";
import { logMissed, type Missed } from "./missed.ts";

const folder = mkdtempSync(join(tmpdir(), "ws-service-bench-"));
const { config } = await loadConfig({
  cwd: folder,
  env: {
    WS__SERVER__PORT: "0",
    WS__STORAGE__URL: `sqlite:${join(folder, "bench.db")}`,
    WS__RATE_LIMITS__ENABLED: "false",
    WS__WEBSOCKET__REGISTER_BUFFER: "20000",
    WS__LOG__LEVEL: "error",
    ...process.env,
  },
});
const { logger } = createLogSink(config.log);
const known = await fill();
const app = await startApp({ config, routes, logger, version: "bench" });
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
process.on("SIGTERM", () => process.exit(0));

answerMeasurements(app.port, known);

/** Makes what is there before anybody connects: how it came into being is not what is measured. */
async function fill(): Promise<Record<string, number>> {
  const members = JSON.parse(process.env.MEMBERS ?? "null") as { users: number; conversations: number } | null;
  const missed = JSON.parse(process.env.MISSED ?? "null") as Missed | null;
  const demanding = JSON.parse(process.env.CROWD ?? "null") as string[] | null;
  const { url } = config.storage;
  await migrateStorage({ url, lockTimeoutMs: 5_000 });
  if (members === null && missed === null && demanding === null) return {};
  const timeoutMs = 60_000;
  const storage = url.startsWith("sqlite:")
    ? createSqliteStorage({ path: url.slice("sqlite:".length), callTimeoutMs: timeoutMs })
    : createPostgresStorage({ url, queryTimeoutMs: timeoutMs });
  await storage.start();
  if (demanding !== null) await gatherCrowd(storage, demanding);
  if (members !== null) await addMembers(storage, members);
  const known = missed === null ? {} : await logMissed(storage, missed);
  await storage.stop();
  return known;
}

async function addMembers(storage: Storage, { users, conversations }: { users: number; conversations: number }) {
  const everybody = Array.from({ length: users }, (_, index) => `user-${index}`);
  for (const key of ["everybody", ...Array.from({ length: conversations }, (_, index) => `c${index}`)]) {
    await storage.directory.addMembers(key, everybody);
  }
}
