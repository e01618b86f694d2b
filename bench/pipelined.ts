/** Pipelining: one service socket that publishes without waiting beside ten of them with as many unanswered in all [ENV7]. */
import { join } from "node:path";
import { migrateStorage } from "../src/storage/migrate.ts";
import { freePorts } from "../test/support/free-ports.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { readOptions } from "./support/command-line.ts";
import { present, startMeasured, startProgram } from "./support/measured.ts";
import type { Published, PublishingRound } from "./support/pipelining.ts";
import { median } from "./support/statistics.ts";
import { temporaryFolder } from "./support/temporary.ts";

readOptions({});

const forMs = 1_500;
const rounds = 5;
/** Publications that are unanswered at once, over all sockets. */
const unansweredInAll = 500;
/** Of the rate of ten sockets. */
const aim = 0.9;

interface Load {
  name: string;
  sockets: number;
  unanswered: number;
}

const loads: Load[] = [
  { name: "one, waiting", sockets: 1, unanswered: 1 },
  { name: "one", sockets: 1, unanswered: unansweredInAll },
  { name: "ten", sockets: 10, unanswered: unansweredInAll / 10 },
];

interface Measured extends Published {
  perSecond: number;
  batch: number;
  cpu: number;
}

const postgres = await startPostgres();
const folder = temporaryFolder("ws-pipelined");
try {
  const url = await postgres.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 5_000 });
  const onSqlite = await measure("SQLite", `sqlite:${join(folder, "service.db")}`);
  const onPostgres = await measure("PostgreSQL", url);
  present("pipelined", [...onSqlite, ...onPostgres]);
} finally {
  await postgres.stop();
}

async function measure(engine: string, url: string): Promise<Record<string, string | number>[]> {
  const [operationsPort] = await freePorts(1);
  const service = await startMeasured("service.ts", {
    WS__STORAGE__URL: url,
    WS__OPERATIONS__LISTEN: `127.0.0.1:${operationsPort}`,
  });
  const program = startProgram(["pipelining.ts", JSON.stringify({ port: service.port, connections: 10 })]);
  await program.next();
  const publish = ({ sockets, unanswered }: Load) => {
    program.child.stdin.write(`${JSON.stringify({ sockets, unanswered, forMs } satisfies PublishingRound)}\n`);
    program.child.stdin.flush();
    return program.next() as Promise<Published>;
  };
  // Once before: plans are known, code is compiled.
  await publish(loads.at(-1)!);
  const measured = loads.map((): Measured[] => []);
  // In turns, so that a noisy neighbour meets all of them.
  for (let round = 0; round < rounds; round++) {
    for (const [index, load] of loads.entries()) {
      const before = await state();
      const published = await publish(load);
      const after = await state();
      measured[index]!.push({
        ...published,
        perSecond: (published.acked * 1_000) / published.tookMs,
        batch: (after.events - before.events) / (after.batches - before.batches),
        cpu: ((after.cpu - before.cpu) * 1e6) / published.acked,
      });
    }
  }
  program.child.kill();
  await Promise.all([program.child.exited, service.stop()]);
  const ten = measured.at(-1)!;
  return loads.map(({ name, unanswered }, index) => {
    const own = measured[index]!;
    const typical = (value: (one: Measured) => number) => median(own.map(value));
    const ratios = (value: (one: Measured) => number) => own.map((one, round) => value(one) / value(ten[round]!));
    const rates = ratios(({ perSecond }) => perSecond);
    return {
      engine,
      sockets: name,
      "unanswered each": unanswered,
      "events a batch": Math.round(typical((it) => it.batch)),
      "acked/s": Math.round(typical((it) => it.perSecond)),
      "p50 ms": typical((it) => it.p50Ms).toFixed(1),
      "p99 ms": typical((it) => it.p99Ms).toFixed(1),
      "CPU µs/publish": Math.round(typical((it) => it.cpu)),
      "rate to ten": median(rates).toFixed(2),
      "least–most": `${Math.min(...rates).toFixed(2)}–${Math.max(...rates).toFixed(2)}`,
      "CPU to ten": median(ratios(({ cpu }) => cpu)).toFixed(2),
      [`${aim * 100} %`]: median(rates) >= aim ? "yes" : "no",
    };
  });

  async function state() {
    const [{ cpuSeconds }, metrics] = await Promise.all([
      service.report("cpu"),
      fetch(`http://127.0.0.1:${operationsPort}/metrics`).then((response) => response.text()),
    ]);
    const counted = (name: string) =>
      Number(new RegExp(`^ws_append_batch_events_${name} (\\d+)`, "m").exec(metrics)![1]);
    return { cpu: cpuSeconds, events: counted("sum"), batches: counted("count") };
  }
}
