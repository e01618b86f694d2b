/** At rest: what one node asks of PostgreSQL and Redis every second while nobody does anything. */
import Redis from "ioredis";
import { startPostgres } from "../test/support/postgres.ts";
import { startRedis } from "../test/support/redis.ts";
import { type MeasuredProcess, present, startMeasured } from "./support/measured.ts";

const settleMs = 3_000;
/** A whole number of every interval that the service has. */
const watchedMs = 30_000;

const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
const client = new Redis(redis.url);
const nodes: MeasuredProcess[] = [];
try {
  const url = await postgres.newDatabase();
  const database = new URL(url).pathname.slice(1);
  const node = () => startMeasured("service.ts", { WS__STORAGE__URL: url, WS__CLUSTER__URL: redis.url });
  const rows = [];
  for (const count of [1, 2]) {
    nodes.push(await node());
    await Bun.sleep(settleMs);
    const [before, cpuBefore] = [await asked(), await cpuSeconds()];
    await Bun.sleep(watchedMs);
    const [after, cpuAfter] = [await asked(), await cpuSeconds()];
    const perSecond = (amount: number) => Math.round((amount * 10_000) / watchedMs) / 10;
    rows.push({
      nodes: count,
      connections: 0,
      "PostgreSQL transactions/s": perSecond(after.transactions - before.transactions),
      "Redis commands/s": perSecond(after.commands - before.commands),
      "Redis bytes/s in": perSecond(after.bytesIn - before.bytesIn),
      "Redis bytes/s out": perSecond(after.bytesOut - before.bytesOut),
      "CPU % of a core, all nodes": perSecond((cpuAfter - cpuBefore) * 100),
    });
  }
  present("rest", rows);

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
  await Promise.all([postgres.stop(), redis.stop()]);
}
