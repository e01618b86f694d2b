/**
 * Durable sending: acknowledged `message.send` through the service, beside the bare append statement with batches as large;
 * or, with `--nodes`, what up to so many publishers append to one PostgreSQL beside what one does.
 */
import { join } from "node:path";
import { parseDuration } from "../src/config/values.ts";
import { migrateStorage } from "../src/storage/migrate.ts";
import { freePorts } from "../test/support/free-ports.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { type BareAppend, bareAppendPostgres, bareAppendSqlite } from "./support/bare-append.ts";
import { count, duration, flag, optional, readOptions } from "./support/command-line.ts";
import { present, startMeasured, startProgram } from "./support/measured.ts";
import { measureParallel } from "./support/parallel.ts";
import { cpuSecondsOf } from "./support/process-cpu.ts";
import type { Round, Sent } from "./support/senders.ts";
import { median } from "./support/statistics.ts";
import { temporaryFolder } from "./support/temporary.ts";

const values = readOptions({
  nodes: optional(count(1, { says: "Publishers at most: --nodes 16 measures 1, 4 and 16." })),
  "commit-delay": duration("0ms", { says: "Makes PostgreSQL wait so long at each commit." }),
  "snapshot-held": flag("Another session holds a snapshot for two minutes of load."),
  zipf: flag("Conversations are drawn by Zipf's law instead of all alike."),
  conversations: count(1_000),
  senders: count(10, { says: "Of each publisher." }),
  first: flag("Measures the first release's append in turns."),
});
if (values.nodes !== undefined) {
  await measureParallel({
    publishers: values.nodes,
    senders: values.senders,
    count: values.conversations,
    zipf: values.zipf,
    commitDelayMs: parseDuration(values["commit-delay"])!,
    snapshotHeld: values["snapshot-held"],
    withFirst: values.first,
  });
  process.exit();
}

const loads = [1, 50, 500, 2_000];
const rounds = 5;
const forMs = 1_500;
/** Of the bare rate, where there are enough senders to fill batches. */
const aim = 0.6;

interface Engine {
  name: string;
  url: string;
  bare: BareAppend;
  /** Seconds of CPU of the engine's own processes that serve the service; null: it runs inside the service. */
  cpuSeconds(): Promise<number | null>;
}

interface Measured extends Sent {
  batch: number;
  perSecond: number;
  bare: number;
  ratio: number;
  serviceCpu: number;
  engineCpu: number;
  clientCpu: number;
}

const postgres = await startPostgres();
const folder = temporaryFolder("ws-durable");
try {
  const [url, bareUrl] = [await postgres.newDatabase(), await postgres.newDatabase()];
  for (const each of [url, bareUrl]) await migrateStorage({ url: each, lockTimeoutMs: 5_000 });
  const onPostgres = await measure({
    name: "PostgreSQL",
    url,
    bare: bareAppendPostgres(bareUrl),
    cpuSeconds: async () => {
      const backends = await postgres.run("SELECT pid FROM pg_stat_activity WHERE application_name = 'ws-service'");
      return backends.reduce((sum, { pid }) => sum + cpuSecondsOf(Number(pid)), 0);
    },
  });
  const onSqlite = await measure({
    name: "SQLite",
    url: `sqlite:${join(folder, "service.db")}`,
    bare: bareAppendSqlite(join(folder, "bare.db")),
    cpuSeconds: async () => null,
  });
  present("durable", [...onPostgres, ...onSqlite]);
} finally {
  await postgres.stop();
}

async function measure(engine: Engine): Promise<Record<string, string | number>[]> {
  const [operationsPort] = await freePorts(1);
  const service = await startMeasured("service.ts", {
    WS__STORAGE__URL: engine.url,
    WS__OPERATIONS__LISTEN: `127.0.0.1:${operationsPort}`,
  });
  const job = { port: service.port, connections: Math.max(...loads) };
  const program = startProgram(["senders.ts", JSON.stringify(job)]);
  await program.next();
  const send = (round: Round) => {
    program.child.stdin.write(`${JSON.stringify(round)}\n`);
    program.child.stdin.flush();
    return program.next() as Promise<Sent>;
  };
  // Everybody once: memberships are made, plans are known, code is compiled.
  await send({ senders: job.connections, forMs });
  await engine.bare.run({ batch: 500, forMs });
  const rows: Record<string, string | number>[] = [];
  for (const senders of loads) {
    const measured: Measured[] = [];
    // In turns, so that a noisy neighbour meets both.
    for (let round = 0; round < rounds; round++) {
      const before = await state();
      const sent = await send({ senders, forMs });
      const after = await state();
      const batch = (after.events - before.events) / (after.batches - before.batches);
      const perSecond = (sent.acked * 1_000) / sent.tookMs;
      const bare = await engine.bare.run({ batch: Math.round(batch), forMs });
      const cpu = (seconds: number) => (seconds * 1e6) / sent.acked;
      measured.push({
        ...sent,
        batch,
        perSecond,
        bare,
        ratio: perSecond / bare,
        serviceCpu: cpu(after.service - before.service),
        engineCpu: cpu(after.engine - before.engine),
        clientCpu: cpu(sent.cpuSeconds),
      });
    }
    const typical = (value: (one: Measured) => number) => median(measured.map(value));
    const ratios = measured.map(({ ratio }) => ratio);
    rows.push({
      engine: engine.name,
      senders,
      "events a batch": Math.round(typical((it) => it.batch)),
      "acked/s": Math.round(typical((it) => it.perSecond)),
      "p50 ms": typical((it) => it.p50Ms).toFixed(1),
      "p99 ms": typical((it) => it.p99Ms).toFixed(1),
      "bare/s": Math.round(typical((it) => it.bare)),
      ratio: median(ratios).toFixed(2),
      "least–most": `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`,
      [`${aim * 100} %`]: median(ratios) >= aim ? "yes" : "no",
      "CPU µs/event: service": Math.round(typical((it) => it.serviceCpu)),
      "its connections to PostgreSQL": engine.name === "SQLite" ? "" : Math.round(typical((it) => it.engineCpu)),
      "the clients": Math.round(typical((it) => it.clientCpu)),
    });
  }
  program.child.kill();
  await Promise.all([program.child.exited, service.stop(), engine.bare.stop()]);
  return rows;

  async function state() {
    const [{ cpuSeconds }, engineSeconds, metrics] = await Promise.all([
      service.report("cpu"),
      engine.cpuSeconds(),
      fetch(`http://127.0.0.1:${operationsPort}/metrics`).then((response) => response.text()),
    ]);
    const counted = (name: string) =>
      Number(new RegExp(`^ws_append_batch_events_${name} (\\d+)`, "m").exec(metrics)![1]);
    return { service: cpuSeconds, engine: engineSeconds ?? 0, events: counted("sum"), batches: counted("count") };
  }
}
