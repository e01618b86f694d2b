/**
 * Measures what repairs and cursors cost one PostgreSQL, by how much is heard on a node and how much moves in the
 * cluster; and how many of its cores 10, 100 and 1,000 such nodes would keep busy.
 */
import postgres from "postgres";
import { Sequencer } from "../src/broadcast/sequencer.ts";
import type { Storage } from "../src/storage/ports.ts";
import { migrate } from "../src/storage/postgres/migrate.ts";
import { createPostgresStorage } from "../src/storage/postgres/storage.ts";
import { createLogSink } from "../src/telemetry/logger.ts";
import { newEvent } from "../test/support/new-event.ts";
import { runSql, startPostgres } from "../test/support/postgres.ts";
import { count, readOptions } from "./support/command-line.ts";
import { present } from "./support/measured.ts";
import { cpuSecondsOf } from "./support/process-cpu.ts";

const { topics, played } = readOptions({
  topics: count(100_000),
  played: count(20, { says: "Nodes that are played, each with a repair of its own." }),
});
/** Topics with an event, of which a node has been told of by the bus, in one second of the cluster. */
const moves = [0, 1_000, 100_000].filter((moved) => moved <= topics);
/** Topics with subscribers on one node. */
const heards = [100, 1_000, 50_000].filter((heard) => heard <= topics);
const flights = [0, 100, 500];
const nodes = [10, 100, 1_000];
const watermarks = 300;

interface Cost {
  tookMs: number;
  engineCpuMs: number;
}

const server = await startPostgres({ settings: ["fsync=off", "max_wal_size=4GB", "max_connections=600"] });
const url = await server.newDatabase();
await migrate({ url, lockTimeoutMs: 5_000 });
const storage = createPostgresStorage({ url, queryTimeoutMs: 60_000 });
await storage.start();
try {
  await addEvents(topics);
  await runSql(url, "VACUUM ANALYZE");
  const rows = [];
  for (const inFlight of flights)
    rows.push(rowOf(`watermark, ${inFlight} appends in flight`, await costOfWatermark(inFlight)));
  for (const moved of moves) {
    for (const heard of heards) {
      const cost = await costOfRepair(storage, { heard, moved });
      rows.push(rowOf(`repair, ${heard} topics heard, ${moved} moved`, cost));
    }
  }
  present("scaling", rows);
} finally {
  await storage.stop();
  await server.stop();
}

/** Each node does it once a second. */
function rowOf(what: string, { tookMs, engineCpuMs }: Cost) {
  const cores = nodes.map((count) => [`cores, ${count} nodes`, ((engineCpuMs * count) / 1_000).toFixed(2)]);
  return {
    what,
    "ms for one": tookMs.toFixed(1),
    "CPU ms of PostgreSQL": engineCpuMs.toFixed(2),
    ...Object.fromEntries(cores),
  };
}

/** One more event on each of the first topics, as many appends would have left them. */
async function addEvents(count: number): Promise<void> {
  await runSql(
    url,
    `INSERT INTO ws.topics (name) SELECT 'conversation:c' || n FROM generate_series(1, ${count}) AS n
      ON CONFLICT (name) DO NOTHING;
    INSERT INTO ws.events (topic_id, position, seq, created_at, id, type, payload)
      SELECT t.topic_id, nextval('ws.positions'), ws.head_seq(t.topic_id) + 1, 1000, gen_random_uuid(), 'message.new',
        '{"content":"' || repeat('hello ', 20) || '"}'
      FROM generate_series(1, ${count}) AS n JOIN ws.topics AS t ON t.name = 'conversation:c' || n ORDER BY random()`,
  );
}

async function costOfWatermark(inFlight: number): Promise<Cost> {
  // Sessions that have drawn their numbers and not committed.
  const sessions = Array.from({ length: inFlight }, () => postgres(url, { max: 1, onnotice: () => {} }));
  for (const [index, sql] of sessions.entries()) {
    await sql.unsafe(`BEGIN; SELECT pg_advisory_xact_lock_shared('ws.positions'::regclass::oid::integer, ${index})`);
  }
  const cost = await measured(watermarks, async () => {
    for (let asked = 0; asked < watermarks; asked++) await storage.log.watermark();
  });
  await Promise.all(sessions.map((sql) => sql.end({ timeout: 1 })));
  return cost;
}

/** The bus has told of everything: a repair finds nothing that is missing, as nearly all do. */
async function costOfRepair({ log }: Storage, { heard, moved }: { heard: number; moved: number }): Promise<Cost> {
  const { logger } = createLogSink({ level: "silent", format: "json" });
  // Of what moves in the cluster each node hears its share.
  const names = Array.from({ length: heard }, (_, n) => `conversation:c${1 + Math.floor((n * topics) / heard)}`);
  const heads = await log.heads(names);
  const sequencers: Sequencer[] = [];
  for (let node = 0; node < played; node++) {
    const sequencer = new Sequencer({
      log,
      publish() {},
      hasSubscribers: () => true,
      logger,
      repairIntervalMs: 2 ** 30,
    });
    await sequencer.start();
    for (const [topic, { seq }] of heads) sequencer.observe(topic, seq);
    sequencers.push(sequencer);
  }
  if (moved > 0) await addEvents(moved);
  for (const [topic, { seq, position }] of await log.heads(names)) {
    if (heads.get(topic)!.seq === seq) continue;
    for (const sequencer of sequencers) sequencer.accept({ ...newEvent(topic), seq, position });
  }
  const cost = await measured(played, async () => {
    for (const sequencer of sequencers) await sequencer.repair();
  });
  for (const sequencer of sequencers) sequencer.stop();
  return cost;
}

async function measured(times: number, work: () => Promise<void>): Promise<Cost> {
  const pids = await runSql(url, "SELECT pid FROM pg_stat_activity WHERE application_name = 'ws-service'");
  const cpu = () => pids.reduce((sum, { pid }) => sum + cpuSecondsOf(Number(pid)), 0);
  const [cpuBefore, startedAt] = [cpu(), performance.now()];
  await work();
  const tookMs = performance.now() - startedAt;
  return { tookMs: tookMs / times, engineCpuMs: ((cpu() - cpuBefore) * 1_000) / times };
}
