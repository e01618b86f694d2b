/** Asks a running service whether it is well: for container health checks and scripts. */
import type { IncomingMessage } from "node:http";
import type { Config } from "../config/schema.ts";
import { visible } from "../telemetry/visible.ts";
import { timeoutMsOf } from "./args.ts";
import { type Command, UsageError } from "./command.ts";
import { configuredAddress } from "./server-url.ts";

export const health: Command = {
  name: "health",
  summary: "ask a running service whether it is ready; exit code 0 or 1",
  usage: "health [--url <url>] [--timeout <duration>] [--insecure] [--config <file>]",
  details:
    "It asks as a probe does, and reads neither secrets nor certificates. What is not ready is said on standard error.",
  examples: ["health", "health --url http://10.0.0.7:8086/ready --timeout 1s"],
  options: {
    url: { summary: "what to ask; else /ready at the configured host and port", value: "url" },
    timeout: { summary: "how long to wait; 3s when left out", value: "duration" },
    insecure: { summary: "with --url: do not check the TLS certificate; without, it is never checked" },
    config: { summary: "the file that host and port are taken from", value: "file" },
  },
  async run(args, io) {
    const timeoutMs = await timeoutMsOf(args, "3s");
    let url = args.value("url");
    // The service of the configuration is asked where it listens, and its certificate is for the names that others use.
    const insecure = url === undefined || args.has("insecure");
    if (url === undefined) {
      // Loaded only where it is needed: this runs every few seconds.
      const { loadConfig } = await import("../config/loader.ts");
      // While certificates are replaced the service goes on with the former ones, and is well.
      const options = { env: io.env, cwd: io.cwd, uses: ["server"], checksFiles: false };
      const { config } = await loadConfig({ file: args.value("config"), ...options });
      url = readyUrl(config.server);
    }
    if (!/^https?:\/\//i.test(url) || !URL.canParse(url))
      throw new UsageError(`--url must be an http:// or https:// URL, not ${url}`);
    const failure = await ask(url, { timeoutMs, insecure });
    if (failure === null) io.stdout.write(`ok: ${url}\n`);
    else io.stderr.write(`not ready: ${url}: ${visible(failure)}\n`);
    return failure === null ? 0 : 1;
  },
};

/**
 * Not by `fetch`: that would obey HTTP_PROXY, and a proxy's word is not the service's. A redirect is no answer either.
 * @returns null where the service answered 2xx in time, else what happened, in one line
 */
async function ask(
  url: string,
  { timeoutMs, insecure }: { timeoutMs: number; insecure: boolean },
): Promise<string | null> {
  const { promise, resolve } = Promise.withResolvers<string | null>();
  const options = { agent: false, signal: AbortSignal.timeout(timeoutMs) } as const;
  const answered = (response: IncomingMessage) => {
    const { statusCode = 0, statusMessage = "" } = response;
    response.destroy();
    resolve(statusCode >= 200 && statusCode < 300 ? null : `${statusCode} ${statusMessage}`.trim());
  };
  const request = url.toLowerCase().startsWith("https:")
    ? (await import("node:https")).get(url, { ...options, rejectUnauthorized: !insecure }, answered)
    : (await import("node:http")).get(url, options, answered);
  request.on("error", (error) => {
    const late = options.signal.aborted;
    resolve(late ? `no answer in ${timeoutMs} ms` : error.message.replaceAll("\n", " "));
  });
  return promise;
}

const readyUrl = (server: Config["server"]) =>
  `${server.tls === null ? "http" : "https"}://${configuredAddress(server)}/ready`;
