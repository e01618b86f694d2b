/** Holds the place of the connect command. */
import type { Command } from "./command.ts";

export const connect: Command = {
  name: "connect",
  summary: "not there yet",
  usage: "connect",
  options: {},
  async run(_args, io) {
    io.stderr.write("connect is not there yet\n");
    return 1;
  },
};
