/** Many connections, in steps: what each takes of the service's own memory, of the kernel's and of a processor, over one process or several. */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pages } from "../src/ground/pages.ts";
import { freePorts } from "../test/support/free-ports.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { startRedis } from "../test/support/redis.ts";
import { secret } from "./peers/token.ts";
import { count, refuse, time } from "./support/command-line.ts";
import { options, parameters } from "./support/comparison.ts";
import { fillStorage } from "./support/filling.ts";
import type { Connected } from "./support/load.ts";
import { present, type Row, startProgram } from "./support/measured.ts";
import { cpuSecondsOf } from "./support/process-cpu.ts";
import { temporaryFolder } from "./support/temporary.ts";

// A process may open 20,000 files on an ordinary machine: the service each of its sockets, and so do the programs of the clients.
const clientsPerProgram = 19_500;
/** Have code compiled, and are of no row. */
const firstOnes = 200;
const { clients, steps, workers, settle } = parameters(
  { clients: count(19_000), steps: count(4), workers: count(1), settle: time("seconds", 6, { least: 0 }) },
  ["program"],
);
if (steps > clients) refuse(`--steps ${steps}: there are only ${clients} clients`);

// An address has ports for some 28,000 connections to another one. More are to several of the loopback's, so that the service listens
// to all addresses there are: in a network of its own, which has nothing else.
const needsMore = clients > clientsPerProgram;
if (needsMore && process.env.OWN_NETWORK === undefined) process.exit(await playedInOwnNetwork());

const folder = temporaryFolder("ws-service-many");
const [port] = (await freePorts(1)) as [number];
const isCluster = workers > 1;
const engines = isCluster ? { postgres: await startPostgres(), redis: await startRedis() } : null;
const storage = engines === null ? `sqlite:${join(folder, "service.db")}` : await engines.postgres.newDatabase();
const roomSize = 10;
// They have been here before: to come for the first time is work of its own, and told to every process.
await fillStorage(storage, async ({ directory }) => {
  const rooms = Array.from({ length: Math.ceil((firstOnes + clients) / roomSize) }, (_, room) => room);
  const members = (room: number) => Array.from({ length: roomSize }, (_, nth) => `subscriber-${room * roomSize + nth}`);
  for (const some of pages(rooms, 50)) {
    await directory.upsertUsers(some.flatMap(members));
    await Promise.all(some.map((room) => directory.addMembers(`r${room}`, members(room))));
  }
});
const service = Bun.spawn(
  [
    ...(options.program === undefined
      ? [process.execPath, resolve(import.meta.dir, "../src/main.ts")]
      : [resolve(options.program)]),
    "serve",
    ...(isCluster ? ["--workers", String(workers)] : []),
  ],
  {
    cwd: folder,
    env: {
      PATH: process.env.PATH ?? "",
      HOME: folder,
      WS__SERVER__PORT: String(port),
      ...(needsMore ? { WS__SERVER__HOST: "0.0.0.0", WS__DIRECTORY__OPEN_TO_ALL: "true" } : {}),
      WS__STORAGE__URL: storage,
      ...(engines === null ? {} : { WS__CLUSTER__URL: engines.redis.url }),
      WS__AUTH__MODE: "token",
      WS__AUTH__SECRET: secret,
      WS__RATE_LIMITS__ENABLED: "false",
      WS__LOG__LEVEL: "error",
      WS__SERVER__DRAIN_WINDOW: "0s",
    },
    stdout: "ignore",
    stderr: "inherit",
  },
);
type Program = ReturnType<typeof startProgram> & { /** Clients that it may still connect. */ room: number };
const programs: Program[] = [];
try {
  await untilReady();
  present(isCluster ? "many-workers" : "many", await grow());
} finally {
  for (const child of [service, ...programs.map((each) => each.child)]) child.kill("SIGTERM");
  await Promise.all([service.exited, ...programs.map((each) => each.child.exited)]);
  await engines?.redis.stop();
  await engines?.postgres.stop();
}

