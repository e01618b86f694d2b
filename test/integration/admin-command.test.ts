/** Proves that operators can do from a shell what they can do by messages, and that scripts can tell how it went [ADM2]. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { admin } from "../../src/commands/admin.ts";
import { watchedLine } from "../../src/commands/admin-print.ts";
import { adminRequest, forms } from "../../src/commands/admin-requests.ts";
import { parseArgs } from "../../src/commands/args.ts";
import { clientMessageTypes } from "../../src/protocol/client.ts";
import { Client } from "../support/client.ts";
import { fresh } from "../support/people.ts";
import { program } from "../support/program.ts";
import { type Service, startService } from "../support/service.ts";
import { secret } from "../support/tokens.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  service = await startService({ settings: { CLUSTER__NODE_ID: "the-node", OPERATIONS__SAMPLE_INTERVAL: "1s" } });
});
afterAll(() => service.stop());
const clients: Client[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
});
async function connect(user_id: string, query: Record<string, string> = {}): Promise<Client> {
  const client = await Client.connect(service.url, { query: { user_id, ...query } });
  clients.push(client);
  return client;
}

async function run(words: string[], env: Record<string, string> = {}) {
  const child = Bun.spawn([...program, ...words], {
    cwd: service.folder,
    env: { PATH: process.env.PATH ?? "", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, code };
}
const operate = (...words: string[]) => run(["admin", ...words, "--url", service.url]);
const operateJson = async (...words: string[]) => {
  const { stdout, stderr, code } = await operate(...words, "--json");
  expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
  return JSON.parse(stdout);
};

test("[ADM2] stats, nodes, connections: tables for people, JSON for scripts", async () => {
  const anna = fresh("anna");
  const client = await connect(anna, { device_id: "tablet" });
  const { connection_id } = (await client.next("connected")).payload;
  const { stdout, stderr, code } = await operate("connections", "--of", anna);
  expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
  const [total, , head, row] = stdout.split("\n");
  expect(total).toMatch(/^total +1$/);
  expect(head).toMatch(/^connection_id +node_id +user_id +device_id +address +roles +format +connected_at /);
  expect(row!.split(/ +/).slice(0, 5)).toEqual([connection_id, "the-node", anna, "tablet", "127.0.0.1"]);
  expect((await operate("nodes")).stdout).toMatch(/^node_id +version .* health\nthe-node .* up\n/);
  const figures = (await operate("stats")).stdout;
  for (const name of [/^node_id +the-node$/gm, /^hub\.connections +\d+$/gm, /^cluster\.nodes +1$/gm])
    expect(figures.match(name)).toHaveLength(1);
  expect(figures).toMatch(/^push\.on +0$/m);
  expect((await operateJson("stats")).nodes).toHaveLength(1);
  expect((await operateJson("connection", connection_id)).connection).toMatchObject({ user_id: anna, topic_count: 3 });
});

test("[ADM2] a page that is not the last says how to go on", async () => {
  const anna = fresh("anna");
  await Promise.all([connect(anna), connect(anna), connect(anna)]);
  const first = await operate("connections", "--of", anna, "--limit", "2", "--json");
  const { connections, next } = JSON.parse(first.stdout);
  expect(first).toMatchObject({ code: 0, stderr: `there is more: --after ${next}\n` });
  const second = await operateJson("connections", "--of", anna, "--limit", "2", "--after", next);
  expect([...connections, ...second.connections]).toHaveLength(3);
});

test("[ADM2] [LOG9] [BAK4] how long a conversation keeps its events, and erasing a user and how far that is", async () => {
  const zoe = fresh("zoe");
  const client = await connect(zoe);
  expect(await operate("conversations", "update", "c1", "36h")).toEqual({ stdout: "done\n", stderr: "", code: 0 });
  expect(await operateJson("conversations", "update", "c1", "null")).toEqual({});
  expect(await operateJson("users", "erasure", zoe)).toMatchObject({ user_id: zoe, state: "none", finished_at: null });
  expect(await operate("users", "erase", zoe)).toEqual({ stdout: "done\n", stderr: "", code: 0 });
  expect((await client.closed).code).toBe(4011);
  const { stdout, code } = await operate("users", "erasure", zoe);
  expect([code, stdout]).toEqual([0, expect.stringMatching(/^state +running$/m)]);
});

test("[ADM2] [MSG5] members, users, topics, subscribe, block and disconnect do what their messages do", async () => {
  const [anna, c] = [fresh("anna"), fresh("c")];
  expect(await operate("users", "upsert", anna)).toEqual({ stdout: "done\n", stderr: "", code: 0 });
  const client = await connect(anna);
  await operateJson("members", "add", c, anna);
  expect((await operateJson("subscribe", anna, `conversation:${c}`)).connections).toHaveLength(1);
  await client.next("subscribed", ({ topics }) => topics[0].topic === `conversation:${c}`);
  expect((await operateJson("topics", `conversation:${c}`)).topics).toEqual([
    { topic: `conversation:${c}`, subscribers: 1 },
  ]);
  expect((await operateJson("topic", `conversation:${c}`)).subscribers).toBe(1);
  expect(await operate("members", "mute", c, anna)).toEqual({ stdout: "done\n", stderr: "", code: 0 });
  await client.next("member.updated", ({ user_id, may_write }) => user_id === anna && !may_write);
  await operateJson("members", "unmute", c, anna);
  await client.next("member.updated", ({ may_write }) => may_write);
  expect(await operate("members", "mute", c, fresh("nobody"))).toMatchObject({
    stderr: expect.stringContaining("There is no such member of this conversation."),
    code: 1,
  });
  await operateJson("unsubscribe", anna, `conversation:${c}`);
  await client.next("unsubscribed");
  await operateJson("members", "remove", c, anna);
  expect(await operateJson("disconnect", "--of", anna, "--reason", "bye")).toEqual({
    disconnected: 1,
    missing_nodes: [],
  });
  expect(await client.closed).toEqual({ code: 4011, reason: "bye" });
  const { until } = await operateJson("block", anna, "10m");
  expect(until).toBeString();
  expect(await operateJson("users", "show", anna)).toEqual({ user_id: anna, state: "active", blocked_until: until });
  await expect(connect(anna)).rejects.toThrow();
  expect((await operateJson("block", anna, "0")).until).toBeNull();
  await operateJson("users", "disable", anna);
  const { stdout, code } = await operate("users", "show", anna);
  expect([code, stdout]).toEqual([0, expect.stringMatching(/^state +disabled\nblocked_until +-$/m)]);
  await expect(connect(anna)).rejects.toThrow();
  await operateJson("users", "enable", anna);
  await connect(anna);
});

test("[ADM2] members list, connections of a device, and the last hour", async () => {
  const [anna, c, device_id] = [fresh("anna"), fresh("c"), fresh("tablet")];
  await operateJson("members", "add", c, anna);
  expect((await operateJson("members", "list", c)).members).toEqual([{ user_id: anna, may_write: true }]);
  await connect(anna, { device_id });
  expect((await operateJson("connections", "--device", device_id)).total).toBe(1);
  const { samples } = await eventually(
    () => operateJson("samples"),
    (it) => it.samples.length > 0,
  );
  const { stdout } = await operate("samples", "--after", samples[0].at, "--node", "the-node");
  expect(stdout).toMatch(
    /^(no samples|at +connections +in\/s +out\/s +append ms +delivery ms +position +lag +missed +slow +refusals)\n/,
  );
});

test("[ADM2] watch prints each message of a connection until it ends, or until one leaves", async () => {
  const client = await connect(fresh("anna"));
  const { connection_id } = (await client.next("connected")).payload;
  const watch = (...more: string[]) => {
    const words = ["admin", "watch", connection_id, "--url", service.url, ...more];
    return Bun.spawn([...program, ...words], {
      cwd: service.folder,
      env: { PATH: process.env.PATH ?? "" },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
  };
  const isWatched = (count: number) =>
    eventually(
      async () =>
        service.logs.filter(
          ({ msg, ...it }) => msg === "a connection is watched" && it.connection_id === connection_id,
        ),
      (lines) => lines.length === count,
    );
  const leaver = watch();
  await isWatched(1);
  leaver.kill("SIGINT");
  expect([await leaver.exited, await leaver.stdout.text()]).toEqual([0, "ended  here\n"]);
  const watcher = watch("--json");
  await isWatched(2);
  await client.settled();
  await client.close(4_999);
  expect(await watcher.exited).toBe(0);
  const lines = (await watcher.stdout.text())
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines.map(({ direction, type }) => [direction, type])).toEqual([
    ["received", "ping"],
    ["sent", "pong"],
    [undefined, undefined],
  ]);
  expect(lines.at(-1)).toEqual({ ended: "closed", code: 4_999 });
  expect(
    watchedLine({
      at: "2026-11-22T23:26:48.520Z",
      direction: "sent",
      type: "message.new",
      topic: "conversation:c1",
      seq: 12,
      bytes: 391,
    }),
  ).toBe("23:26:48.520 > message.new conversation:c1 #12 391 B");
  expect(await operate("watch", "none")).toMatchObject({ code: 1, stderr: expect.stringMatching(/^not_found: /) });
  expect(await operate("watch", connection_id, "--payloads")).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^forbidden: /),
  });
});

test("[ADM2] topics that somebody may not subscribe to: exit code 1, and which they are", async () => {
  const [anna, ben] = [fresh("anna"), fresh("ben")];
  await connect(anna);
  expect(await operate("subscribe", anna, `user:${ben}`, `conversation:${fresh("c")}`)).toMatchObject({
    stdout: expect.stringContaining("forbidden"),
    stderr: `rejected: user:${ben} (forbidden)\n`,
    code: 1,
  });
});

test("[ADM2] [CON1] a refusal and a server that is not there: exit code 1, and the reason", async () => {
  expect(await operate("connection", "none")).toMatchObject({
    stdout: "",
    code: 1,
    stderr: expect.stringMatching(/^not_found: /),
  });
  for (const [words, reason] of [
    [["--url", service.url, "--user", "a b"], "HTTP 400 bad_query: user_id must"],
    [["--url", service.http.replace("http", "ws").concat("/nowhere")], "HTTP 404 not_found: There is nothing here."],
  ] as const) {
    const { stderr, code } = await run(["admin", "stats", ...words]);
    expect([code, stderr]).toEqual([1, expect.stringContaining(`the connection has ended: ${reason}`)]);
  }
  const away = await run(["admin", "stats", "--url", "ws://127.0.0.1:1/ws"]);
  expect(away).toMatchObject({ stdout: "", code: 1, stderr: expect.stringMatching(/^the connection has ended: ./) });
});

test("[ADM2] [ENV6] what is larger than the server takes is said to be, and not waited for", async () => {
  const users = Array.from({ length: 1_000 }, (_, at) => `${"u".repeat(100)}${at}`);
  expect(await operate("users", "upsert", ...users)).toEqual({
    stdout: "",
    stderr: "This is larger than the server takes.\n",
    code: 1,
  });
});

test("[ADM2] [AUTH2] with tokens: the role is the token's, and without one it says what is wanted", async () => {
  const strict = await startService({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } });
  try {
    const mint = async (...words: string[]) =>
      (await run(["token", "--user", "root", ...words], { WS__AUTH__SECRET: secret })).stdout.trim();
    const [good, plain] = await Promise.all([mint("--role", "admin"), mint()]);
    const stats = (words: string[], env = {}) => run(["admin", "stats", "--json", "--url", strict.url, ...words], env);
    expect((await stats(["--token", good])).code).toBe(0);
    expect((await stats([], { WS_SERVICE_TOKEN: good })).code).toBe(0);
    expect(await stats(["--token", plain])).toMatchObject({ code: 1, stderr: expect.stringMatching(/^forbidden: /) });
    expect(await stats(["--token", "nonsense"])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^the connection has ended: HTTP 401 token_invalid: /),
    });
    expect((await stats([])).stderr).toContain("--token");
  } finally {
    await strict.stop();
  }
});

const requestOf = (...words: string[]) => adminRequest(parseArgs(admin, words));

test("[ADM2] every message of operators has its form", () => {
  // A watch ends with the command.
  const adminTypes = clientMessageTypes.filter((type) => type.startsWith("admin.") && type !== "admin.unwatch");
  const types = Object.values(forms).map(({ type }) => type);
  expect([...new Set<string>(types)].sort()).toEqual([...adminTypes].sort());
});

test("[ADM2] block takes a duration, or 0", () => {
  expect(requestOf("block", "u1", "0").payload).toEqual({ user_id: "u1", for: 0 });
  expect(requestOf("block", "u1", "1.5h", "--reason", "spam").payload).toEqual({
    user_id: "u1",
    for: "1.5h",
    reason: "spam",
  });
});

const senseless: string[][] = [
  [],
  ["nothing"],
  ["members"],
  ["members", "add", "c1"],
  ["members", "mute", "c1"],
  ["members", "unmute", "c1", "u1", "u2"],
  ["stats", "more"],
  ["disconnect"],
  ["disconnect", "u1"],
  ["block", "u1"],
  ["block", "u1", "soon"],
  ["connections", "--limit", "many"],
  ["connections", "--limit", "501"],
  ["topic", ""],
  ["users", "upsert", "u 1"],
  ["users", "erase"],
  ["users", "erase", "u1", "u2"],
  ["users", "erasure", "u 1"],
  ["conversations", "update", "c1"],
];
for (const words of senseless) {
  test(`[ADM2] admin ${words.join(" ")}: refused before anybody is asked`, () => {
    expect(() => requestOf(...words)).toThrow(expect.objectContaining({ name: "UsageError" }));
  });
}

for (const [line, fault] of [
  ["disconnect", "admin disconnect needs --of, --connection or --device"],
  ["disconnect --of anna --node n2 --limit 1", "admin disconnect does not take --node"],
  ["users disable ben --reason bye --of anna", "admin users disable does not take --of"],
  ["topics --of anna", "admin topics does not take --of"],
  ["stats --after a", "admin stats does not take --after"],
  ["connection x1 --payloads", "admin connection does not take --payloads"],
  ["samples --after yesterday", "admin samples: --after must"],
  ["connections --limit x", "admin connections: --limit must be a whole number"],
  ["conversations update c1 59s", "the retention must be a duration from 1m to 36500d, such as 12h or 30d, or null"],
  ["block anna 20y", "the time must be seconds or a duration such as 30s, 10m, 24h or 7d, at most 10 years"],
  ["block anna 24", "the time must have its unit, such as 24m or 24h; 0 lifts the block"],
  ["block anna 1.5", "the time must have its unit, such as 1.5m or 1.5h"],
] as const) {
  test(`[ADM2] admin ${line}: says ${fault}`, () => {
    expect(() => requestOf(...line.split(" "))).toThrow(fault);
  });
}

test("[ADM2] what makes no sense: exit code 2", async () => {
  expect(await run(["admin", "nothing"])).toMatchObject({ stdout: "", code: 2 });
  expect(await operate("stats", "--timeout", "soon")).toMatchObject({ stdout: "", code: 2 });
  const anna = fresh("anna");
  const client = await connect(anna);
  expect(await operate("disconnect", "--of", anna, "--node", "other")).toMatchObject({ stdout: "", code: 2 });
  await client.settled();
});

test("[ADM2] [OPS2] admin and connect without --url go to the host and port of the configuration", async () => {
  const port = new URL(service.url).port;
  const configured = { WS__SERVER__PORT: port };
  const { stdout, code } = await run(["admin", "nodes"], configured);
  expect({ stdout, code }).toEqual({ stdout: expect.stringContaining("the-node"), code: 0 });
  expect((await run(["connect", "--user", fresh("anna")], configured)).code).toBe(0);
  const file = join(service.folder, "other.yaml");
  writeFileSync(file, `server: { host: 0.0.0.0, port: ${port} }\nauth: { behind_gateway: true }\n`);
  for (const words of [
    ["admin", "nodes"],
    ["connect", "--user", fresh("anna")],
  ])
    expect((await run([...words, "--config", file])).code).toBe(0);
  expect((await run(["admin", "nodes"], { WS__SERVER__PORT: "0" })).stderr).toContain("server.port is 0");
  writeFileSync(file, "server: { tls: { cert_file: a.pem, key_file: b.pem } }\n");
  const secured = await run(["admin", "nodes", "--config", file]);
  expect(secured.stderr).toContain("server.tls is set: give --url wss://…");
  expect((await run(["admin", "nodes"], { WS__SERVER__PORT: "many" })).stderr).toContain("server.port");
});
