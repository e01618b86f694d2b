/** Reads which server a command talks to: `--url`, or the one of the configuration. */
import type { Config } from "../config/schema.ts";
import { type CommandArgs, type CommandIo, UsageError } from "./command.ts";

export const serverOptions = {
  url: { value: "url", summary: "the server; else /ws at the configured host and port" },
  config: { value: "file", summary: "the file that host and port are taken from" },
};

/** An address without a path means `/ws`. @throws UsageError, ConfigError */
export async function serverUrlOf(args: CommandArgs, io: CommandIo): Promise<URL> {
  const text = args.value("url") ?? (await configuredUrl(args.value("config"), io));
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== "ws:" && url.protocol !== "wss:"))
    throw new UsageError(`--url must be a ws:// or wss:// address, not ${JSON.stringify(text)}`);
  if (url.pathname === "/") url.pathname = "/ws";
  return url;
}

/** As `host:port`, where this machine reaches it. @throws UsageError where only the running service knows its port */
export function configuredAddress({ host, port }: Config["server"]): string {
  if (port === 0) throw new UsageError("server.port is 0: only the running service knows its port, give --url");
  // An address that stands for all of them cannot be asked.
  const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" || host === "[::]" ? "[::1]" : host;
  const bracketed = reachable.includes(":") && !reachable.startsWith("[") ? `[${reachable}]` : reachable;
  return `${bracketed}:${port}`;
}

async function configuredUrl(file: string | undefined, { env, cwd }: CommandIo): Promise<string> {
  const { loadConfig } = await import("../config/loader.ts");
  const options = { env, cwd, uses: ["server"], checksFiles: false };
  const { config } = await loadConfig({ ...(file === undefined ? {} : { file }), ...options });
  // Its certificate is for names that the configuration does not know, and a token goes to nobody unchecked.
  if (config.server.tls !== null)
    throw new UsageError("server.tls is set: give --url wss://… with a name that the certificate is for");
  return `ws://${configuredAddress(config.server)}`;
}
