/** Is `npm run demo`: a service of its own with people and what they have said, and the page for them, until it is ended. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { createServer } from "vite";
import { openOffice } from "./office.ts";
import { seed } from "./seed.ts";

const folder = mkdtempSync(join(tmpdir(), "ws-service-demo-"));
const settings = {
  ...{ WS__SERVER__PORT: "0", WS__STORAGE__URL: `sqlite:${join(folder, "chat.db")}`, WS__DIRECTORY__MODE: "managed" },
  ...{ WS__LOG__FORMAT: "json", WS__SERVER__DRAIN_WINDOW: "0s", WS__WEBSOCKET__MAX_CONNECTIONS: "100" },
};

const service = spawn(process.execPath, [resolve(import.meta.dirname, "../../src/main.ts"), "serve"], {
  cwd: folder,
  env: { ...process.env, ...settings },
  stdio: ["ignore", "pipe", "inherit"],
});
let isEnding = false;
let closeOffice: (() => void) | null = null;
service.on("exit", (code) => process.exit(isEnding ? 0 : (code ?? 1)));
// However it ends: Vite has a way of its own.
process.on("exit", () => {
  service.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    isEnding = true;
    closeOffice?.();
    service.kill("SIGTERM");
  });

/** The service says where it listens; what it says of trouble is passed on. */
const url = await new Promise<string>((listening) => {
  createInterface({ input: service.stdout }).on("line", (line) => {
    const { level, msg, url } = JSON.parse(line) as Record<string, string>;
    if (msg === "listening") listening(url!.replace("127.0.0.1", "localhost"));
    else if (level !== "info") console.error(line);
  });
});
await seed(url);
closeOffice = openOffice(url);

const port = Number(process.env.PORT ?? 5173);
const isOpened = process.stdout.isTTY && !process.argv.includes("--no-open");
const server = await createServer({
  configFile: join(import.meta.dirname, "vite.config.ts"),
  define: { "import.meta.env.VITE_SERVER": JSON.stringify(url) },
  server: { port, host: "localhost", open: isOpened ? "/beside.html" : false },
  logLevel: "warn",
});
await server.listen();
const [page] = server.resolvedUrls!.local;
console.log(`
  Anna and Ben, side by side   ${page}beside.html
  Anna                         ${page}?user=anna
  Ben                          ${page}?user=ben
  Somebody else                ${page}
  The service                  ${url}

  Ctrl-C ends it, and what was said is gone with it.
`);
