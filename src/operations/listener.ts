/** Listens inside [END3], beside the public server: metrics, the console, and the socket that the console speaks on. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Server as BunServer, WebSocketHandler } from "bun";
import type { ConsoleFiles } from "./console-files.ts";

/** Lets sockets of this listener in as if they had come to the public one, but for their origin. */
export interface InnerSockets<Data> {
  handlers: WebSocketHandler<Data>;
  /** @returns undefined where the request was upgraded */
  answer(request: Request, server: BunServer<Data>): Promise<Response | undefined>;
  addressOf(request: Request, server: BunServer<Data>): string;
  /** Whether it comes from this machine, and is not passed on for another. */
  isOfThisMachine(request: Request, server: BunServer<Data>): boolean;
  /** Has what is published reach its sockets from then on. */
  add(server: BunServer<Data>): void;
  remove(server: BunServer<Data>): void;
}

/** Bounds how often an address may be wrong about the token. */
export interface Guesses {
  mayFail(address: string): { allowed: true } | { allowed: false; retryAfterMs: number };
  noteFailure(address: string): void;
}

/** Says to the console where it is. */
export interface About {
  node_id: string;
  version: string;
  /** `trusted`: whoever connects is believed to be an admin, so only this machine may. */
  auth: "trusted" | "token";
  show_payloads: boolean;
}

export interface OperationsOptions<Data> {
  listen: { host: string; port: number };
  /** Null: whoever reaches the address may look, which is why it is loopback then. */
  token: string | null;
  metrics: { contentType: string; text(): Promise<string> };
  about: About;
  sockets: InnerSockets<Data>;
  guesses: Guesses;
  consoleFiles: () => Promise<ConsoleFiles>;
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
  // No page of another site shows it, or times it.
  "cross-origin-resource-policy": "same-origin",
};

/** All that the page has is its own: nothing inline, nobody else's. */
const contentPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** Listens at once; throws where the port is taken. */
export function startListener<Data>(options: OperationsOptions<Data>): OperationsListener {
  const { listen, metrics, about, sockets, consoleFiles, isLoopback, onFault } = options;
  const hasToken = tokenGuard(options);

  const guarded = new Map<string, () => Promise<Response> | Response>([
    ["/metrics", async () => respond(await metrics.text(), { "content-type": metrics.contentType })],
    ["/about.json", () => respond(JSON.stringify(about), { "content-type": "application/json" })],
  ]);

  async function answer(request: Request, server: BunServer<Data>): Promise<Response | undefined> {
    // A Host header that is none.
    const url = URL.parse(request.url);
    if (url === null) return refuse(400, "The Host header is not one.");
    // Another site's name that has been made to point here would be let in by the browser, as its own.
    if (options.token === null && !isLoopback(url.hostname))
      return refuse(403, "This is for the machine itself: ask by its own address.");
    const isAllowed = hasToken({ request, url, address: sockets.addressOf(request, server) });
    if (typeof isAllowed !== "boolean") return isAllowed;
    if (url.pathname === "/ws") {
      if (!isAllowed) return needsToken();
      return refuseSocket(request, server) ?? sockets.answer(withoutOrigin(request), server);
    }
    const content = guarded.get(url.pathname);
    const file = content === undefined ? (await consoleFiles()).get(url.pathname) : undefined;
    if (content === undefined && file === undefined) return refuse(404, "There is nothing here.");
    // A browser cannot be told to send a header with the address that somebody types: the page asks for the token itself,
    // and has nothing in it that anybody could not read in the sources.
    const asksItself = request.headers.get("accept")?.includes("text/html") === true && url.pathname === "/";
    if (!isAllowed && (url.pathname === "/" ? !asksItself : content !== undefined)) return needsToken();
    if (request.method !== "GET" && request.method !== "HEAD") return refuse(405, "Only GET.", { allow: "GET, HEAD" });
    if (content !== undefined) return content();
    const headers = { "content-type": file!.type, "content-security-policy": contentPolicy };
    return respond(file!.text, headers, isAllowed || url.pathname !== "/" ? 200 : 401);
  }

  /** Keeps out pages of others, and others than this machine where nobody proves to be an admin. */
  function refuseSocket(request: Request, server: BunServer<Data>): Response | null {
    const origin = request.headers.get("origin");
    if (origin !== null && URL.parse(origin)?.host !== request.headers.get("host"))
      return refuse(403, "Only the console's own page may connect here.");
    if (about.auth === "trusted" && !sockets.isOfThisMachine(request, server))
      return refuse(403, "In trusted mode only this machine may connect here: come by a tunnel.");
    return null;
  }

  const server = Bun.serve<Data>({
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
    websocket: sockets.handlers,
  });
  sockets.add(server);
  return {
    url: `http://${inUrl(listen.host)}:${server.port}`,
    async stop() {
      await server.stop(true);
      sockets.remove(server);
    },
  };
}

const inUrl = (host: string) => (host.includes(":") ? `[${host}]` : host);

/** Says whether a request has the token, or why that is not looked at. */
function tokenGuard({ token, guesses }: { token: string | null; guesses: Guesses }) {
  return ({ request, url, address }: { request: Request; url: URL; address: string }): boolean | Response => {
    if (token === null) return true;
    const given = tokenOf(request, url);
    if (given === "") return false;
    // Before it is compared, for who guesses would know a right one all the same.
    const admission = guesses.mayFail(address);
    if (!admission.allowed) {
      const seconds = String(Math.ceil(admission.retryAfterMs / 1_000));
      return refuse(429, "Too many wrong tokens from this address.", { "retry-after": seconds });
    }
    const isRight = isSame(given, token);
    if (!isRight) guesses.noteFailure(address);
    return isRight;
  };
}

/** A browser cannot send a header with a socket, nor with what is typed as an address. */
function tokenOf(request: Request, url: URL): string {
  const [, bearer] = /^Bearer +(.+)$/i.exec(request.headers.get("authorization") ?? "") ?? [];
  const inAddress = { "/": "token", "/ws": "operations_token" }[url.pathname];
  return (inAddress === undefined ? null : url.searchParams.get(inAddress)) ?? bearer ?? "";
}

/** Its origin was checked against this listener's own, which the public one need not know. */
function withoutOrigin(request: Request): Request {
  request.headers.delete("origin");
  return request;
}

/** Takes equally long whatever is wrong. */
function isSame(one: string, other: string): boolean {
  const [a, b] = [one, other].map((text) => createHash("sha256").update(text).digest());
  return timingSafeEqual(a!, b!);
}

const respond = (body: string, headers: Record<string, string>, status = 200) =>
  new Response(body, { status, headers: { ...unchanging, ...headers } });
const refuse = (status: number, message: string, headers: Record<string, string> = {}) =>
  Response.json({ message }, { status, headers: { ...unchanging, ...headers } });
const needsToken = () => refuse(401, "This needs the token of operations.token.", { "www-authenticate": "Bearer" });
