/** A real PostgreSQL for tests: a throw-away cluster of its own on a free port, or the one that TEST_DATABASE_URL names. */
import { chownSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { fromDebian } from "./debian.ts";
import { freePorts } from "./free-ports.ts";

export interface PostgresServer {
  /** `postgres://…`; its user may do everything. */
  url: string;
  /** Whether it was started here, so that it may be stopped and started again. */
  isOwn: boolean;
  /** Cuts all connections and goes away, as a restart of the machine would have it, or `orderly`: a standby has everything. */
  halt(how?: "at once" | "orderly"): Promise<void>;
  /** Comes back on the same port with what it had; as a standby it can only be read. */
  resume(as?: "primary" | "standby"): Promise<void>;
  /** Copies its files while it is halted. @returns puts them back, while it is halted again */
  keepFiles(): () => void;
  /** A name that no other test uses; all of them are dropped at the end. */
  newSchema(): string;
  /** An empty database, for what always uses the schema `ws`. @returns its URL */
  newDatabase(): Promise<string>;
  /** Runs SQL as the application or an operator would. */
  run(sql: string): Promise<Record<string, unknown>[]>;
  dropSchema(schema: string): Promise<void>;
  stop(): Promise<void>;
}

/** Debian keeps them out of the PATH. */
function findProgram(name: string): string | null {
  const onPath = Bun.which(name);
  if (onPath !== null) return onPath;
  const versions = "/usr/lib/postgresql";
  try {
    const found = readdirSync(versions).sort((a, b) => Number(b) - Number(a));
    return found.map((version) => Bun.which(name, { PATH: join(versions, version, "bin") })).find(Boolean) ?? null;
  } catch {
    return null;
  }
}

/** It refuses to run as root: another user's name, and the words that run a program as that user. */
function otherUser(): { ids: [number, number]; prefix: string[] } | null {
  if (process.getuid?.() !== 0) return null;
  for (const user of ["postgres", "nobody"]) {
    const [uid, gid] = ["-u", "-g"].map((flag) => Bun.spawnSync(["id", flag, user]).stdout.toString().trim());
    if (!uid || !gid) continue;
    return { ids: [Number(uid), Number(gid)], prefix: ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups"] };
  }
  throw new Error("PostgreSQL does not run as root, and there is neither a user postgres nor nobody.");
}

export interface PostgresOptions {
  /** Files in its data folder, in place of those that are there; for its user alone. */
  files?: Record<string, string>;
  /** `ssl=on` */
  settings?: string[];
  /** Told of what the server says while it runs, such as its statements by `log_statement=all`. */
  onSaid?: (text: string) => void;
  /** Begins as a copy of the server on that port and follows it, until it is promoted. */
  standbyOf?: number;
}

/** With options of its own it is always started here. */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const { files = {}, settings: own = [], onSaid = () => {}, standbyOf } = options;
  const given = process.env.TEST_DATABASE_URL;
  if (given !== undefined && own.length === 0 && standbyOf === undefined)
    return withSchemas({ url: given, isOwn: false, halt: refuse, resume: refuse, keepFiles, end: async () => {} });
  const server = program("postgres");
  const user = otherUser();
  const prefix = user?.prefix ?? [];
  // Another user's program is not ended with ours by the runtime, so it asks the kernel to be.
  const orphaned = user === null ? [] : ["setpriv", "--pdeathsig", "QUIT"];
  const { folder, data } = await makeData(standbyOf === undefined ? newData : copyOf(standbyOf));
  if (standbyOf !== undefined) writeFileSync(join(data, "standby.signal"), "");
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(data, name), text, { mode: 0o600 });
    if (user) chownSync(join(data, name), ...user.ids);
  }
  const [port] = await freePorts(1);

  async function run() {
    const usual = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"];
    // Writes survive every end of the server that a test brings about, and nobody pulls the plug of the machine.
    usual.push("fsync=off");
    // As much of the log as with segments of the usual size: a checkpoint comes as seldom, a standby may be as late.
    usual.push("max_wal_size=1GB", "min_wal_size=80MB", "wal_keep_size=16MB");
    const options = [...usual, ...following(standbyOf), ...own].flatMap((setting) => ["-c", setting]);
    const child = Bun.spawn([...prefix, ...orphaned, server, "-D", data, "-p", String(port), ...options], {
      cwd: folder,
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    await ready(child.stderr, onSaid);
    return child;
  }

  let child = await run();
  async function halt(how: "at once" | "orderly" = "at once"): Promise<void> {
    // Immediately, without a checkpoint: what was acknowledged must come from the write-ahead log.
    child.kill(how === "orderly" ? "SIGINT" : "SIGQUIT");
    await child.exited;
  }
  return withSchemas({
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    isOwn: true,
    halt,
    async resume(as = "primary") {
      const signal = join(data, "standby.signal");
      if (as === "standby") writeFileSync(signal, "");
      else rmSync(signal, { force: true });
      child = await run();
    },
    keepFiles() {
      const kept = `${data}-kept`;
      const copy = (from: string, to: string) => {
        rmSync(to, { recursive: true, force: true });
        const { success, stderr } = Bun.spawnSync(["cp", "-a", from, to]);
        if (!success) throw new Error(`cp has failed: ${stderr}`);
      };
      copy(data, kept);
      return () => copy(kept, data);
    },
    async end() {
      await halt();
      rmSync(folder, { recursive: true, force: true });
    },
  });
}

/** Where one of PostgreSQL's own programs is. */
const program = (name: string): string =>
  fromDebian(() => findProgram(name), {
    package: "postgresql",
    otherwise: "on macOS: brew install postgresql@15, or set TEST_DATABASE_URL",
  });

/** Says so without asking whether it may be installed. */
export const isPostgresHere = () => findProgram("postgres") !== null;

export const findPostgres = () => program("postgres");

/** Runs the command that makes a server's files, as the user that the server runs as. */
async function makeData(commandFor: (data: string) => string[]): Promise<{ folder: string; data: string }> {
  const user = otherUser();
  const folder = mkdtempSync(join(tmpdir(), "ws-postgres-"));
  if (user) chownSync(folder, ...user.ids);
  const data = join(folder, "data");
  const command = commandFor(data);
  const making = Bun.spawn([...(user?.prefix ?? []), ...command], { cwd: folder, stdout: "ignore", stderr: "pipe" });
  const said = await new Response(making.stderr).text();
  if ((await making.exited) !== 0) throw new Error(`${command[0]} has failed: ${said}`);
  return { folder, data };
}

/** Makes the files of a new server once for all test files, which begin with a copy: to copy them is ten times as fast. */
export async function shareNewData(): Promise<{ remove(): void }> {
  const { folder, data } = await makeData(newData);
  process.env.TEST_POSTGRES_DATA = data;
  return { remove: () => rmSync(folder, { recursive: true, force: true }) };
}

const newData = (data: string) => {
  const shared = process.env.TEST_POSTGRES_DATA;
  if (shared !== undefined) return ["cp", "-a", shared, data];
  const settings = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"];
  // Of 16 MiB each, as is usual, the log would be half of what is copied for each server.
  settings.push("--wal-segsize=1");
  return [program("initdb"), "-D", data, ...settings];
};

const copyOf = (port: number) => (data: string) => {
  const from = ["--host=127.0.0.1", `--port=${port}`, "--username=postgres"];
  return [program("pg_basebackup"), "-D", data, ...from, "--checkpoint=fast", "--no-sync"];
};

const following = (port: number | undefined) =>
  port === undefined
    ? []
    : [`primary_conninfo=host=127.0.0.1 port=${port} user=postgres`, "wal_retrieve_retry_interval=100ms"];

function keepFiles(): never {
  throw new Error("The files of the server of TEST_DATABASE_URL are not here.");
}

async function refuse(): Promise<void> {
  throw new Error("The server of TEST_DATABASE_URL is not stopped by tests.");
}

type Bare = Pick<PostgresServer, "url" | "isOwn" | "halt" | "resume" | "keepFiles"> & { end(): Promise<void> };

function withSchemas({ end, ...server }: Bare): PostgresServer {
  const prefix = `test_${Math.random().toString(36).slice(2, 10)}`;
  const schemas = new Set<string>();
  const databases: string[] = [];
  let made = 0;
  async function run(text: string): Promise<Record<string, unknown>[]> {
    const sql = postgres(server.url, { max: 1, onnotice: () => {} });
    try {
      return await sql.unsafe(text);
    } finally {
      await sql.end();
    }
  }
  async function dropSchema(schema: string): Promise<void> {
    await run(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
    schemas.delete(schema);
  }
  return {
    ...server,
    newSchema() {
      const schema = `${prefix}_${++made}`;
      schemas.add(schema);
      return schema;
    },
    async newDatabase() {
      const name = `${prefix}_db_${++made}`;
      await run(`CREATE DATABASE ${name}`);
      databases.push(name);
      const url = new URL(server.url);
      url.pathname = `/${name}`;
      return url.href;
    },
    run,
    dropSchema,
    async stop() {
      if (!server.isOwn) {
        for (const schema of [...schemas]) await dropSchema(schema);
        for (const name of databases) await run(`DROP DATABASE ${name} WITH (FORCE)`);
      }
      await end();
    },
  };
}

/** Resolves once it accepts connections; what it says afterwards is read all the same, so that it never blocks. */
async function ready(stream: ReadableStream<Uint8Array>, onSaid: (text: string) => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  void (async () => {
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      const said = decoder.decode(chunk, { stream: true });
      if (text.length < 1 << 16) text += said;
      onSaid(said);
      if (/ready to accept (read-only )?connections/.test(text)) resolve();
    }
    reject(new Error(`PostgreSQL has ended: ${text}`));
  })();
  await promise;
}

/** The words that run one of PostgreSQL's own programs; a server may not run as root. */
export const postgresCommand = (name: string): string[] => [...(otherUser()?.prefix ?? []), program(name)];

/** Gives what `pg_dump` makes of a database, with its words if any: SQL that makes it again. */
export function dumpOf(url: string, words: string[] = []): string {
  const { success, stdout, stderr } = Bun.spawnSync([program("pg_dump"), ...words, "--dbname", url]);
  if (!success) throw new Error(`pg_dump has failed: ${stderr}`);
  return stdout.toString();
}

/** Gives a dump to an empty database. */
export function restoreDump(url: string, dump: string): void {
  const command = [program("psql"), "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", url];
  const { success, stderr } = Bun.spawnSync(command, { stdin: Buffer.from(dump), stdout: "ignore" });
  if (!success) throw new Error(`psql has failed: ${stderr}`);
}

/** Runs SQL in a database, as its owner would by hand. */
export async function runSql(url: string, text: string): Promise<Record<string, unknown>[]> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return [...(await sql.unsafe(text))];
  } finally {
    await sql.end();
  }
}
