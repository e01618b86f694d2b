/** Servers that are measured beside each other: the service, the bare platform, and what else is here. */

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { patientCompiler } from "../../src/commands/patient-compiler.ts";
import { freePorts } from "../../test/support/free-ports.ts";
import { secret } from "../peers/token.ts";
import type { DialectName, Mode } from "./dialects.ts";
import type { Command } from "./load.ts";
import { startProgram } from "./measured.ts";
import { cpuSecondsOf } from "./process-cpu.ts";
import { temporaryFolder } from "./temporary.ts";

const root = resolve(import.meta.dir, "../..");
/** Of npm, brought into a temporary folder: nothing else of the project needs it. */
const socketIoVersion = "4.8.4";
const readyMs = 30_000;

/** A server, and the program of its clients. */
export class Contender {
  private constructor(
    /** How its publishers publish. */
    readonly mode: Mode,
    private readonly server: Bun.Subprocess,
    private readonly clients: ReturnType<typeof startProgram>,
    private readonly folder: string,
    readonly readyMs: number,
  ) {}

  static async start(name: KindName, options: StartOptions): Promise<Contender> {
    const folder = temporaryFolder("ws-service-bench");
    const [port] = (await freePorts(1)) as [number];
    const { recipe, dialect, mode } = kinds[name];
    const { command, env, livePath }: ToRun = await recipe({ port, folder, ...options });
    const startedAt = performance.now();
    const server = Bun.spawn(command, {
      cwd: folder,
      env: { PATH: process.env.PATH ?? "", HOME: folder, PORT: String(port), NODE_ENV: "production", ...env },
      stdout: "ignore",
      stderr: "inherit",
    });
    await untilLive(server, `http://127.0.0.1:${port}${livePath}`);
    const readyMs = performance.now() - startedAt;
    const clients = startProgram(["load.ts", JSON.stringify({ port, dialect })]);
    await clients.next();
    return new Contender(mode, server, clients, folder, readyMs);
  }

  async load<Result>(command: Command): Promise<Result> {
    this.clients.child.stdin.write(`${JSON.stringify(command)}\n`);
    this.clients.child.stdin.flush();
    return (await this.clients.next()) as Result;
  }

  /** Users where its messages are users', backends where they are not. */
  async connectPublishers(count: number): Promise<void> {
    const roles = this.mode === "logged" ? undefined : ["service"];
    await this.load({ do: "connect", as: "publisher", roles, count, atOnce: 16 });
  }

  cpuSeconds = () => cpuSecondsOf(this.server.pid);

  memoryBytes = () => Number(readFileSync(`/proc/${this.server.pid}/statm`, "utf8").split(" ")[1]) * 4_096;

  get pid(): number {
    return this.server.pid;
  }

  /** Each thread's name and its CPU so far, by its id. */
  threads(): Map<number, { name: string; seconds: number }> {
    const folder = `/proc/${this.pid}/task`;
    return new Map(
      readdirSync(folder).map((id) => {
        const name = readFileSync(`${folder}/${id}/comm`, "utf8").trim();
        return [Number(id), { name, seconds: cpuSecondsOf(`${this.pid}/task/${id}`) }];
      }),
    );
  }

  /** Lets it end by itself. */
  async finish(): Promise<void> {
    this.server.kill("SIGTERM");
    await this.server.exited;
  }

