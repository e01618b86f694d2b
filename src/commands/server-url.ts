/** Reads which server a command talks to: `--url`. */
import { type CommandArgs, UsageError } from "./command.ts";

const defaultUrl = "ws://127.0.0.1:8086/ws";

export const urlOption = { value: "url", summary: `the server; ${defaultUrl} where it is left out` };

/** An address without a path means `/ws`. @throws UsageError */
export function serverUrlOf(args: CommandArgs): URL {
  const text = args.value("url") ?? defaultUrl;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== "ws:" && url.protocol !== "wss:"))
    throw new UsageError(`--url must be a ws:// or wss:// address, not ${JSON.stringify(text)}`);
  if (url.pathname === "/") url.pathname = "/ws";
  return url;
}
