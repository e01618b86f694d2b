/**
 * Receipts: groups in which every member marks every message of the others as delivered (`--marks no`: they only hear it; `--marks back`: all
 * but one come back to what they have missed in three groups); what a message, or a member that comes back, costs the service and PostgreSQL.
 * Beside Tinode where PEERS=<folder> has its programs, and with `--first <folder>` beside another build's sources, in turns.
 */
import { existsSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { freePorts } from "../test/support/free-ports.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { secret } from "./peers/token.ts";
import { count, existingFolder, oneOf, optional, readOptions, someOf, time } from "./support/command-line.ts";
import type { GroupDialect } from "./support/group-members.ts";
import type { MarkedRound, MarkersJob, ReturnedRound } from "./support/markers.ts";
import { present, type Row, startProgram } from "./support/measured.ts";
import { cpuSecondsOf } from "./support/process-cpu.ts";
import { startFromSources } from "./support/sources.ts";
import { median } from "./support/statistics.ts";
import { temporaryFolder } from "./support/temporary.ts";

const values = readOptions({
  first: existingFolder("Where another build is checked out, with its dependencies."),
  groups: count(50),
  members: count(10, { least: 2 }),
  rate: count(40, { says: "Messages a second, over all groups." }),
  unanswered: optional(count(1, { says: "In the place of a rate: as fast as it goes with so many unanswered." })),
  seconds: time("seconds", 8),
  rounds: count(3),
  engines: someOf(["PostgreSQL", "SQLite"]),
  marks: oneOf(["yes", "no", "back"], "Whether members mark what they hear; back: they come back to what they missed."),
  missed: count(7, { says: "Of those who come back: messages in each of their three groups." }),
});
const isMarking = values.marks === "yes";
const isReturning = values.marks === "back";
const topics = isReturning ? 3 : 1;
const { groups, members, rate } = values;

const pace: MarkersJob["pace"] = values.unanswered === undefined ? { rate } : { unanswered: values.unanswered };

type Engine = (typeof values.engines)[number];

interface Running {
  dialect: GroupDialect;
  port: number;
  pid: number;
  /** null: its engine is within it. */
  database: string | null;
  stop(): Promise<void>;
}

const peer = (program: string) => join(process.env.PEERS ?? "", program);
const server = await startPostgres({ settings: ["fsync=on"] });
const folder = temporaryFolder("ws-receipts-bench");
async function measure(engine: Engine): Promise<Row[]> {
  const starts = new Map<string, () => Promise<Running>>();
  if (values.first !== undefined) starts.set("first", () => startService(engine, resolve(values.first!)));
  starts.set("service", () => startService(engine, resolve(import.meta.dir, "..")));
  if (engine === "PostgreSQL" && existsSync(peer("tinode"))) starts.set("tinode", startTinode);
  const contenders = await Promise.all([...starts].map(async ([name, start]) => Contender.of(name, await start())));
  try {
    console.error(`${engine}: ${[...starts.keys()].join(", ")} started; warming up`);
    // Everybody once: plans are known, code is compiled.
    for (const each of contenders) await (isReturning ? each.measureReturn() : each.play("3"));
    for (const each of contenders) each.forget();
    for (const each of contenders) await each.countRows();
    // In turns, so that a noisy neighbour meets all.
    for (let round = 0; round < values.rounds; round++) {
      for (const each of contenders) await (isReturning ? each.measureReturn() : each.measure());
      // It takes minutes.
      console.error(`${engine}: round ${round + 1} of ${values.rounds}`);
    }
    for (const each of contenders) await each.countRows();
    return contenders.map((each) => (isReturning ? each.returnRow(engine) : each.row(engine)));
  } finally {
    for (const each of contenders) await each.stop();
  }
}

const settings = { WS__AUTH__MODE: "token", WS__AUTH__SECRET: secret };

async function startService(engine: Engine, root: string): Promise<Running> {
  const url = engine === "SQLite" ? `sqlite:${join(folder, `${crypto.randomUUID()}.db`)}` : await server.newDatabase();
  const { child, port } = await startFromSources({ root, folder, url, settings });
  return {
    dialect: "service",
    port,
    pid: child.pid,
    database: engine === "SQLite" ? null : databaseOf(url),
    stop: () => ended(child),
  };
}

async function startTinode(): Promise<Running> {
  const [port, grpcPort] = (await freePorts(2)) as [number, number];
  const url = new URL(server.url);
  url.pathname = "/tinode";
  url.searchParams.set("sslmode", "disable");
  const adapter = { dsn: url.href, max_open_conns: 50, max_idle_conns: 50, sql_timeout: 10 };
  const config = join(folder, "tinode.json");
  const key = (text: string, bytes: number) => Buffer.from(text.padEnd(bytes, ".")).toString("base64");
  writeFileSync(
    config,
    JSON.stringify({
      listen: `127.0.0.1:${port}`,
      grpc_listen: `127.0.0.1:${grpcPort}`,
      api_path: "/",
      // Of the key that clients show.
      api_key_salt: "T713/rYYgW7g4m3vG6zGRh7+FM1t0T8j13koXScOAj4=",
      max_message_size: 131_072,
      max_subscriber_count: 128,
      max_tag_count: 16,
      push: [],
      auth_config: {
        basic: { min_login_length: 4, min_password_length: 6 },
        token: { expire_in: 1_209_600, serial_num: 1, key: key("token", 32) },
      },
      store_config: { uid_key: key("user", 16), adapters: { postgres: adapter } },
    }),
  );
  const said = { cwd: folder, stdout: "ignore", stderr: "ignore" } as const;
  await Bun.spawn([peer("tinode-init-db"), `--config=${config}`], said).exited;
  const child = Bun.spawn([peer("tinode"), `--config=${config}`, `--static_data=${folder}`], said);
  while (!(await fetch(`http://127.0.0.1:${port}/v0/channels`).catch(() => false))) {
    if (child.exitCode !== null) throw new Error("Tinode has ended");
    await Bun.sleep(20);
  }
  return { dialect: "tinode", port, pid: child.pid, database: "tinode", stop: () => ended(child) };
}

const databaseOf = (url: string) => new URL(url).pathname.slice(1);

async function ended(child: Bun.Subprocess): Promise<void> {
  child.kill();
  await child.exited;
}

const counters = { commits: "xact_commit", inserted: "tup_inserted", updated: "tup_updated", deleted: "tup_deleted" };
type Counts = Record<keyof typeof counters, number>;

interface Spent {
  ownCpu: number;
  engineCpu: number;
  walBytes: number;
}

class Contender {
  #rounds: (MarkedRound & Spent)[] = [];
  #returns: (ReturnedRound & Spent)[] = [];
  readonly #counts: Counts[] = [];

  private constructor(
    readonly name: string,
    private readonly running: Running,
    private readonly clients: ReturnType<typeof startProgram>,
  ) {}

  static async of(name: string, running: Running): Promise<Contender> {
    const { dialect, port } = running;
    const job: MarkersJob = { port, dialect, groups, members, pace, isMarking, topics };
    const clients = startProgram(["markers.ts", JSON.stringify(job)]);
    await clients.next();
    return new Contender(name, running, clients);
  }

  async play<Round = MarkedRound>(words: string): Promise<Round> {
    this.clients.child.stdin.write(`${words}\n`);
    this.clients.child.stdin.flush();
    return (await this.clients.next()) as Round;
  }

  async measure(): Promise<void> {
    this.#rounds.push(await this.#measured(() => this.play(String(values.seconds))));
  }

  async measureReturn(): Promise<void> {
    await this.play(`leave ${values.missed}`);
    this.#returns.push(await this.#measured(() => this.play<ReturnedRound>(`return ${values.missed}`)));
  }

  /** The rounds before were to warm up. */
  forget(): void {
    this.#rounds = [];
    this.#returns = [];
  }

  async #measured<Round>(play: () => Promise<Round>): Promise<Round & Spent> {
    const before = await this.#spent();
    const round = await play();
    const after = await this.#spent();
    const less = (name: keyof Spent) => after[name] - before[name];
    return { ...round, ownCpu: less("ownCpu"), engineCpu: less("engineCpu"), walBytes: less("walBytes") };
  }

  async #spent() {
    const ownCpu = cpuSecondsOf(this.running.pid);
    if (this.running.database === null) return { ownCpu, engineCpu: 0, walBytes: 0 };
    const backends = await server.run(
      `SELECT pid FROM pg_stat_activity WHERE datname = '${this.running.database}' AND pid <> pg_backend_pid()`,
    );
    const engineCpu = backends.reduce((sum, { pid }) => sum + cpuSecondsOf(Number(pid)), 0);
    const [wal] = await server.run("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS bytes");
    return { ownCpu, engineCpu, walBytes: Number(wal!.bytes) };
  }

  /** Before the first round and after the last one. */
  async countRows(): Promise<void> {
    if (this.running.database === null || isReturning) return;
    // A backend that has nothing to do says after ten seconds what it has counted.
    await Bun.sleep(10_500);
    const columns = Object.entries(counters).map(([name, column]) => `${column} AS ${name}`);
    const [row] = await server.run(
      `SELECT ${columns} FROM pg_stat_database WHERE datname = '${this.running.database}'`,
    );
    this.#counts.push(Object.fromEntries(Object.entries(row!).map(([name, n]) => [name, Number(n)])) as Counts);
  }

  returnRow(engine: Engine): Row {
    const typical = (value: (one: ReturnedRound & Spent) => number, digits = 0) =>
      median(this.#returns.map(value)).toFixed(digits);
    return {
      contender: `${this.name}, ${engine}`,
      "CPU µs a client": typical((it) => (it.ownCpu * 1e6) / it.members),
      "PostgreSQL's": this.running.database === null ? "" : typical((it) => (it.engineCpu * 1e6) / it.members),
      "ready p50 ms": typical((it) => it.p50Ms, 1),
      "p99 ms": typical((it) => it.p99Ms, 1),
    };
  }

  row(engine: Engine): Row {
    const rounds = this.#rounds;
    const typical = (value: (one: MarkedRound & Spent) => number, digits = 0) =>
      median(rounds.map(value)).toFixed(digits);
    const messages = rounds.reduce((sum, round) => sum + round.messages, 0);
    const each = (name: keyof Counts) =>
      this.#counts.length === 0 ? "" : ((this.#counts[1]![name] - this.#counts[0]![name]) / messages).toFixed(1);
    const isOutside = this.running.database !== null;
    return {
      contender: `${this.name}, ${engine}`,
      "CPU µs a message": typical((it) => (it.ownCpu * 1e6) / it.messages),
      "PostgreSQL's": isOutside ? typical((it) => (it.engineCpu * 1e6) / it.messages) : "",
      "messages/s": typical((it) => (it.messages * 1_000) / it.tookMs),
      "receipts a message": typical((it) => it.receipts / it.messages, 1),
      ...Object.fromEntries(Object.keys(counters).map((name) => [name, each(name as keyof Counts)])),
      "bytes of WAL": isOutside ? typical((it) => it.walBytes / it.messages) : "",
      "acked p50 ms": typical((it) => it.sendP50Ms, 1),
      "p99 ms": typical((it) => it.sendP99Ms, 1),
      "heard p50 ms": typical((it) => it.heardP50Ms, 1),
      "p99 ms ": typical((it) => it.heardP99Ms, 1),
    };
  }

  async stop(): Promise<void> {
    await ended(this.clients.child);
    await this.running.stop();
  }
}

try {
  const rows: Row[] = [];
  for (const engine of values.engines) rows.push(...(await measure(engine)));
  present(isMarking ? "receipts" : isReturning ? "returns" : "rate" in pace ? "groups" : "groups-at-once", rows);
} finally {
  await server.stop();
}
