/** Operates a running cluster from a shell: the messages of operators, one a call [ADM2]. */
import { CloseCode } from "../protocol/close.ts";
import { isPlainObject } from "../protocol/envelope.ts";
import { limits, subprotocols } from "../protocol/limits.ts";
import { visible } from "../telemetry/visible.ts";
import { adminTable } from "./admin-print.ts";
import { type AdminRequest, adminRequest, forms } from "./admin-requests.ts";
import { timeoutMsOf } from "./args.ts";
import type { Command } from "./command.ts";
import { askWhyRefused, refusedStatus } from "./refusal.ts";
import { serverOptions, serverUrlOf } from "./server-url.ts";

export const admin: Command = {
  name: "admin",
  summary: "see and change connections, topics, members and users of a running cluster",
  usage: `admin <what> [--url <url> | --config <file>] [--user <id> | --token <jwt>] [--json]

${Object.entries(forms)
  .map(([name, { words }]) => `  admin ${name} ${words}`.trimEnd())
  .join("\n")}`,
  options: {
    ...serverOptions,
    user: { value: "id", summary: "who to be, where the server trusts what it is told; admin where it is left out" },
    token: { value: "jwt", summary: "who to be, where it does not; or WS_SERVICE_TOKEN in the environment" },
    of: { value: "user", summary: "connections, disconnect: of this user" },
    connection: { value: "id", summary: "disconnect: this connection" },
    device: { value: "id", summary: "disconnect: this device" },
    node: { value: "id", summary: "connections: on this node" },
    address: { value: "ip", summary: "connections: from this address" },
    reason: { value: "text", summary: "disconnect, block: what the client is told" },
    limit: { value: "number", summary: `connections, topics: how many (100, at most ${limits.adminPage})` },
    after: { value: "cursor", summary: "connections, topics: the page after this one" },
    timeout: { value: "duration", summary: "how long to wait; 10s when left out" },
    json: { summary: "print the reply as one JSON object" },
  },
  wordsMax: 1_003,
  async run(args, io) {
    const request = adminRequest(args);
    const timeoutMs = await timeoutMsOf(args, "10s");
    const url = await serverUrlOf(args, io);
    const token = args.value("token") ?? io.env.WS_SERVICE_TOKEN ?? null;
    if (token === null) {
      url.searchParams.set("user_id", args.value("user") ?? "admin");
      url.searchParams.set("roles", "admin");
    }
    const answer = await ask({ url, token, request, timeoutMs });
    if ("failure" in answer) {
      io.stderr.write(`${visible(answer.failure)}\n`);
      return 1;
    }
    const { payload } = answer;
    io.stdout.write(args.has("json") ? `${visible(JSON.stringify(payload))}\n` : adminTable(payload));
    if (typeof payload.next === "string") io.stderr.write(`there is more: --after ${visible(payload.next)}\n`);
    const rejected = rejectedIn(payload);
    if (rejected.length > 0) io.stderr.write(`rejected: ${visible(rejected.join(", "))}\n`);
    const missing = Array.isArray(payload.missing_nodes) ? payload.missing_nodes : [];
    if (missing.length > 0) io.stderr.write(`without an answer of: ${visible(missing.join(", "))}\n`);
    return rejected.length + missing.length === 0 ? 0 : 1;
  },
};

/** Topics that some connection was not subscribed to, each once, and why. */
function rejectedIn({ connections }: Record<string, unknown>): string[] {
  const list: { rejected?: { topic: string; code: string }[] }[] = Array.isArray(connections) ? connections : [];
  return [...new Set(list.flatMap(({ rejected = [] }) => rejected.map(({ topic, code }) => `${topic} (${code})`)))];
}

type Answer = { payload: Record<string, unknown> } | { failure: string };

/** Connects, asks once and leaves. */
function ask(parts: { url: URL; token: string | null; request: AdminRequest; timeoutMs: number }): Promise<Answer> {
  const { url, token, request, timeoutMs } = parts;
  const { promise, resolve } = Promise.withResolvers<Answer>();
  // In a header, not in the URL: URLs end up in logs.
  const headers: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` };
  const socket = new WebSocket(url.href, { headers, protocols: [subprotocols.json] });
  const timer = setTimeout(() => resolve({ failure: `no answer in ${timeoutMs} ms` }), timeoutMs);
  let failure = "";
  socket.addEventListener("error", (event) => {
    failure = (event as ErrorEvent).message ?? "";
  });
  socket.addEventListener("close", async ({ code, reason }) => {
    const status = refusedStatus(failure);
    const why = status === null ? reason || failure || code : await askWhyRefused(status, { url, headers });
    resolve({ failure: `the connection has ended: ${why}` });
  });
  socket.addEventListener("message", ({ data }) => {
    const message: unknown = JSON.parse(String(data));
    if (!isPlainObject(message) || !isPlainObject(message.payload)) return;
    const { payload } = message;
    if (message.type === "connected") {
      if (payload.authenticated === true) socket.send(JSON.stringify({ id: "admin", ...request }));
      else resolve({ failure: "the server wants a token: --token <jwt>" });
    }
    if (message.reply_to !== "admin") return;
    resolve(message.type === "error" ? { failure: `${payload.code}: ${payload.message}` } : { payload });
  });
  return promise.finally(() => {
    clearTimeout(timer);
    socket.close(CloseCode.normal);
  });
}
