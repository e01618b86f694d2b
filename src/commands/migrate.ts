/** Holds the place of the migrate command. */
import type { Command } from "./command.ts";

export const migrate: Command = {
  name: "migrate",
  summary: "not there yet",
  usage: "migrate",
  options: {},
  async run(_args, io) {
    io.stderr.write("migrate is not there yet\n");
    return 1;
  },
};
