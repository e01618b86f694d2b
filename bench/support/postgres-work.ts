/** Reads what a PostgreSQL has worked: CPU of its processes by what they are, transactions that wrote, and bytes of its write-ahead log. */
import { readdirSync, readFileSync } from "node:fs";
import postgres from "postgres";
import { cpuSecondsOf } from "./process-cpu.ts";

export interface PostgresWork {
  /** Seconds of CPU of all its processes, those that have ended included. */
  cpuSeconds: number;
  /** Of them: what writes the log behind the sessions, checkpoints and vacuum. */
  behindSeconds: number;
  /** Transactions that were given a number, because they wrote something or locked a row. */
  writing: number;
  walBytes: number;
}

export class PostgresMeter {
  private constructor(
    /** Kept open: to connect costs as much as thirty messages. */
    private readonly sql: postgres.Sql,
    /** Of its first process, whose children all others are. */
    private readonly pid: number,
  ) {}

  static async of({ url }: { url: string }): Promise<PostgresMeter> {
    const sql = postgres(url, { max: 1, onnotice: () => {} });
    const [row] = await sql`SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'`;
    return new PostgresMeter(sql, Number(statOf(Number(row!.pid))[1]));
  }

  async close(): Promise<void> {
    await this.sql.end();
  }

  /** Counts what it asks itself as well. */
  async read(): Promise<PostgresWork> {
    const children = readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => Number(statOf(Number(pid))[1]) === this.pid);
    const isSession = (pid: string) => /^postgres: \S+ \S+ [\d.]+\(/.test(commandOf(pid));
    const sum = (pids: string[]) => pids.reduce((seconds, pid) => seconds + cpuSecondsOf(pid), 0);
    // Of those that have ended their parent has the sum.
    const ended = [13, 14].reduce((ticks, at) => ticks + Number(statOf(this.pid)[at]), 0) / 100;
    const [cpuSeconds, behindSeconds] = [
      sum(children) + cpuSecondsOf(this.pid) + ended,
      sum(children.filter((pid) => !isSession(pid))),
    ];
    const [row] = await this.sql`SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS writing,
      (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text AS bytes`;
    return { cpuSeconds, behindSeconds, writing: Number(row!.writing), walBytes: Number(row!.bytes) };
  }
}

/** @returns the columns of a table of measurements: what one unit had PostgreSQL do */
export function workOfEach(before: PostgresWork, after: PostgresWork, units: number): Record<string, number> {
  const each = (value: (work: PostgresWork) => number) => (value(after) - value(before)) / units;
  return {
    "PostgreSQL's CPU µs": each(({ cpuSeconds }) => cpuSeconds * 1e6),
    "of it behind the sessions": each(({ behindSeconds }) => behindSeconds * 1e6),
    "its writing transactions": each(({ writing }) => writing),
    "its log, bytes": each(({ walBytes }) => walBytes),
  };
}

/** Its fields from the state on: 0 the state, 1 the parent, 11 and 12 the ticks of CPU, 13 and 14 those of its ended children. */
function statOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  } catch {
    return [];
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}
