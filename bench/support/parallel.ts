/** How appending goes on with more publishers: rounds in turns, and what one alone does as the measure of the others. */
import postgres from "postgres";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { firstSchema } from "../../test/support/first-release.ts";
import { runSql, startPostgres } from "../../test/support/postgres.ts";
import { type ConversationsOptions, drawConversations } from "./conversations.ts";
import { present } from "./measured.ts";
import { cpuSecondsOf } from "./process-cpu.ts";
import { type Design, openPublishers, type Published, type Publishers } from "./publishers.ts";
import { median } from "./statistics.ts";

export interface ParallelOptions extends ConversationsOptions {
  /** The most; fewer are measured beside them. */
  publishers: number;
  /** Senders of each. */
  senders: number;
  /** Makes PostgreSQL wait so long at each commit for others to share it. */
  commitDelayMs: number;
  /** Whether another session holds a snapshot for two minutes of load. */
  snapshotHeld: boolean;
  /** Whether the first release's functions are measured in turns with this build's. */
  withFirst: boolean;
}

interface Side {
  design: Design;
  url: string;
  publishers: Publishers;
}

interface Round extends Published {
  serviceCpu: number;
  engineCpu: number;
}

const roundMs = 2_500;
const rounds = 5;
/** Of load of each design while the snapshot is held. */
const heldMs = 120_000;
/** Rounds of which the median stands for how it was before, and how it is at the end. */
const compared = 3;

export async function measureParallel(options: ParallelOptions): Promise<void> {
  const { commitDelayMs } = options;
  // Of this server alone: in a database of somebody else's neither may be set.
  const server = await startPostgres({ settings: [`commit_delay=${commitDelayMs * 1_000}`, "commit_siblings=0"] });
  const sides: Side[] = [];
  try {
    const designs: Design[] = options.withFirst ? ["0.1", "now"] : ["now"];
    for (const design of designs) {
      const url = await server.newDatabase();
      if (design === "0.1") await runSql(url, firstSchema("ws"));
      else await migrateStorage({ url, lockTimeoutMs: 5_000 });
      const nextConversation = drawConversations(options);
      sides.push({ design, url, publishers: await openPublishers({ ...options, design, url, nextConversation }) });
    }
    const counts = countsUpTo(options.publishers);
    for (const { publishers } of sides) {
      for (const count of counts) await publishers.run({ publishers: count, forMs: roundMs });
    }
    const table = options.snapshotHeld ? await beforeAndUnderSnapshot(sides, counts) : await inTurns(sides, counts);
    present("durable-publishers", table);
  } finally {
    for (const { publishers } of sides) await publishers.stop();
    await server.stop();
  }
}

/** One, and four times as many up to the most. */
function countsUpTo(most: number): number[] {
  const counts: number[] = [];
  for (let count = 1; count < most; count *= 4) counts.push(count);
  return [...counts, most];
}

const figures = (of: Round[]) => {
  const typical = (value: (one: Round) => number) => median(of.map(value));
  return {
    perSecond: typical((it) => it.perSecond),
    p50Ms: typical((it) => it.p50Ms),
    p99Ms: typical((it) => it.p99Ms),
    batch: typical((it) => it.acked / it.batches),
    serviceCpu: typical((it) => it.serviceCpu),
    engineCpu: typical((it) => it.engineCpu),
  };
};

async function inTurns(sides: Side[], counts: number[]) {
  const measured = await playRounds(sides, counts, rounds);
  return sides.flatMap(({ design }) => {
    const one = figures(measured(design, 1));
    return counts.map((count) => {
      const it = figures(measured(design, count));
      return {
        design,
        publishers: count,
        "acked/s": Math.round(it.perSecond),
        "times one": (it.perSecond / one.perSecond).toFixed(1),
        "p50 ms": it.p50Ms.toFixed(1),
        "times its p50": (it.p50Ms / one.p50Ms).toFixed(2),
        "p99 ms": it.p99Ms.toFixed(1),
        "events a batch": it.batch.toFixed(1),
        "CPU µs/event: publishers": Math.round(it.serviceCpu),
        "their connections to PostgreSQL": Math.round(it.engineCpu),
      };
    });
  });
}

async function beforeAndUnderSnapshot(sides: Side[], counts: number[]) {
  const before = await playRounds(sides, counts, compared);
  const holders = await Promise.all(sides.map(({ url }) => holdSnapshot(url)));
  const held = await playRounds(sides, counts, Math.ceil(heldMs / (roundMs * counts.length)));
  await Promise.all(holders.map((release) => release()));
  return sides.flatMap(({ design }) =>
    counts.map((count) => {
      const [without, atTheEnd] = [figures(before(design, count)), figures(held(design, count).slice(-compared))];
      return {
        design,
        publishers: count,
        "acked/s without": Math.round(without.perSecond),
        "acked/s at its end": Math.round(atTheEnd.perSecond),
        slower: (without.perSecond / atTheEnd.perSecond).toFixed(2),
        "p50 ms without": without.p50Ms.toFixed(1),
        "p50 ms at its end": atTheEnd.p50Ms.toFixed(1),
        "p99 ms without": without.p99Ms.toFixed(1),
        "p99 ms at its end": atTheEnd.p99Ms.toFixed(1),
      };
    }),
  );
}

/** In turns, so that a noisy neighbour meets all. @returns the rounds of one design with so many publishers */
async function playRounds(sides: Side[], counts: number[], times: number) {
  const played = new Map<string, Round[]>();
  for (let round = 0; round < times; round++) {
    for (const publishers of counts) {
      for (const side of sides) {
        const name = `${side.design} ${publishers}`;
        played.set(name, [...(played.get(name) ?? []), await play(side, publishers)]);
      }
    }
  }
  return (design: Design, publishers: number) => played.get(`${design} ${publishers}`)!;
}

async function play({ url, publishers }: Side, count: number): Promise<Round> {
  const pids = (await runSql(url, sessions)).map(({ pid }) => Number(pid));
  const cpu = () => ({
    service: process.cpuUsage(),
    engine: pids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0),
  });
  const before = cpu();
  const published = await publishers.run({ publishers: count, forMs: roundMs });
  const after = cpu();
  const used = after.service.user + after.service.system - before.service.user - before.service.system;
  return {
    ...published,
    serviceCpu: used / published.acked,
    engineCpu: ((after.engine - before.engine) * 1e6) / published.acked,
  };
}

const sessions = `SELECT pid FROM pg_stat_activity
  WHERE application_name = 'ws-service' AND datname = current_database()`;

/** As a dump, or a session that somebody has forgotten, would. @returns lets it go */
async function holdSnapshot(url: string): Promise<() => Promise<void>> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  await sql.unsafe("BEGIN ISOLATION LEVEL REPEATABLE READ");
  await sql.unsafe("SELECT count(*) FROM ws.topics");
  return () => sql.end();
}
