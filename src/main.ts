/** Runs the process: its arguments, its signals and its exit code; everything else is a command's. */
import { commandHelp, overallHelp, parseArgs } from "./commands/args.ts";
import { type Command, type CommandIo, UsageError } from "./commands/command.ts";
import { beWithPatientCompiler } from "./commands/patient-compiler.ts";
import { ConfigError, configExitCode, SettingError, StartError } from "./config/faults.ts";
import { nearest, nearestHint } from "./config/nearest.ts";

// Each is loaded when it is called: `health` runs every few seconds in a container and must not load the service.
const commands: Record<string, () => Promise<Command>> = {
  serve: async () => (await import("./commands/serve.ts")).serve,
  config: async () => (await import("./commands/config.ts")).config,
  token: async () => (await import("./commands/token.ts")).token,
  migrate: async () => (await import("./commands/migrate.ts")).migrate,
  backup: async () => (await import("./commands/backup.ts")).backup,
  restore: async () => (await import("./commands/restore.ts")).restore,
  connect: async () => (await import("./commands/connect.ts")).connect,
  admin: async () => (await import("./commands/admin.ts")).admin,
  health: async () => (await import("./commands/health.ts")).health,
  asyncapi: async () => (await import("./commands/asyncapi.ts")).asyncapi,
  completions: async () => (await import("./commands/completions.ts")).completionsOf(loadAll),
  version: async () => (await import("./commands/version.ts")).version,
};

const loadAll = () => Promise.all(Object.values(commands).map((load) => load()));

// Compiled, the program is the executable itself and its sources are inside of it.
const isCompiled = /^(\/\$bunfs|B:[\\/]~BUN)[\\/]/.test(Bun.main);

const io: CommandIo = {
  // Made when they are asked for: the service needs none of them, and they are a tenth of its start.
  get stdout() {
    return standardOutput();
  },
  get stderr() {
    return process.stderr;
  },
  async *stdin() {
    const { createInterface } = await import("node:readline");
    yield* createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY });
  },
  env: process.env,
  cwd: process.cwd(),
  signals: {
    onTerminate: (listener) => {
      process.on("SIGTERM", listener);
      process.on("SIGINT", listener);
    },
    onHangup: (listener) => {
      process.on("SIGHUP", listener);
    },
  },
  program: isCompiled ? [process.execPath] : [process.execPath, ...process.execArgv, Bun.main],
  parent:
    process.send === undefined
      ? null
      : {
          // A channel that has just closed is told of by `onClosed`.
          send: (message) => process.connected && process.send?.(message, undefined, undefined, () => {}),
          onMessage: (listener) => void process.on("message", listener),
          onClosed: (listener) => void process.on("disconnect", listener),
        },
};

async function run(argv: readonly string[]): Promise<number> {
  const [first, ...others] = argv;
  if (first === "--help" || first === "-h" || first === "help") {
    io.stdout.write(overallHelp(await loadAll()));
    return 0;
  }
  if (first === "--version") return run(["version"]);
  const named = first !== undefined && !first.startsWith("-");
  const name = named ? first : "serve";
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (load === undefined)
    throw new UsageError(
      `there is no command ${JSON.stringify(name)}${nearestHint(nearest(name, Object.keys(commands)))}`,
    );
  if (name === "serve") beWithPatientCompiler({ program: io.program, argv, env: io.env });
  const command = await load();
  const rest = named ? others : argv;
  const options = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
  if (options.includes("--help") || options.includes("-h")) {
    io.stdout.write(commandHelp(command));
    return 0;
  }
  return command.run(parseArgs(command, rest), io);
}

function report(error: unknown): number {
  if (error instanceof UsageError) {
    io.stderr.write(`ws-service: ${error.message}\nSee ws-service --help.\n`);
    return 2;
  }
  // Where a stack leads is of use in faults of ours only.
  const isTheirs = error instanceof ConfigError || error instanceof StartError;
  const text = isTheirs ? error.message : ((error as Error | null)?.stack ?? Bun.inspect(error));
  io.stderr.write(`ws-service: ${text}\n`);
  return error instanceof ConfigError || error instanceof SettingError ? configExitCode : 1;
}

// `bun --hot` runs this file again at each change, in the same process, which the first run still listens for.
const shared = globalThis as { wsServiceStarted?: boolean };
const isReload = shared.wsServiceStarted === true;
shared.wsServiceStarted = true;

/** Forgives a reader that goes away (`config print | head -1`). */
function standardOutput(): NodeJS.WriteStream {
  const { stdout } = process;
  if (stdout.listenerCount("error") === 0) {
    stdout.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
  }
  return stdout;
}

async function end(exitCode: number): Promise<never> {
  // Leaving drops what a pipe has not taken yet: wait for it.
  await Promise.all([standardOutput(), process.stderr].map((output) => new Promise((done) => output.write("", done))));
  process.exit(exitCode);
}

// Not awaited: Bun reloads nothing before the entry point has been evaluated.
run(process.argv.slice(2)).then(end, (error) => {
  const exitCode = report(error);
  // A change that does not load is told and ends nobody's connection: the former handlers stay.
  return isReload ? undefined : end(exitCode);
});
