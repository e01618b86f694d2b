/** Operates a running cluster from a shell: the messages of operators, one a call [ADM2]. */
import { wantsToken } from "../client/connection/line.ts";
import { ClientError, ServerError } from "../client/errors.ts";
import { limits } from "../protocol/limits.ts";
import type { ServerPayload } from "../protocol/server.ts";
import { visible } from "../telemetry/visible.ts";
import { adminTable, watchedLine } from "./admin-print.ts";
import { type AdminRequest, adminRequest, forms } from "./admin-requests.ts";
import { columns, timeoutMsOf } from "./args.ts";
import type { Command, CommandIo } from "./command.ts";
import { openServerSession, type ServerSession } from "./server-session.ts";
import { serverOptions, serverUrlOf } from "./server-url.ts";

export const admin: Command = {
  name: "admin",
  summary: "see and change connections, topics, members and users of a running cluster",
  usage: `admin <what> [--url <url> | --config <file>] [--user <id> | --token <jwt>] [--json]

${columns(Object.entries(forms).map(([name, { words, summary }]) => [`admin ${name} ${words}`.trimEnd(), summary])).trimEnd()}`,
  examples: [
    "admin nodes --url wss://chat.example.com/ws",
    "admin connections --of anna --json",
    'admin disconnect --of anna --reason "a leaked token"',
    "admin block anna 24h",
    "admin members add c1 anna ben",
  ],
  options: {
    ...serverOptions,
    user: { value: "id", summary: "who to be, where the server trusts what it is told; admin where it is left out" },
    token: { value: "jwt", summary: "who to be, where it does not; or WS_SERVICE_TOKEN in the environment" },
    of: { value: "user", summary: "connections, disconnect: of this user" },
    connection: { value: "id", summary: "disconnect: this connection" },
    device: { value: "id", summary: "connections, disconnect: this device" },
    node: { value: "id", summary: "connections, samples: of this node alone" },
    address: { value: "ip", summary: "connections: from this address" },
    reason: { value: "text", summary: "disconnect, block: what the client is told" },
    payloads: { summary: "watch: show what is in the messages, where operations.show_payloads allows it" },
    limit: { value: "number", summary: `connections, topics, members: how many (100, at most ${limits.adminPage})` },
    after: {
      value: "cursor",
      summary: "connections, topics, members: the page after this one; samples: after this moment",
    },
    timeout: { value: "duration", summary: "how long to wait; 10s when left out" },
    json: { summary: "print the reply as one JSON object" },
  },
  words: Object.keys(forms),
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
    const onWatched = (payload: Payload) => {
      const { messages } = payload as ServerPayload<"admin.watched">;
      const line = args.has("json") ? (it: object) => visible(JSON.stringify(it)) : watchedLine;
      for (const message of messages) io.stdout.write(`${line(message)}\n`);
      if (payload.left_out !== 0) io.stderr.write(`and ${payload.left_out} more\n`);
    };
    const answer = await ask({ url, token, request, timeoutMs, onWatched, signals: io.signals });
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

/** Why there is no answer where the connection has ended, of which its state tells more. */
const endCodes: ReadonlySet<ClientError["code"]> = new Set(["connection_lost", "stopped"]);

type Payload = Record<string, unknown>;
type Answer = { payload: Record<string, unknown> } | { failure: string };

interface Question {
  url: URL;
  token: string | null;
  request: AdminRequest;
  timeoutMs: number;
  onWatched: (payload: Payload) => void;
  signals: CommandIo["signals"];
}

/** Connects, asks once and leaves; whoever watches stays until that ends, or is told to leave. */
async function ask({ url, token, request, timeoutMs, onWatched, signals }: Question): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>();
  const server: ServerSession = openServerSession({
    url,
    token: () => token,
    ownTopics: [],
    onNews() {},
    onState(state) {
      if (state.status === "stopped" && state.message === wantsToken)
        resolve({ failure: "the server wants a token: --token <jwt>" });
      else if (state.status === "waiting" || state.status === "stopped")
        void server.explain().then((why) => resolve({ failure: `the connection has ended: ${why}` }));
    },
    onTaken({ type, payload }) {
      if (type !== "admin.watched") return;
      onWatched(payload);
      const { ended, code } = payload;
      if (ended !== undefined) resolve({ payload: { ended, ...(code === undefined ? {} : { code }) } });
    },
  });
  const { session } = server;
  const watches = request.type === "admin.watch";
  // From the start: it may be told to leave before it has heard that it watches.
  if (watches) signals.onTerminate(() => resolve({ payload: { ended: "here" } }));
  session.start();
  session.ask(request.type, request.payload, { timeoutMs }).then(
    (payload) => {
      if (!watches) resolve({ payload });
    },
    (error: unknown) => {
      if (error instanceof ServerError) resolve({ failure: `${error.code}: ${error.message}` });
      else if (error instanceof ClientError && !endCodes.has(error.code))
        resolve({ failure: error.code === "timeout" ? `no answer in ${timeoutMs} ms` : error.message });
    },
  );
  return promise.finally(() => session.stop());
}
