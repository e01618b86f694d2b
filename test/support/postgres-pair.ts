/** Two real PostgreSQL servers: a primary and a standby that streams from it and takes its place, again and again. */
import { type PostgresServer, startPostgres } from "./postgres.ts";
import { type LinkProxy, startProxy } from "./proxy.ts";
import { until } from "./until.ts";

/** `synchronous`: a commit waits until the standby has it. `asynchronous`: the standby has what it has. */
export type Replication = "synchronous" | "asynchronous";

export interface PostgresPair extends Pick<PostgresServer, "isOwn" | "halt" | "resume" | "newDatabase" | "run"> {
  /** Of the server that is the primary now. */
  readonly url: string;
  readonly port: number;
  /** Between the standby and its primary: frozen or cut, the standby falls behind. */
  readonly link: LinkProxy;
  /** The primary goes away for good. */
  lose(how: "at once" | "orderly"): Promise<void>;
  /** The standby takes its place. @returns its port */
  promote(): Promise<number>;
  /** A new standby follows the primary; resolves once a commit is safe on both, where it is to be. */
  refill(): Promise<void>;
  stop(): Promise<void>;
}

/** So much of the write-ahead log is kept for a standby that was away. */
const settings = ["wal_keep_size=512MB"];

export async function startPostgresPair(replication: Replication): Promise<PostgresPair> {
  let primary = await startPostgres({ settings });
  const link = await startProxy(portOf(primary)).catch(async (error: unknown) => {
    await primary.stop();
    throw error;
  });
  let standby: PostgresServer | null = null;

  async function refill(): Promise<void> {
    link.heal();
    link.lead(portOf(primary));
    standby = await startPostgres({ settings, standbyOf: link.port });
    await until(async () => (await primary.run(streams)).length > 0);
    if (replication === "asynchronous") return;
    await primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'");
    await primary.run("SELECT pg_reload_conf()");
    await until(async () => (await primary.run(`${streams} AND sync_state = 'sync'`)).length > 0);
  }

  async function stop(): Promise<void> {
    await standby?.stop();
    await primary.stop();
    await link.stop();
  }

  try {
    await refill();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    isOwn: true,
    get url() {
      return primary.url;
    },
    get port() {
      return portOf(primary);
    },
    link,
    halt: (how) => primary.halt(how),
    resume: (as) => primary.resume(as),
    newDatabase: () => primary.newDatabase(),
    run: (text) => primary.run(text),
    lose: (how) => primary.halt(how),
    async promote() {
      if (standby === null) throw new Error("There is no standby to take over.");
      const old = primary;
      primary = standby;
      standby = null;
      await primary.run("SELECT pg_promote()");
      await old.stop();
      return portOf(primary);
    },
    refill,
    stop,
  };
}

const streams = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'";
const portOf = ({ url }: PostgresServer) => Number(new URL(url).port);
