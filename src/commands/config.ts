/** Checks a configuration, or prints the one in force. */
import { loadConfig } from "../config/loader.ts";
import { printConfig } from "../config/print.ts";
import { type Command, UsageError } from "./command.ts";

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
    for (const notice of loaded.notices) io.stderr.write(`note: ${notice}\n`);
    return 0;
  },
};
