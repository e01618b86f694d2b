/**
 * A soak: mixed traffic that comes, goes, edits and calls, for an hour or as long as you say, and whether anything grows with it: memory, descriptors,
 * threads, rows of tables, and how long ordinary users wait. The traffic is the checker's, which fails the run where a promise is broken.
 */
import { Database } from "bun:sqlite";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { migrateStorage } from "../src/storage/migrate.ts";
import { checkedSettings } from "../test/support/checker/settings.ts";
import { runSql, startPostgres } from "../test/support/postgres.ts";
import { startRedis } from "../test/support/redis.ts";
import { type Service, startService } from "../test/support/service.ts";
import { count, duration, oneOf, readOptions, time } from "./support/command-line.ts";
import { growthOf } from "./support/growth.ts";
import { present, type Row, startProgram } from "./support/measured.ts";
import type { Waited } from "./support/ordinary.ts";

const values = readOptions({
  minutes: time("minutes", 60),
  storage: oneOf(["sqlite", "postgres"], "One node, or nodes with PostgreSQL and Redis."),
  nodes: count(3),
  users: count(12, { least: 2, says: "Of the traffic that comes and goes; each round has other ones." }),
  retention: duration("5m", {
    leastMs: 1,
    says: "Short, so that what is kept for so long has reached its size early in the run.",
  }),
  seed: count(1, { least: 0 }),
});
const ordinaryUsers = 20;
const sampleMs = 10_000;
const roundSeconds = 45;
const checker = resolve(import.meta.dir, "../test/support/checker/main.ts");

interface Soaked {
  services: Service[];
  /** How many rows each table has. */
  rows(): Promise<[table: string, count: number][]>;
  stop(): Promise<void>;
}

const soaked = values.storage === "postgres" ? await startCluster() : await startAlone();
const ordinary = startProgram([
  "ordinary.ts",
  JSON.stringify({ port: soaked.services[0]!.port, users: ordinaryUsers }),
]);
const startedAt = performance.now();
const minutesSoFar = () => (performance.now() - startedAt) / 60_000;
const samples: Row[] = [];
let violations = 0;
try {
  await ordinary.next();
  const traffic = keepTraffic();
  while (minutesSoFar() < values.minutes) samples.push(await sample());
  await traffic;
} finally {
  ordinary.child.kill();
  await soaked.stop();
}
const growth = growthOf(samples);
present(`soak-${values.storage}`, samples, growth);
console.table(growth);
console.log(violations === 0 ? "no promise was broken" : `${violations} rounds of traffic found a promise broken`);
process.exit(violations === 0 ? undefined : 1);

async function startAlone(): Promise<Soaked> {
  const service = await startService({ settings: { ...checkedSettings, LOG__RETENTION: values.retention } });
  const database = new Database(join(service.folder, "data/ws-service.db"), { readonly: true });
  const tables = database.query("SELECT name FROM sqlite_master WHERE type = 'table'").all() as { name: string }[];
  return {
    services: [service],
    async rows() {
      const count = (table: string) =>
        (database.query(`SELECT count(*) AS n FROM "${table}"`).get() as { n: number }).n;
      return tables.map(({ name }) => [name, count(name)]);
    },
    async stop() {
      database.close();
      await service.stop();
    },
  };
}

async function startCluster(): Promise<Soaked> {
  const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  const url = await postgres.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 5_000 });
  const settings = { ...checkedSettings, LOG__RETENTION: values.retention, STORAGE__URL: url, CLUSTER__URL: redis.url };
  const services = await Promise.all(Array.from({ length: values.nodes }, () => startService({ settings })));
  const tables = await runSql(
    url,
    "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'ws'",
  );
  const counts = tables
    .map(({ name }) => `SELECT '${name}' AS name, count(*) AS n FROM ws."${name}"`)
    .join(" UNION ALL ");
  return {
    services,
    rows: async () => (await runSql(url, counts)).map(({ name, n }) => [String(name), Number(n)]),
    async stop() {
      await Promise.all(services.map((each) => each.stop()));
      await Promise.all([postgres.stop(), redis.stop()]);
    },
  };
}

/** Populations one after another, each with its own users and conversations, and its own choices. */
async function keepTraffic(): Promise<void> {
  const urls = soaked.services.flatMap(({ url }) => ["--url", url]);
  const roundMinutes = roundSeconds / 60;
  for (let seed = values.seed; minutesSoFar() + roundMinutes < values.minutes; seed++) {
    // Without its backend: that reads what was missed from the begin of the log, which is rightly gone.
    const options = ["--seed", String(seed), "--seconds", String(roundSeconds), "--users", String(values.users)];
    const round = Bun.spawn([process.execPath, checker, ...urls, ...options], { stdout: "pipe", stderr: "inherit" });
    const said = await round.stdout.text();
    if ((await round.exited) === 0) continue;
    violations++;
    console.error(said);
  }
}

/** Measures ordinary users for a while, and then how large everything is. */
async function sample(): Promise<Row> {
  ordinary.child.stdin.write(`${JSON.stringify({ forMs: sampleMs })}\n`);
  ordinary.child.stdin.flush();
  const { p50Ms, p99Ms } = (await ordinary.next()) as Waited;
  const of = (figure: (pid: number) => number) => Math.max(...soaked.services.map(({ pid }) => figure(pid)));
  const rows = await soaked.rows();
  return {
    minutes: minutesSoFar().toFixed(2),
    "memory MiB": of((pid) => Math.round(Number(statusOf(pid, "VmRSS")) / 1_024)),
    descriptors: of((pid) => readdirSync(`/proc/${pid}/fd`).length),
    threads: of((pid) => Number(statusOf(pid, "Threads"))),
    "p50 ms": p50Ms.toFixed(2),
    "p99 ms": p99Ms.toFixed(2),
    ...Object.fromEntries(rows.map(([table, count]) => [`rows: ${table}`, count])),
  };
}

function statusOf(pid: number, name: string): string {
  return new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]!;
}
