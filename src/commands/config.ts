/** Checks a configuration and the storage that it names, or prints the one in force. */
import { loadConfig } from "../config/loader.ts";
import { printConfig } from "../config/print.ts";
import type { Config } from "../config/schema.ts";
import { createLogSink } from "../telemetry/logger.ts";
import { type Command, UsageError } from "./command.ts";
import { startFailureOf } from "./start-failure.ts";

export const config: Command = {
  name: "config",
  summary: "check the configuration, or print what is in force and where it comes from",
  usage: "config check|print [--config <file>]",
  options: {
    config: { summary: "the file; else WS_CONFIG, else configs/config.yaml where it is there", value: "file" },
  },
  wordsMax: 1,
  async run(args, io) {
    const [what] = args.words;
    if (what !== "check" && what !== "print") throw new UsageError("config needs one of: check, print");
    const { env, cwd } = io;
    const loaded = await loadConfig({ file: args.value("config"), env, cwd });
    io.stdout.write(what === "check" ? "ok\n" : printConfig(loaded));
    const notices = what === "check" ? await noticesOfStorage(loaded.config) : [];
    for (const notice of [...loaded.notices, ...notices]) io.stderr.write(`note: ${notice}\n`);
    return 0;
  },
};

/** What a start would say of the storage. A SQLite file is left alone: a service may be running on it. */
async function noticesOfStorage(config: Config): Promise<string[]> {
  if (config.storage.url.startsWith("sqlite:")) return [];
  // Loaded only here: nothing else of this command needs an engine.
  const { createStorage } = await import("../engines.ts");
  const { logger } = createLogSink({ level: "silent", format: "json" });
  const notices: string[] = [];
  const storage = createStorage(config, { now: Date.now, logger, onNotice: (sentence) => notices.push(sentence) });
  try {
    await storage.start();
    await storage.stop();
  } catch (error) {
    const failure = startFailureOf(error, config);
    notices.push(failure instanceof Error ? failure.message : String(failure));
  }
  return notices;
}
