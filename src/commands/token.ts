/** Holds the place of the token command. */
import type { Command } from "./command.ts";

export const token: Command = {
  name: "token",
  summary: "not there yet",
  usage: "token",
  options: {},
  async run(_args, io) {
    io.stderr.write("token is not there yet\n");
    return 1;
  },
};
