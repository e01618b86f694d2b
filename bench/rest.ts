/** At rest: what nodes ask of PostgreSQL and Redis every second while nobody does anything; `--connections 3000` are there, each in a room of ten. */
import Redis from "ioredis";
import { Client } from "../test/support/client.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { startRedis } from "../test/support/redis.ts";
import { count, readOptions } from "./support/command-line.ts";
import { type MeasuredProcess, present, startMeasured } from "./support/measured.ts";
import { PostgresMeter, workOfEach } from "./support/postgres-work.ts";

const { connections } = readOptions({ connections: count(0, { least: 0 }) });
const atOnce = 32;

const settleMs = 3_000;
/** A whole number of every interval that the service has. */
const watchedMs = 30_000;

const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
const client = new Redis(redis.url);
const meter = await PostgresMeter.of(postgres);
const nodes: MeasuredProcess[] = [];
try {
  const url = await postgres.newDatabase();
  const database = new URL(url).pathname.slice(1);
  const node = () => startMeasured("service.ts", { WS__STORAGE__URL: url, WS__CLUSTER__URL: redis.url });
  const rows = [];
  for (const count of [1, 2]) {
    nodes.push(await node());
    if (count === 1) await connect(nodes[0]!.port);
    await Bun.sleep(settleMs);
    const [before, cpuBefore, worked] = [await asked(), await cpuSeconds(), await meter.read()];
    await Bun.sleep(watchedMs);
    const [work, cpuAfter, after] = [await meter.read(), await cpuSeconds(), await asked()];
    const engine = Object.entries(workOfEach(worked, work, watchedMs / 1_000));
    const perSecond = (amount: number) => Math.round((amount * 10_000) / watchedMs) / 10;
    rows.push({
      nodes: count,
      connections,
      "PostgreSQL transactions/s": perSecond(after.transactions - before.transactions),
      ...Object.fromEntries(engine.map(([what, amount]) => [`${what}/s`, Math.round(amount)])),
      "Redis commands/s": perSecond(after.commands - before.commands),
      "Redis bytes/s in": perSecond(after.bytesIn - before.bytesIn),
      "Redis bytes/s out": perSecond(after.bytesOut - before.bytesOut),
      "CPU % of a core, all nodes": perSecond((cpuAfter - cpuBefore) * 100),
    });
  }
  present("rest", rows);

  async function connect(port: number): Promise<void> {
    const names = Array.from({ length: connections }, (_, index) => index);
    const connectOne = async (index: number) => {
      const query = { user_id: `user-${index}`, device_id: "phone" };
      const client = await Client.connect(`ws://127.0.0.1:${port}/ws`, { query });
      await client.ask("subscribe", { topics: [`conversation:c${Math.floor(index / 10)}`] });
    };
    while (names.length > 0) await Promise.all(names.splice(0, atOnce).map(connectOne));
  }

  async function cpuSeconds(): Promise<number> {
    const reports = await Promise.all(nodes.map((each) => each.report("cpu")));
    return reports.reduce((sum, report) => sum + report.cpuSeconds, 0);
  }

  async function asked() {
    const [row] = await postgres.run(
      `SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = '${database}'`,
    );
    const info = await client.info("stats");
    const figure = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)![1]);
    return {
      transactions: Number(row!.n),
      commands: figure("total_commands_processed"),
      bytesIn: figure("total_net_input_bytes"),
      bytesOut: figure("total_net_output_bytes"),
    };
  }
} finally {
  await Promise.all(nodes.map((each) => each.stop()));
  client.disconnect();
  await meter.close();
  await Promise.all([postgres.stop(), redis.stop()]);
}
