/** The service as a program that can be measured: the real application, from its own start, with quiet settings. */
import { join } from "node:path";
import { startApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { routes } from "../../src/handlers/routes.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { gatherCrowd } from "./crowd.ts";
import { fillStorage } from "./filling.ts";
import { answerMeasurements } from "./measured.ts";
import { logMissed, type Missed } from "./missed.ts";
import { temporaryFolder } from "./temporary.ts";

const folder = temporaryFolder("ws-service-bench");
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

answerMeasurements(app.port, known);

async function fill(): Promise<Record<string, number | string>> {
  const members = JSON.parse(process.env.MEMBERS ?? "null") as { users: number; conversations: number } | null;
  const missed = JSON.parse(process.env.MISSED ?? "null") as Missed | null;
  const demanding = JSON.parse(process.env.CROWD ?? "null") as string[] | null;
  return fillStorage(config.storage.url, async (storage) => {
    if (demanding !== null) await gatherCrowd(storage, demanding);
    if (members !== null) await addMembers(storage, members);
    return missed === null ? {} : logMissed(storage, missed);
  });
}

async function addMembers(storage: Storage, { users, conversations }: { users: number; conversations: number }) {
  const everybody = Array.from({ length: users }, (_, index) => `user-${index}`);
  for (const key of ["everybody", ...Array.from({ length: conversations }, (_, index) => `c${index}`)]) {
    await storage.directory.addMembers(key, everybody);
  }
}
