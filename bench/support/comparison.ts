/** Plays one scenario with every contender in turns, and presents what each needed beside the others. */
import { migrateStorage } from "../../src/storage/migrate.ts";
import { type PostgresServer, startPostgres } from "../../test/support/postgres.ts";
import {
  count,
  flag,
  type Options,
  oneOf,
  program,
  readOptions,
  refuse,
  text,
  type Values,
  valuesOf,
} from "./command-line.ts";
import { areHere, Contender, type KindName, namesBegunBy } from "./contenders.ts";
import type { Command, Connected, Latency, Published } from "./load.ts";
import { present, type Row } from "./measured.ts";
import { PostgresMeter, workOfEach } from "./postgres-work.ts";
import { profile } from "./profile.ts";
import { median } from "./statistics.ts";

export interface Scenario {
  name: string;
  /** Of which the server's CPU is told, or another gauge of it. */
  unit: string;
  gauge?: Gauge;
  contenders: KindName[];
  /** Each round has servers that have never seen these clients. */
  isFresh?: boolean;
  prepare(contender: Contender): Promise<void>;
  /** The gauge is read at its begin and at its end. */
  measure(contender: Contender): Promise<Measured>;
  /** Makes room for the next round. */
  after?(contender: Contender): Promise<void>;
}

/** Grows with what a server is asked to do. */
export interface Gauge {
  name: string;
  read(contender: Contender): number;
}

const cpu: Gauge = { name: "CPU µs", read: (contender) => contender.cpuSeconds() * 1e6 };

export interface Measured {
  units: number;
  /** `due` and `sent`: of a delivery since then; `acked`: of a publisher's answer; `ready`: of a client that comes. */
  latencies: Record<string, Latency>;
  /** Of the program of the clients. */
  cpuSeconds: number;
}

type Coming = Command & { do: "connect" };

/** How long publishing took in the eyes of those that it is for. */
export const published = ({ due, sent, acked, cpuSeconds }: Published): Omit<Measured, "units"> => ({
  latencies: { due, sent, acked },
  cpuSeconds,
});

/** Has subscribers come, and says how long they took in their own eyes. */
export async function come(contender: Contender, subscribers: Omit<Coming, "do" | "as">): Promise<Measured> {
  const { ready, cpuSeconds } = await contender.load<Connected>({ do: "connect", as: "subscriber", ...subscribers });
  return { units: subscribers.count, latencies: { ready }, cpuSeconds };
}

const common = {
  rounds: count(3),
  only: text("Some contenders alone, by what their names begin with: --only bare,service."),
  storage: oneOf(["sqlite", "postgres"], "Where the service keeps its log; a PostgreSQL is started for it."),
  program: program("A built service, such as dist/ws-service; otherwise it runs from the sources."),
  profile: flag("Plays it with the service alone, and says where its time goes."),
};

/** As the command line has them, or by default. */
export let options: Values<typeof common> = valuesOf([], common);

/** Reads the command line: the scenario's own parameters, and those of the common ones that it heeds. @returns its own */
export function parameters<Own extends Options>(
  own: Own,
  heeded = Object.keys(common) as (keyof typeof common)[],
): Values<Own> {
  const heard = Object.fromEntries(heeded.map((name) => [name, common[name]]));
  const values = readOptions({ ...own, ...heard });
  options = { ...options, ...values };
  return values as Values<Own>;
}

/** `engine`: what one unit had PostgreSQL do, where the service keeps its log there. */
type Round = Measured & { each: number; engine: Record<string, number> };

/** @returns those that are here, and that the command line has not left out */
export function chosen(contenders: KindName[]): KindName[] {
  const wanted = options.only === "" ? [""] : options.only.split(",");
  const stranger = wanted.find((word) => namesBegunBy(word, contenders).length === 0);
  if (stranger !== undefined) refuse(`--only ${stranger}: it is none of ${contenders.join("; ")}`);
  const found = contenders.filter(
    (name) => areHere(name) && wanted.some((word) => namesBegunBy(word, [name]).length > 0),
  );
  return found.length > 0
    ? found
    : refuse(`--only ${options.only}: it is not here; PEERS names the folder of the programs of others`);
}

