/** Checks a configuration and the storage that it names, or prints the one in force. */
import { loadConfig } from "../config/loader.ts";
import { printConfig } from "../config/print.ts";
import type { Config } from "../config/schema.ts";
import { Unavailable } from "../ground/unavailable.ts";
import { createLogSink } from "../telemetry/logger.ts";
import { type Command, UsageError } from "./command.ts";
import { startFailureOf } from "./start-failure.ts";

export const config: Command = {
  name: "config",
  summary: "check the configuration, or print what is in force and where it comes from",
  usage: "config check|print [--config <file>]",
  details: `check says ok, or every fault at once with where it comes from. PostgreSQL is asked what a start would ask; that it does not answer
is a note. print shows every setting with its value in force, and where it was given; secrets are masked.`,
  examples: ["config check --config /etc/ws-service/config.yaml", "config print"],
  options: {
    config: { summary: "the file; else WS_CONFIG, else configs/config.yaml where it is there", value: "file" },
  },
  words: ["check", "print"],
  wordsMax: 1,
  async run(args, io) {
    const [what] = args.words;
    if (what !== "check" && what !== "print") throw new UsageError("config needs one of: check, print");
    const { env, cwd } = io;
    const loaded = await loadConfig({ file: args.value("config"), env, cwd });
    if (what === "print") {
      io.stdout.write(printConfig(loaded));
      for (const notice of loaded.notices) io.stderr.write(`note: ${notice}\n`);
      return 0;
    }
    // Loaded only here, as what a start looks at next.
    const { checkEventTypes } = await import("../handlers/events.ts");
    checkEventTypes(loaded.config);
    const { notices, refusal } = await tryStorage(loaded.config);
    for (const notice of [...loaded.notices, ...notices]) io.stderr.write(`note: ${notice}\n`);
    if (refusal !== null) throw refusal;
    io.stdout.write("ok\n");
    return 0;
  },
};

/**
 * Finds what a start would say of the storage, and what would end it. A SQLite file is left alone: a service may be running on it.
 * No answer is no refusal but a notice: where this runs need not be where the service does.
 */
async function tryStorage(config: Config): Promise<{ notices: string[]; refusal: unknown }> {
  if (config.storage.url.startsWith("sqlite:")) return { notices: [], refusal: null };
  // Loaded only here: nothing else of this command needs an engine.
  const { createStorage } = await import("../engines.ts");
  const { logger } = createLogSink({ level: "silent", format: "json" });
  const notices: string[] = [];
  const storage = await createStorage(config, {
    now: Date.now,
    logger,
    onNotice: (sentence) => notices.push(sentence),
  });
  try {
    await storage.start();
    // As a start asks next.
    try {
      await storage.installation();
      await storage.log.watermark();
    } finally {
      await storage.stop();
    }
    return { notices, refusal: null };
  } catch (error) {
    const failure = startFailureOf(error, config);
    if (!isUnanswered(error)) return { notices, refusal: failure };
    return { notices: [...notices, failure instanceof Error ? failure.message : String(failure)], refusal: null };
  }
}

/** By the codes of the network; what PostgreSQL and TLS refuse has codes of its own. */
const isUnanswered = (error: unknown): boolean =>
  error instanceof Unavailable &&
  /^(E(CONN|HOST|NET|TIMEDOUT|NOTFOUND|AI_)|CONNECT_TIMEOUT$|NO_ANSWER$)/.test(error.code ?? "");
