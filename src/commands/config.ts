/** Holds the place of the config command. */
import type { Command } from "./command.ts";

export const config: Command = {
  name: "config",
  summary: "not there yet",
  usage: "config",
  options: {},
  async run(_args, io) {
    io.stderr.write("config is not there yet\n");
    return 1;
  },
};
