/** Proves the `connect` command against a running server: scripted, resumed over a crash, refused. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { undoAfterEach } from "../support/after-each.ts";
import { linesOf } from "../support/lines.ts";
import { program } from "../support/program.ts";
import { type Service, type ServiceOptions, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";

const root = join(import.meta.dir, "..", "..");
const { defer, stopped } = undoAfterEach();

type Message = Record<string, unknown> & { type: string; payload: Record<string, unknown> };

function run(args: string[], env: Record<string, string> = {}) {
  const child = Bun.spawn([...program, ...args], {
    cwd: root,
    env: { ...process.env, ...env },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  defer(async () => {
    child.kill("SIGKILL");
    await child.exited;
  });
  return child;
}

async function serve(options: ServiceOptions = {}): Promise<Service> {
  return stopped(await startService(options));
}

/** A client whose messages are waited for by what they are. */
function client(args: string[]) {
  const child = run(["connect", "--json", ...args]);
  const incoming = linesOf(child.stdout);
  const messages: Message[] = [];
  return {
    child,
    messages,
    type: (line: string) => {
      child.stdin.write(`${line}\n`);
      child.stdin.flush();
    },
    async until(matches: (message: Message) => boolean): Promise<Message> {
      for (;;) {
        const { done, value } = await incoming.next();
        if (done) throw new Error(`the client ended: ${await new Response(child.stderr).text()}`);
        const message = JSON.parse(value) as Message;
        messages.push(message);
        if (matches(message)) return message;
      }
    },
  };
}

const replyTo = (id: string) => (message: Message) => message.reply_to === id;
const says = (content: string) => (message: Message) => message.payload.content === content;

test("[ENV3] [MSG1] [LOG8] a script gets one answer to each of its lines, and leaves when it has them", async () => {
  const { url } = await serve();
  const child = run(["connect", "--json", "--url", url, "--user", "u1"]);
  child.stdin.write("/sub conversation c1\n/send c1 hello there\nnonsense\n");
  child.stdin.write(
    '{"id":"mine","type":"history","payload":{"topic":"conversation:c1"}}\n/read c1 1\n/who u1\n/ping\n',
  );
  child.stdin.end();
  const [text, notes, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  // One of its lines was none.
  expect([exitCode, notes]).toEqual([1, "Type a JSON message or a short form; /help lists them.\n"]);
  const messages = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Message);
  const replies = messages.filter(({ reply_to }) => reply_to !== undefined);
  expect(replies.map(({ reply_to, type }) => [reply_to, type])).toEqual([
    ["r1", "subscribed"],
    ["r2", "ack"],
    ["mine", "history"],
    ["r3", "ack"],
    ["r4", "presence.update"],
    ["r5", "pong"],
  ]);
  const events = replies[2]!.payload.events as Message[];
  expect(events.map(({ payload }) => payload.content)).toEqual(["hello there"]);
});

for (const [line, exitCode] of [
  ["/ping", 0],
  ["/send c1 hello", 0],
  ['{"type":"nothing"}', 1],
  ['{"id":7,"type":"ping"}', 1],
  ["/history user:u2", 1],
  ["/history user:u2\n/quit", 0],
] as const) {
  test(`[ENV3] a script that says ${JSON.stringify(line)} ends with ${exitCode}`, async () => {
    const { url } = await serve();
    const child = run(["connect", "--url", url, "--user", "u1"]);
    child.stdin.write(`${line}\n`);
    child.stdin.end();
    expect(await child.exited).toBe(exitCode);
  });
}

test("[ENV6] what is larger than the server takes is said to be, and not that it may have happened", async () => {
  const service = await serve();
  const { child, type, until } = client(["--url", service.url, "--user", "anna"]);
  type(JSON.stringify({ id: "large", type: "ping", payload: { x: "x".repeat(70_000) } }));
  type(JSON.stringify({ id: "small", type: "ping" }));
  await until(replyTo("small"));
  child.stdin.end();
  expect(await child.exited).toBe(1);
  expect(await new Response(child.stderr).text()).toContain("large (ping) is larger than the server takes.\n");
});

