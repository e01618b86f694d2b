/** Listens inside [END3], beside the public server: metrics and a console. */
import { createHash, timingSafeEqual } from "node:crypto";
import { consolePage } from "./console-page.ts";

export interface OperationsOptions {
  listen: { host: string; port: number };
  /** Null: whoever reaches the address may look, which is why it is loopback then. */
  token: string | null;
  metrics: {
    contentType: string;
    text(): Promise<string>;
    snapshot(): Promise<object>;
  };
  /** Whether a name stands for this machine alone. */
  isLoopback: (host: string) => boolean;
  onFault: (error: Error) => void;
}

export interface OperationsListener {
  /** `http://127.0.0.1:9090` */
  url: string;
  stop(): Promise<void>;
}

const unchanging = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};

/** Listens at once; throws where the port is taken. */
export function startListener(options: OperationsOptions): OperationsListener {
  const { listen, metrics, onFault } = options;

  async function answer(request: Request): Promise<Response> {
    // A Host header that is none.
    const url = URL.parse(request.url);
    if (url === null) return refuse(400, "The Host header is not one.");
    const content = contents.get(url.pathname);
    if (content === undefined) return refuse(404, "There is nothing here.");
    const refusal = refusalResponse(request, url, options);
    if (refusal !== null) return refusal;
    if (request.method !== "GET" && request.method !== "HEAD") return refuse(405, "Only GET.", { allow: "GET, HEAD" });
    return content();
  }

  const contents = new Map<string, () => Promise<Response>>([
    ["/metrics", async () => respond(await metrics.text(), { "content-type": metrics.contentType })],
    [
      "/stats.json",
      async () => respond(JSON.stringify(await metrics.snapshot()), { "content-type": "application/json" }),
    ],
    [
      "/",
      async () => {
        const nonce = crypto.randomUUID();
        return respond(consolePage(nonce), {
          "content-type": "text/html; charset=utf-8",
          "content-security-policy": `default-src 'none'; connect-src 'self'; img-src data:; style-src 'nonce-${nonce}'; script-src 'nonce-${nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
        });
      },
    ],
  ]);

  const server = Bun.serve({
    hostname: listen.host,
    port: listen.port,
    development: false,
    // Said, because it is the default where `development` is false: a port that is taken has to be a fault.
    reusePort: false,
    idleTimeout: 30,
    maxRequestBodySize: 1024,
    fetch: answer,
    error(error) {
      onFault(error);
      return refuse(500, "Something went wrong here.");
    },
  });
  const host = listen.host.includes(":") ? `[${listen.host}]` : listen.host;
  return { url: `http://${host}:${server.port}`, stop: () => server.stop(true) };
}

function refusalResponse(request: Request, url: URL, { token, isLoopback }: OperationsOptions): Response | null {
  if (token === null) {
    // Another site's name that has been made to point here would be let in by the browser, as its own.
    return isLoopback(url.hostname) ? null : refuse(403, "This is for the machine itself: ask by its own address.");
  }
  const [, bearer] = /^Bearer +(.+)$/i.exec(request.headers.get("authorization") ?? "") ?? [];
  // A browser cannot be told to send a header with the address that somebody types.
  const given = bearer ?? (url.pathname === "/" ? url.searchParams.get("token") : null);
  if (given !== null && given !== undefined && isSame(given, token)) return null;
  return refuse(401, "This needs the token of operations.token.", { "www-authenticate": "Bearer" });
}

/** Takes equally long whatever is wrong. */
function isSame(one: string, other: string): boolean {
  const [a, b] = [one, other].map((text) => createHash("sha256").update(text).digest());
  return timingSafeEqual(a!, b!);
}

const respond = (body: string, headers: Record<string, string>) =>
  new Response(body, { headers: { ...unchanging, ...headers } });
const refuse = (status: number, message: string, headers: Record<string, string> = {}) =>
  Response.json({ message }, { status, headers: { ...unchanging, ...headers } });