export async function compare(scenario: Scenario): Promise<void> {
  // Before anything is started.
  const names = chosen(scenario.contenders);
  const postgres = options.storage === "postgres" ? await startPostgres() : null;
  try {
    if (options.profile) {
      const storage = await newStorage(postgres);
      await profile(scenario, { storage, program: options.program, rounds: options.rounds });
    } else await compareIn({ ...scenario, contenders: names }, postgres);
  } finally {
    await postgres?.stop();
  }
}

/** @returns where a service keeps its log that nobody has used; undefined: where it does by itself */
async function newStorage(postgres: PostgresServer | null): Promise<string | undefined> {
  const url = await postgres?.newDatabase();
  if (url !== undefined) await migrateStorage({ url, lockTimeoutMs: 5_000 });
  return url;
}

async function compareIn(scenario: Scenario, postgres: PostgresServer | null): Promise<void> {
  const { gauge = cpu, contenders: names } = scenario;
  const meter = postgres && (await PostgresMeter.of(postgres));
  const start = async (name: KindName) => {
    const contender = await Contender.start(name, { storage: await newStorage(postgres), program: options.program });
    await scenario.prepare(contender);
    return contender;
  };
  const standing = new Map<KindName, Contender>();
  const played = new Map<KindName, Round[]>(names.map((name) => [name, []]));
  try {
    if (!scenario.isFresh) for (const name of names) standing.set(name, await start(name));
    // The first round has code compiled and is not counted; in turns, so that a noisy neighbour meets all.
    const warm = scenario.isFresh ? 0 : 1;
    for (let round = -warm; round < options.rounds; round++) {
      for (const name of names) {
        const contender = standing.get(name) ?? (await start(name));
        standing.set(name, contender);
        const engineBefore = await meter?.read();
        const before = gauge.read(contender);
        const measured = await scenario.measure(contender);
        const each = (gauge.read(contender) - before) / measured.units;
        const engine = engineBefore ? workOfEach(engineBefore, await meter!.read(), measured.units) : {};
        if (round >= 0) played.get(name)!.push({ ...measured, each, engine });
        await scenario.after?.(contender);
        if (!scenario.isFresh) continue;
        standing.delete(name);
        await contender.stop();
      }
    }
  } finally {
    await Promise.all([...standing.values()].map((each) => each.stop()));
    await meter?.close();
  }
  const suffix = postgres === null ? "" : "-postgres";
  present(`${scenario.name}${suffix}`, rowsOf(scenario, played));
}

function rowsOf({ unit, gauge = cpu }: Scenario, played: Map<KindName, Round[]>): Row[] {
  const typical = (rounds: Round[], value: (one: Round) => number) => median(rounds.map(value));
  const times = (rounds: Round[], name: KindName) => {
    const others = played.get(name);
    if (others === undefined) return "";
    return median(rounds.map(({ each }, round) => each / others[round]!.each)).toFixed(2);
  };
  const peer: KindName = played.has("centrifugo, history") ? "centrifugo, history" : "centrifugo";
  return [...played].map(([name, rounds]) => {
    const all = rounds.map(({ each }) => each);
    const row: Row = {
      contender: name,
      [`${gauge.name}/${unit}`]: median(all).toFixed(1),
      "least–most": `${Math.min(...all).toFixed(1)}–${Math.max(...all).toFixed(1)}`,
      "times bare": times(rounds, "bare"),
      [`times ${peer}`]: times(rounds, peer),
    };
    for (const what of Object.keys(rounds[0]!.engine))
      row[what] = typical(rounds, ({ engine }) => engine[what]!).toFixed(1);
    for (const of of Object.keys(rounds[0]!.latencies)) {
      row[`${of} p50 ms`] = typical(rounds, ({ latencies }) => latencies[of]!.p50Ms).toFixed(2);
      row[`${of} p99 ms`] = typical(rounds, ({ latencies }) => latencies[of]!.p99Ms).toFixed(2);
    }
    row["clients' CPU µs"] = typical(rounds, ({ cpuSeconds, units }) => (cpuSeconds * 1e6) / units).toFixed(1);
    return row;
  });
}
