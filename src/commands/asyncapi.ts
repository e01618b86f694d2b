/** Prints the protocol as an AsyncAPI document. */
import packageFile from "../../package.json" with { type: "json" };
import { asyncApi } from "../protocol/asyncapi.ts";
import type { Command } from "./command.ts";

export const asyncapi: Command = {
  name: "asyncapi",
  summary: "print the protocol as an AsyncAPI 3 document (JSON), for generators and documentation",
  usage: "asyncapi",
  examples: ["asyncapi"],
  options: {},
  async run(_args, io) {
    io.stdout.write(`${JSON.stringify(asyncApi(packageFile.version), null, 2)}\n`);
    return 0;
  },
};
