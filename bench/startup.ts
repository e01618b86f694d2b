/** Measures the binary's start: from the first system call to a port that listens, and the memory of a service that idles. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { readOptions } from "./support/command-line.ts";
import { present } from "./support/measured.ts";
import { temporaryFolder } from "./support/temporary.ts";

readOptions({});

const binary = resolve(import.meta.dir, "../dist/ws-service");
const starts = 15;
const idleMs = 3_000;
/** Targets that this project holds itself to. */
const targets = { listeningMs: 100, idleMebibytes: 80 };

if (!existsSync(binary)) throw new Error("dist/ws-service is not there; make it with: bun build.ts");

interface Start {
  listeningMs: number;
  idleMebibytes: number;
}

/** One start in an empty folder, so that the schema is made too. */
async function start(): Promise<Start> {
  const folder = temporaryFolder("ws-startup");
  const startedAt = performance.now();
  const child = Bun.spawn([binary, "serve"], {
    cwd: folder,
    env: { WS__SERVER__PORT: "0", WS__LOG__FORMAT: "json", WS__SERVER__DRAIN_WINDOW: "0s" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  // The line is written out at once, and only when the port listens.
  await child.stdout.getReader().read();
  const listeningMs = performance.now() - startedAt;
  await Bun.sleep(idleMs);
  const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
  child.kill("SIGTERM");
  await child.exited;
  rmSync(folder, { recursive: true, force: true });
  return { listeningMs, idleMebibytes: Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) / 1_024 };
}

// The first one reads the file from the disk; it is not what is meant.
await start();
const measured: Start[] = [];
for (let count = 0; count < starts; count++) measured.push(await start());

const rows = (["listeningMs", "idleMebibytes"] as const).map((what) => {
  const values = measured.map((one) => one[what]).sort((one, other) => one - other);
  const at = (share: number) => Math.round(values[Math.floor((values.length - 1) * share)]! * 10) / 10;
  const typical = at(0.5);
  return {
    what,
    min: at(0),
    median: typical,
    max: at(1),
    target: targets[what],
    met: typical < targets[what] ? "yes" : "no",
  };
});
present("startup", rows);