test("[LOG3] [LOG4] [ENV5] it comes back after a crash and shows what it missed, once and in order", async () => {
  const service = await serve();
  const { url, folder, port } = service;
  const reader = client(["--url", url, "--user", "u1", "--device", "reader"]);
  reader.type("/sub conversation c1");
  await reader.until(replyTo("r1"));
  const writer = client(["--url", url, "--user", "u1", "--device", "writer"]);
  writer.type("/send c1 one");
  await reader.until(says("one"));
  await writer.until(replyTo("r1"));
  await service.kill();
  await serve({ folder, settings: { SERVER__PORT: String(port) } });
  // Typed while it may still be away: it goes out once it is back.
  writer.type("/send c1 two");
  await writer.until(replyTo("r2"));
  await reader.until(says("two"));
  writer.type("/send c1 three");
  await reader.until(says("three"));
  const events = reader.messages.filter(({ type }) => type === "message.new");
  expect(events.map(({ seq, payload }) => [seq, payload.content])).toEqual([
    [1, "one"],
    [2, "two"],
    [3, "three"],
  ]);
  reader.type("/quit");
  writer.child.stdin.end();
  expect(await Promise.all([reader.child.exited, writer.child.exited])).toEqual([0, 0]);
});

test("[BAK2] a backend's shows the whole log, and goes on with it after a crash, each event once", async () => {
  const service = await serve();
  const { url, folder, port } = service;
  const reader = client(["--url", `${url}?roles=service`, "--user", "robot"]);
  reader.type("/sub log");
  await reader.until(replyTo("r1"));
  const writer = client(["--url", url, "--user", "u1"]);
  writer.type("/send c1 one");
  await reader.until(says("one"));
  await writer.until(replyTo("r1"));
  await service.kill();
  await serve({ folder, settings: { SERVER__PORT: String(port) } });
  writer.type("/send c2 two");
  await reader.until(says("two"));
  const events = reader.messages.filter(({ type }) => type === "message.new");
  expect(events.map(({ topic, seq }) => [topic, seq])).toEqual([
    ["conversation:c1", 1],
    ["conversation:c2", 1],
  ]);
});

test("[BAK2] a line of JSON shows what was logged before as well", async () => {
  const { url } = await serve();
  const writer = client(["--url", url, "--user", "u1"]);
  writer.type("/send c1 one");
  await writer.until(replyTo("r1"));
  const reader = client(["--url", `${url}?roles=service`, "--user", "robot", "--device", "archive"]);
  reader.type('{"type":"subscribe","payload":{"topics":["log"],"since":"acked"}}');
  await reader.until(says("one"));
});

test("[CON1] [ENV5] a refusal and a place taken by the same device end it with 1, nonsense options with 2", async () => {
  const { url } = await serve();
  const nobody = run(["connect", "--url", url]);
  expect([await nobody.exited, await new Response(nobody.stderr).text()]).toEqual([
    1,
    "The connection has ended: HTTP 401 not_authenticated: user_id is missing.\n",
  ]);
  const older = client(["--url", url, "--user", "u1", "--device", "d1"]);
  await older.until(({ type }) => type === "connected");
  const newer = client(["--url", url, "--user", "u1", "--device", "d1"]);
  await newer.until(({ type }) => type === "connected");
  expect([await older.child.exited, await new Response(older.child.stderr).text()]).toEqual([
    1,
    expect.stringMatching(/^The connection has ended: 4010/),
  ]);
  newer.child.kill("SIGTERM");
  expect(await newer.child.exited).toBe(0);
  expect(await run(["connect", "--url", "http://127.0.0.1/"]).exited).toBe(2);
});

test("[AUTH1] the token is taken of the environment as well, and where nobody is let in it ends with 1", async () => {
  const { url } = await serve({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } });
  const token = await signToken({ sub: "anna", exp: Math.round(Date.now() / 1_000) + 600 });
  const leave = async (env: Record<string, string>, ...lines: string[]) => {
    const child = run(["connect", "--url", url], env);
    child.stdin.write(lines.map((line) => `${line}\n`).join(""));
    child.stdin.end();
    const [text, notes, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    return { text, notes, code };
  };
  const known = await leave({ WS_SERVICE_TOKEN: token }, "/ping");
  expect(known).toMatchObject({ notes: "", code: 0, text: expect.stringContaining("anna") });
  const unknown = await leave({}, "/ping");
  expect(unknown).toMatchObject({ notes: "the server has let nobody in: --token <jwt>\n", code: 1 });
  const late = await leave({}, JSON.stringify({ type: "authenticate", payload: { token } }));
  expect(late).toMatchObject({ notes: "", code: 0 });
  expect((await leave({ WS_SERVICE_TOKEN: "nonsense" })).code).toBe(1);
});
