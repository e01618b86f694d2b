/**
 * Receipts: groups in which every member marks every message of the others as delivered; what a message with its marks and receipts
 * costs the service and PostgreSQL, and a mark PostgreSQL alone. With `--first <folder>`, in turns with another build's sources.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { startPostgres } from "../test/support/postgres.ts";
import type { MarkedRound } from "./support/markers.ts";
import { present, startProgram } from "./support/measured.ts";
import { portOf } from "./support/port-of.ts";
import { cpuSecondsOf } from "./support/process-cpu.ts";
import { median } from "./support/statistics.ts";

const { values } = parseArgs({
  options: {
    /** Where another build is checked out, with its dependencies. */
    first: { type: "string" },
    groups: { type: "string", default: "50" },
    members: { type: "string", default: "10" },
    /** Messages a second, over all groups. */
    rate: { type: "string", default: "40" },
    seconds: { type: "string", default: "8" },
    rounds: { type: "string", default: "3" },
    engines: { type: "string", default: "PostgreSQL,SQLite" },
  },
});

type Engine = "SQLite" | "PostgreSQL";

const builds: [name: string, root: string][] = [["now", resolve(import.meta.dir, "..")]];
if (values.first !== undefined) builds.unshift(["first", resolve(values.first)]);
const server = await startPostgres({ settings: ["fsync=on"] });
const folder = mkdtempSync(join(tmpdir(), "ws-receipts-bench-"));
try {
  const rows: Record<string, string | number>[] = [];
  for (const engine of values.engines.split(",") as Engine[]) {
    const rounds = new Map<string, Measured[]>(builds.map(([name]) => [name, []]));
    // In turns, so that a noisy neighbour meets both.
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const [name, root] of builds) rounds.get(name)!.push(await measure(engine, root));
    }
    for (const [name, measured] of rounds) rows.push(rowOf(engine, name, measured));
  }
  present("receipts", rows);
} finally {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}

interface Measured extends MarkedRound {
  serviceCpu: number;
  engineCpu: number;
  counts: Counts;
}

interface Counts {
  commits: number;
  inserted: number;
  updated: number;
  deleted: number;
  walBytes: number;
}

async function measure(engine: Engine, root: string): Promise<Measured> {
  const url = engine === "SQLite" ? `sqlite:${join(folder, `${crypto.randomUUID()}.db`)}` : await server.newDatabase();
  const env = {
    PATH: process.env.PATH ?? "",
    WS__SERVER__PORT: "0",
    WS__STORAGE__URL: url,
    WS__RATE_LIMITS__ENABLED: "false",
    WS__LOG__LEVEL: "info",
  };
  const run = (word: string) =>
    Bun.spawn([process.execPath, join(root, "src/main.ts"), word], {
      cwd: folder,
      env,
      stdout: "pipe",
      stderr: "inherit",
    });
  if (engine === "PostgreSQL") await run("migrate").exited;
  const service = run("serve");
  try {
    const [groups, members, rate] = [values.groups, values.members, values.rate].map(Number);
    const job = { port: await portOf(service.stdout), groups, members, rate };
    const { child, next } = startProgram(["markers.ts", JSON.stringify(job)]);
    await next();
    const play = async (seconds: number) => {
      child.stdin.write(`${seconds}\n`);
      child.stdin.flush();
      return (await next()) as MarkedRound;
    };
    // Everybody once: plans are known, code is compiled.
    await play(3);
    const before = await state(engine, url, service.pid);
    const round = await play(Number(values.seconds));
    const after = await state(engine, url, service.pid);
    child.kill();
    await child.exited;
    const less = (name: keyof Counts) => after.counts[name] - before.counts[name];
    return {
      ...round,
      serviceCpu: after.service - before.service,
      engineCpu: after.engine - before.engine,
      counts: {
        commits: less("commits"),
        inserted: less("inserted"),
        updated: less("updated"),
        deleted: less("deleted"),
        walBytes: less("walBytes"),
      },
    };
  } finally {
    service.kill();
    await service.exited;
  }
}

async function state(engine: Engine, url: string, pid: number) {
  const service = cpuSecondsOf(pid);
  const none: Counts = { commits: 0, inserted: 0, updated: 0, deleted: 0, walBytes: 0 };
  if (engine === "SQLite") return { service, engine: 0, counts: none };
  const database = `'${new URL(url).pathname.slice(1)}'`;
  const backends = await server.run(`SELECT pid FROM pg_stat_activity WHERE datname = ${database}`);
  const engineCpu = backends.reduce((sum, it) => sum + cpuSecondsOf(Number(it.pid)), 0);
  // A backend that has nothing to do says after ten seconds what it has counted.
  await Bun.sleep(10_500);
  const [counts] = await server.run(`SELECT xact_commit AS commits, tup_inserted AS inserted, tup_updated AS updated,
      tup_deleted AS deleted, (SELECT wal_bytes FROM pg_stat_wal) AS wal_bytes
    FROM pg_stat_database WHERE datname = ${database}`);
  const { commits, inserted, updated, deleted, wal_bytes: walBytes } = counts as Record<string, unknown>;
  const numbers = { commits, inserted, updated, deleted, walBytes };
  return {
    service,
    engine: engineCpu,
    counts: Object.fromEntries(
      Object.entries(numbers).map(([name, value]) => [name, Number(value)]),
    ) as unknown as Counts,
  };
}

function rowOf(engine: Engine, build: string, measured: Measured[]): Record<string, string | number> {
  const typical = (value: (one: Measured) => number, digits = 0) => Number(median(measured.map(value)).toFixed(digits));
  const aMark = (name: keyof Counts, digits: number) => typical((it) => it.counts[name] / it.marks, digits);
  return {
    engine,
    build,
    messages: typical((it) => it.messages),
    "marks a message": typical((it) => it.marks / it.messages, 1),
    "receipts a mark": typical((it) => it.receipts / it.marks, 2),
    "service, µs a message": typical((it) => (it.serviceCpu * 1e6) / it.messages),
    ...(engine === "PostgreSQL"
      ? {
          "PostgreSQL, µs a message": typical((it) => (it.engineCpu * 1e6) / it.messages),
          "a mark: commits": aMark("commits", 2),
          inserted: aMark("inserted", 2),
          updated: aMark("updated", 2),
          deleted: aMark("deleted", 2),
          "WAL bytes": aMark("walBytes", 0),
        }
      : {}),
    "send p50, ms": typical((it) => it.sendP50Ms, 1),
    "p99, ms": typical((it) => it.sendP99Ms, 1),
    "mark p50, ms ": typical((it) => it.markP50Ms, 1),
    "p99, ms ": typical((it) => it.markP99Ms, 1),
  };
}
