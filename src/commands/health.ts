/** Holds the place of the health command. */
import type { Command } from "./command.ts";

export const health: Command = {
  name: "health",
  summary: "not there yet",
  usage: "health",
  options: {},
  async run(_args, io) {
    io.stderr.write("health is not there yet\n");
    return 1;
  },
};
