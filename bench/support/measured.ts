/** Both sides of a measurement: a server that reports itself when asked, and the bench that asks it. */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { basename, join, resolve } from "node:path";
import { linesOf } from "../../test/support/lines.ts";
import { LoopLag } from "./loop-lag.ts";

export interface Report {
  /** Bytes of memory that the process has resident, after a full garbage collection. */
  rss: number;
  /** Seconds of CPU of all its threads since it started. */
  cpuSeconds: number;
  /** How late the event loop was since it was last asked for, in ms; only where it was asked for. */
  lag?: { p99: number; most: number };
}

/** In the server: says where it listens and what else is to be known, then answers each line on standard input with a report. */
export function answerMeasurements(port: number, known: Record<string, number | string> = {}): void {
  console.log(JSON.stringify({ port, known }));
  const loopLag = new LoopLag();
  const cpuSeconds = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  };
  void (async () => {
    for await (const line of console) {
      const before = cpuSeconds();
      // Asked for memory: what is garbage does not count.
      if (line === "memory") for (let round = 0; round < 3; round++) Bun.gc(true);
      const lag = line === "lag" ? loopLag.take() : undefined;
      console.log(JSON.stringify({ rss: process.memoryUsage.rss(), cpuSeconds: before, lag }));
    }
    process.exit(0);
  })();
}

export interface MeasuredProcess {
  port: number;
  /** Said by the server of itself at its start. */
  known: Record<string, number | string>;
  report(what: "cpu" | "memory" | "lag"): Promise<Report>;
  stop(): Promise<void>;
}

/** In the bench: starts a server of this folder. */
export async function startMeasured(program: string, env: Record<string, string> = {}): Promise<MeasuredProcess> {
  const { child, next } = startProgram([program], env);
  const { port, known } = (await next()) as { port: number; known: Record<string, number | string> };
  return {
    port,
    known,
    report(what) {
      child.stdin.write(`${what}\n`);
      child.stdin.flush();
      return next() as Promise<Report>;
    },
    async stop() {
      child.kill("SIGTERM");
      await child.exited;
    },
  };
}

/** Starts a program that speaks in lines of JSON. */
export function startProgram(args: string[], env: Record<string, string> = {}) {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, args[0]!), ...args.slice(1)], {
    env: { PATH: process.env.PATH ?? "", ...env },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const lines = linesOf(child.stdout);
  const next = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${args[0]} ended`);
    return JSON.parse(value);
  };
  return { child, next };
}

export type Row = Record<string, string | number>;

/** A measurement as it is kept: of which build, on which machine, by which command. */
export interface Kept {
  at: string;
  command: string;
  commit: string;
  bun: string;
  machine: string;
  /** Of the last minute at its end, with the measurement's own. */
  load: number;
  rows: Row[];
}

export const resultsFolder = resolve(import.meta.dir, "../results");

/** Says what a table of results has that is no result; null: nothing. */
export function senselessIn(rows: Row[]): string | null {
  if (rows.length === 0) return "it has no rows";
  // JSON keeps what is not finite as null.
  for (const row of rows)
    for (const [column, cell] of Object.entries(row))
      if (cell === null || /\b(?:NaN|Infinity|undefined)\b/.test(String(cell)))
        return `"${column}" is ${cell} in a row`;
  return null;
}

/** @returns rows without the columns that are empty in all of them, as those of a peer that did not run */
export function withoutEmpty(rows: Row[]): Row[] {
  const filled = new Set(rows.flatMap((row) => Object.keys(row).filter((column) => row[column] !== "")));
  return rows.map((row) => Object.fromEntries(Object.entries(row).filter(([column]) => filled.has(column))));
}

/**
 * Prints a table and keeps the same rows as `bench/results/<name>.json`; those that make no sense fail the bench,
 * and what was kept before stays. So do those of which nothing sensible can be derived.
 */
export function present(name: string, all: Row[], derived: Row[] = all): void {
  const rows = withoutEmpty(all);
  console.table(rows);
  const senseless = senselessIn(rows) ?? senselessIn(derived);
  if (senseless !== null) {
    console.error(`${name}: ${senseless}; bench/results/${name}.json is left as it was`);
    process.exitCode = 1;
    return;
  }
  mkdirSync(resultsFolder, { recursive: true });
  const { stdout } = Bun.spawnSync(["git", "describe", "--always", "--dirty"], { cwd: import.meta.dir });
  const [processor] = cpus();
  const kept: Kept = {
    at: new Date().toISOString(),
    command: ["npm run bench --", basename(process.argv[1]!, ".ts"), ...process.argv.slice(2)].join(" "),
    commit: stdout.toString().trim(),
    bun: Bun.version,
    machine: `${cpus().length} × ${processor!.model}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    load: Math.round(loadavg()[0]! * 10) / 10,
    rows,
  };
  writeFileSync(join(resultsFolder, `${name}.json`), `${JSON.stringify(kept, null, 2)}\n`);
  console.log(`written to bench/results/${name}.json`);
}