/** @returns with which code it has ended */
function playedInOwnNetwork(): Promise<number> {
  const within = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", process.execPath, ...process.argv.slice(1)];
  const env = { ...process.env, OWN_NETWORK: "1" };
  return Bun.spawn(["unshare", "--net", ...within], { env, stdio: ["inherit", "inherit", "inherit"] }).exited;
}

async function grow(): Promise<Row[]> {
  await connect(firstOnes);
  let connected = firstOnes;
  let before = await measure();
  const rows: Row[] = [];
  for (let step = 0; step < steps; step++) {
    const more = Math.round(clients / steps);
    const readyMs = await connect(more);
    const after = await measure();
    connected += more;
    const each = (of: (one: Measured) => number) => (of(after) - of(before)) / more;
    rows.push({
      connections: connected,
      "memory MiB": Math.round(after.memoryBytes / 2 ** 20),
      "KiB/further connection": (each((it) => it.memoryBytes) / 1_024).toFixed(1),
      "kernel KiB": (each((it) => it.kernelBytes) / 2 / 1_024).toFixed(1),
      "CPU µs": Math.round(each((it) => it.cpuSeconds) * 1e6),
      "ready p50 ms": readyMs.toFixed(0),
      "most in a process": Math.max(...after.files),
    });
    before = after;
    // It takes minutes, and may end before its last step.
    console.error(JSON.stringify(rows.at(-1)));
  }
  return rows;
}

/** By programs of which none has too many, each at an address of its own. @returns how long half of them took at most, ms */
async function connect(count: number): Promise<number> {
  const took: number[] = [];
  for (let left = count; left > 0; ) {
    const program = await programWithRoom();
    const some = Math.min(left, program.room);
    program.room -= some;
    left -= some;
    const rooms = { each: 1, size: roomSize };
    program.child.stdin.write(`${JSON.stringify({ do: "connect", as: "subscriber", count: some, rooms })}\n`);
    program.child.stdin.flush();
    took.push(((await program.next()) as Connected).ready.p50Ms);
  }
  await Bun.sleep(settle * 1_000);
  return Math.max(...took);
}

async function programWithRoom(): Promise<Program> {
  const last = programs.at(-1);
  if (last !== undefined && last.room > 0) return last;
  const [nth, room] = [programs.length, clientsPerProgram];
  const at = { port, dialect: "service", host: `127.0.0.${nth + 1}`, first: nth * room };
  const program = { ...startProgram(["load.ts", JSON.stringify(at)]), room };
  programs.push(program);
  await program.next();
  return program;
}

interface Measured {
  /** Of the service's processes; what they share counts once. */
  memoryBytes: number;
  /** Kept by the kernel, for the clients' ends of the sockets as well. */
  kernelBytes: number;
  cpuSeconds: number;
  /** Open in each of the processes. */
  files: number[];
}

async function measure(): Promise<Measured> {
  const pids = [service.pid, ...childrenOf(service.pid)];
  const pss = (pid: number) => numberIn(`/proc/${pid}/smaps_rollup`, /^Pss:\s+(\d+) kB$/m) * 1_024;
  const sum = (values: number[]) => values.reduce((all, each) => all + each, 0);
  return {
    memoryBytes: sum(pids.map(pss)),
    kernelBytes: numberIn("/proc/meminfo", /^SUnreclaim:\s+(\d+) kB$/m) * 1_024,
    cpuSeconds: sum(pids.map(cpuSecondsOf)),
    files: pids.map((pid) => readdirSync(`/proc/${pid}/fd`).length),
  };
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
}

function numberIn(file: string, pattern: RegExp): number {
  return Number(pattern.exec(readFileSync(file, "utf8"))![1]);
}

async function untilReady(): Promise<void> {
  const isReady = () =>
    fetch(`http://127.0.0.1:${port}/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  while (!(await isReady())) {
    if (service.exitCode !== null) throw new Error("the service has ended");
    await Bun.sleep(20);
  }
}
