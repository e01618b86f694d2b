/** Starts the real service as a process of its own, on a free port and in a throw-away folder, and ends it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { linesOf } from "./lines.ts";
import { binaryFile, mainFile, program } from "./program.ts";

export interface ServiceOptions {
  /** Settings as environment variables without `WS__`: `{ "WEBSOCKET__PONG_WAIT": "1s" }`. */
  settings?: Record<string, string>;
  /** Keep the data of an earlier run. */
  folder?: string;
  /** Runs the compiled binary, whatever the rest of the check runs. */
  isBinary?: boolean;
  /** The whole command line instead. */
  command?: string[];
  /** More arguments for the runtime, such as `--hot`. */
  runtimeArgs?: string[];
  /** Another entry point than `src/main.ts`. */
  entry?: string;
  /** The command line after the program; `["serve"]` unless said otherwise. */
  words?: string[];
  /** It is killed where it neither listens nor ends within so long, ms: nothing that hangs is left behind. */
  patienceMs?: number;
  env?: Record<string, string>;
}

/** A line of the service's log. */
export type LogLine = Record<string, unknown> & { level: string; msg: string };

export interface Service {
  /** `ws://127.0.0.1:<port>/ws`, or `wss:`. */
  url: string;
  /** `http://127.0.0.1:<port>`, or `https:`. */
  http: string;
  port: number;
  folder: string;
  pid: number;
  exited: Promise<number>;
  logs: LogLine[];
  /** The first line for which the condition holds, now or later. */
  logged(condition: (line: LogLine) => boolean): Promise<LogLine>;
  /** Lines of standard error. */
  errors: string[];
  /** The first line of standard error for which the condition holds, now or later. */
  complained(condition: (line: string) => boolean): Promise<string>;
  signal(signal: NodeJS.Signals): void;
  /** `kill -9`; the folder stays. */
  kill(): Promise<void>;
  /** Ends it and removes its folder. @throws Error where it has found an invariant broken, whatever the test was about */
  stop(): Promise<void>;
}

/** Rate limits are off and everything is short unless the settings say otherwise. */
const defaults: Record<string, string> = {
  SERVER__PORT: "0",
  SERVER__DRAIN_WINDOW: "100ms",
  SERVER__DRAIN_TIMEOUT: "2s",
  STORAGE__URL: "sqlite:data/ws-service.db",
  RATE_LIMITS__ENABLED: "false",
  LOG__FORMAT: "json",
  OPERATIONS__HEALTH_CACHE: "100ms",
};

/** So long is waited for what a service that has ended said last. */
const lastWordsMs = 1_000;

export async function startService(options: ServiceOptions = {}): Promise<Service> {
  const {
    settings = {},
    folder = mkdtempSync(join(tmpdir(), "ws-service-")),
    isBinary = false,
    words = ["serve"],
    patienceMs = 45_000,
  } = options;
  const { entry, runtimeArgs, command = [...programOf({ isBinary, entry, runtimeArgs }), ...words] } = options;
  const variables = Object.fromEntries(
    Object.entries({ ...defaults, ...settings }).map(([name, value]) => [`WS__${name}`, value]),
  );
  const child = Bun.spawn(command, {
    cwd: folder,
    env: { PATH: process.env.PATH ?? "", HOME: folder, TZ: "UTC", ...variables, ...options.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const logs: LogLine[] = [];
  const watchers = new Set<() => void>();
  const errors: string[] = [];
  let ended = false;
  const notify = () => {
    for (const watcher of [...watchers]) watcher();
  };
  const said = readLines(child.stdout, (text) => {
    try {
      logs.push(JSON.parse(text) as LogLine);
    } catch {
      logs.push({ level: "none", msg: text });
    }
    notify();
  });
  const complained = readLines(child.stderr, (text) => {
    errors.push(text);
    notify();
  });
  void child.exited.then(async () => {
    // Its last words have been read then; a process that it has left behind may hold the pipes for longer.
    await Promise.race([Promise.all([said, complained]), Bun.sleep(lastWordsMs)]);
    ended = true;
    notify();
  });
  const found = <Line>(lines: Line[], condition: (line: Line) => boolean) =>
    new Promise<Line>((resolve, reject) => {
      const look = () => {
        const line = lines.find(condition);
        if (line === undefined && !ended) return;
        watchers.delete(look);
        if (line !== undefined) resolve(line);
        else reject(new Error(`The service ended:\n${errors.join("\n")}\n${JSON.stringify(logs.slice(-20))}`));
      };
      watchers.add(look);
      look();
    });
  const logged = (condition: (line: LogLine) => boolean) => found(logs, condition);
  const impatience = setTimeout(() => {
    errors.push(`It was killed: it did not listen within ${patienceMs} ms.`);
    child.kill("SIGKILL");
  }, patienceMs);
  const listening = await logged((line) => line.msg === "listening").finally(() => clearTimeout(impatience));
  const url = String(listening.url);
  const { port } = new URL(url);
  const kill = async () => {
    child.kill("SIGKILL");
    await child.exited;
  };
  return {
    url,
    http: url.replace(/^ws/, "http").replace(/\/ws$/, ""),
    port: Number(port),
    folder,
    pid: child.pid,
    exited: child.exited,
    logs,
    logged,
    errors,
    complained: (condition) => found(errors, condition),
    signal: (signal) => child.kill(signal),
    kill,
    async stop() {
      if (!ended) await kill();
      rmSync(folder, { recursive: true, force: true });
      const broken = logs.filter(({ msg }) => msg === "an invariant is broken");
      if (broken.length > 0) throw new Error(broken.map((line) => JSON.stringify(line)).join("\n"));
    },
  };
}

/** Starts a node on this Redis. Nodes may share one SQLite file as their log there, so that they need no PostgreSQL. */
export const startClusterNode = (redisUrl: string, options: ServiceOptions = {}): Promise<Service> =>
  startService({
    ...options,
    entry: join(import.meta.dir, "clustered-service.ts"),
    env: { TEST_CLUSTER_URL: redisUrl, ...options.env },
  });

function programOf({ isBinary, entry, runtimeArgs }: Pick<ServiceOptions, "isBinary" | "entry" | "runtimeArgs">) {
  if (isBinary) return [binaryFile];
  if (entry === undefined && runtimeArgs === undefined) return program;
  return [process.execPath, ...(runtimeArgs ?? []), entry ?? mainFile];
}

async function readLines(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
  for await (const line of linesOf(stream)) if (line !== "") take(line);
}
