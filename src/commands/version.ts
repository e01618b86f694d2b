/** Says which version this is. */
import packageFile from "../../package.json" with { type: "json" };
import type { Command } from "./command.ts";

export const version: Command = {
  name: "version",
  summary: "print the version of ws-service and of Bun",
  usage: "version",
  examples: ["version"],
  options: {},
  async run(_args, io) {
    io.stdout.write(`ws-service ${packageFile.version} (bun ${Bun.version})\n`);
    return 0;
  },
};
