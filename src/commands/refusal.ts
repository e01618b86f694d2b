/** Finds out why a server refused a WebSocket: Bun's client keeps the answer's body to itself [CON1]. */
import { get as getPlain, type IncomingMessage } from "node:http";
import { get as getSecure } from "node:https";
import { isPlainObject } from "../protocol/envelope.ts";

/** How long the reason may take; without it there is still the status. */
const reasonMs = 2_000;
const bodyCharactersMax = 10_000;

/** Request that the server was asked for. */
export interface RefusedRequest {
  url: URL;
  headers: Record<string, string>;
}

/** The HTTP status of a refusal, out of what Bun's client says of a connection that failed. */
export function refusedStatus(failure: string): number | null {
  const status = /status code: (\d{3})\b/.exec(failure)?.[1];
  return status === undefined ? null : Number(status);
}

/**
 * Asks once more, with a request that looks like the first and cannot become a WebSocket: it has no key.
 * @returns `HTTP 401 token_expired: …`, or the status alone where the server says something else this time
 */
export async function askWhyRefused(status: number, refused: RefusedRequest): Promise<string> {
  const signal = AbortSignal.timeout(reasonMs);
  // A server that answers 101 after all is not heard of by the request, not even when it is aborted.
  const late = new Promise<null>((done) => signal.addEventListener("abort", () => done(null)));
  const said = await Promise.race([ask(refused, signal).catch(() => null), late]);
  return said === null || said.status !== status ? `HTTP ${status}` : `HTTP ${status} ${said.reason}`.trimEnd();
}

/** Not by `fetch`: that would obey HTTP_PROXY, and the credentials are not a proxy's. */
async function ask({ url, headers }: RefusedRequest, signal: AbortSignal): Promise<{ status: number; reason: string }> {
  const plain = new URL(url);
  plain.protocol = url.protocol === "wss:" ? "https:" : "http:";
  const options = {
    agent: false,
    signal,
    headers: { ...headers, connection: "Upgrade", upgrade: "websocket" },
  } as const;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = plain.protocol === "https:" ? getSecure(plain, options, resolve) : getPlain(plain, options, resolve);
  request.on("error", reject);
  const response = await promise;
  let text = "";
  for await (const part of response.setEncoding("utf8")) {
    text += part;
    if (text.length > bodyCharactersMax) break;
  }
  return { status: response.statusCode ?? 0, reason: reasonIn(text) };
}

/** `code: message`; `""` where it is not the service that has answered. */
function reasonIn(text: string): string {
  try {
    const body: unknown = JSON.parse(text);
    return isPlainObject(body) && typeof body.code === "string" ? `${body.code}: ${body.message}` : "";
  } catch {
    return "";
  }
}