  async stop(): Promise<void> {
    for (const child of [this.clients.child, this.server]) child.kill("SIGKILL");
    await Promise.all([this.clients.child.exited, this.server.exited]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface StartOptions {
  /** Where the service keeps its log; SQLite in a temporary folder where it is left out. */
  storage?: string;
  /** The runtime leaves a profile of the service's loop there, once it has ended by itself. */
  profileFolder?: string;
  /** Of the service's configuration, as environment variables. */
  settings?: Record<string, string>;
  /** A built service; from the sources where it is left out. */
  program?: string;
}

/** @returns those whose name the word begins, as words go: `service` begins `service, not logged`, and `serv` nothing; no word begins all */
export const namesBegunBy = <Name extends string>(word: string, names: readonly Name[]): Name[] =>
  names.filter((name) => word === "" || new RegExp(`^${RegExp.escape(word)}(?![\\w.])`).test(name));

/** Says whether it can be started here: `PEERS` is a folder with the programs of others. */
export const areHere = (name: KindName): boolean => {
  const program = Object.entries(peers).find(([peer]) => name.startsWith(peer))?.[1];
  return program === undefined || existsSync(peerAt(program));
};

/** Programs of others, in the folder that `PEERS` names. */
const peers = { centrifugo: "centrifugo", anycable: "anycable-go" };
const peerAt = (program: string) => resolve(process.env.PEERS ?? "", program);

interface ToRun {
  command: string[];
  env?: Record<string, string>;
  /** Answers with success once it is ready. */
  livePath: string;
}
type Recipe = (at: StartOptions & { port: number; folder: string }) => ToRun | Promise<ToRun>;

const recipes = {
  bare: () => ({ command: [process.execPath, join(root, "bench/peers/bare.ts")], livePath: "/live" }),
  ws: async ({ folder }) => ({
    command: ["node", await forNode("ws.ts", folder)],
    env: { PACKAGE: join(root, "node_modules/ws/wrapper.mjs") },
    livePath: "/live",
  }),
  "socket.io": async ({ folder }) => {
    const install = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", `socket.io@${socketIoVersion}`];
    await Bun.spawn(install, { cwd: folder, stdout: "ignore", stderr: "inherit" }).exited;
    return {
      command: ["node", await forNode("socket-io.ts", folder)],
      env: { PACKAGE: join(folder, "node_modules/socket.io/wrapper.mjs") },
      livePath: "/live",
    };
  },
  centrifugo: (at) => centrifugo(at, {}),
  centrifugoWithHistory: (at) => centrifugo(at, { history_size: 100, history_ttl: "600s", force_recovery: true }),
  anycable: ({ port }) => ({
    command: [
      peerAt(peers.anycable),
      ...[
        "--host=127.0.0.1",
        `--port=${port}`,
        "--norpc",
        "--public_streams",
        "--enforce_jwt",
        `--jwt_secret=${secret}`,
      ],
      ...["--broadcast_adapter=http", `--http_broadcast_port=${port}`, "--log_level=error"],
    ],
    env: { ANYCABLE_DISABLE_TELEMETRY: "true" },
    livePath: "/health",
  }),
  service: ({ port, folder, storage, program, profileFolder, settings }) => ({
    command: [...(program === undefined ? [process.execPath, join(root, "src/main.ts")] : [resolve(program)]), "serve"],
    env: {
      WS__SERVER__PORT: String(port),
      WS__STORAGE__URL: storage ?? `sqlite:${join(folder, "service.db")}`,
      WS__AUTH__MODE: "token",
      WS__AUTH__SECRET: secret,
      WS__RATE_LIMITS__ENABLED: "false",
      WS__LOG__LEVEL: "error",
      WS__SERVER__DRAIN_WINDOW: "0s",
      ...(profileFolder === undefined ? {} : profiled(profileFolder)),
      ...settings,
    },
    livePath: "/ready",
  }),
} satisfies Record<string, Recipe>;

const profiled = (folder: string) => ({
  // Options of the runtime, which a built program reads from here alone.
  BUN_OPTIONS: `--cpu-prof --cpu-prof-dir=${folder}`,
  // It sets it itself, but not where it is profiled.
  ...patientCompiler,
});

/** Writes events of a busy topic together that come within the window. */
function together(window: string): Recipe {
  return (at) => recipes.service({ ...at, settings: { WS__WEBSOCKET__COALESCE_WINDOW: window } });
}

interface Kind {
  recipe: Recipe;
  dialect: DialectName;
  mode: Mode;
}

export const kinds = {
  bare: { recipe: recipes.bare, dialect: "raw", mode: "ephemeral" },
  ws: { recipe: recipes.ws, dialect: "raw", mode: "ephemeral" },
  "socket.io": { recipe: recipes["socket.io"], dialect: "socket.io", mode: "ephemeral" },
  centrifugo: { recipe: recipes.centrifugo, dialect: "centrifugo", mode: "ephemeral" },
  "centrifugo, history": { recipe: recipes.centrifugoWithHistory, dialect: "centrifugo", mode: "ephemeral" },
  anycable: { recipe: recipes.anycable, dialect: "anycable", mode: "ephemeral" },
  "service, not logged": { recipe: recipes.service, dialect: "service", mode: "ephemeral" },
  "service, published": { recipe: recipes.service, dialect: "service", mode: "published" },
  "service, 25 ms": { recipe: together("25ms"), dialect: "service", mode: "logged" },
  "service, 50 ms": { recipe: together("50ms"), dialect: "service", mode: "logged" },
  service: { recipe: recipes.service, dialect: "service", mode: "logged" },
} satisfies Record<string, Kind>;
export type KindName = keyof typeof kinds;

/** All that the service is measured beside, where they can do the same. */
export const others = [
  "bare",
  "ws",
  "socket.io",
  "centrifugo",
  "centrifugo, history",
  "anycable",
] as const satisfies KindName[];

function centrifugo({ port, folder }: { port: number; folder: string }, history: object): ToRun {
  const file = join(folder, "centrifugo.json");
  const channels = { allow_subscribe_for_client: true, allow_publish_for_client: true, ...history };
  const config = {
    http_server: { address: "127.0.0.1", port },
    client: { token: { hmac_secret_key: secret }, allowed_origins: ["*"] },
    channel: { without_namespace: channels },
    log: { level: "error" },
    health: { enabled: true },
    usage_stats: { disabled: true },
  };
  writeFileSync(file, JSON.stringify(config));
  return { command: [peerAt(peers.centrifugo), "-c", file], livePath: "/health" };
}

/** Makes what Node reads of a program of ours. @returns where it is */
async function forNode(program: string, outdir: string): Promise<string> {
  const entrypoints = [join(root, "bench/peers", program)];
  const { outputs } = await Bun.build({ entrypoints, outdir, target: "node", naming: "[name].mjs" });
  return outputs[0]!.path;
}

async function untilLive(server: Bun.Subprocess, url: string): Promise<void> {
  for (const until = performance.now() + readyMs; performance.now() < until; await Bun.sleep(2)) {
    if (server.exitCode !== null) break;
    if (
      await fetch(url).then(
        ({ ok }) => ok,
        () => false,
      )
    )
      return;
  }
  server.kill("SIGKILL");
  throw new Error(`${url} did not become ready`);
}
