/** Proves in a real browser what an operator sees and does in the console, under its own content policy [END3] [ADM1]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { launchChromium } from "../support/chromium.ts";
import { Client } from "../support/client.ts";
import { freePorts } from "../support/free-ports.ts";
import { fresh } from "../support/people.ts";
import { startPostgres } from "../support/postgres.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Service, startClusterNode, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";

setDefaultTimeout(120_000);

/** With the limits that there are where nothing is configured. */
const listening = {
  OPERATIONS__LISTEN: "127.0.0.1:0",
  OPERATIONS__SAMPLE_INTERVAL: "1s",
  RATE_LIMITS__ENABLED: "true",
};
const consoleOf = async (service: Service) =>
  String((await service.logged(({ msg }) => msg === "metrics and console")).url);

let browser: Browser;
beforeAll(async () => {
  browser = await launchChromium();
});
afterAll(() => browser?.close());

interface Opened {
  page: Page;
  /** Lists what the browser complained of, the content policy's refusals among it. */
  complaints: string[];
  asked: string[];
  close(): Promise<void>;
}

async function open(address: string, options: Parameters<Browser["newContext"]>[0] = {}): Promise<Opened> {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const complaints: string[] = [];
  const asked: string[] = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => asked.push(request.url()));
  page.on("websocket", (socket) => asked.push(socket.url().replace(/^ws/, "http")));
  await page.goto(address);
  return { page, complaints, asked, close: () => context.close() };
}

async function signIn(page: Page, text?: string): Promise<void> {
  if (text !== undefined) await page.getByRole("textbox").or(page.locator("input[type=password]")).fill(text);
  await page.getByRole("button", { name: "Sign in" }).click();
}

const tile = (page: Page, name: string, value: string | RegExp) =>
  page.locator(".tiles > div").filter({ hasText: name }).locator("dd").filter({ hasText: value }).waitFor();
const go = (page: Page, name: string) => page.getByRole("navigation").getByRole("link", { name }).click();
const rowOf = (page: Page, table: string, text: string) =>
  page.getByRole("table", { name: table }).getByRole("row").filter({ hasText: text });

/** Opens the form of an action, fills it in and has it done. */
async function act(
  page: Page,
  button: ReturnType<Page["getByRole"]>,
  fields: Record<string, string> = {},
): Promise<void> {
  await button.click();
  const dialog = page.locator("dialog[open]");
  for (const [label, text] of Object.entries(fields)) await dialog.getByLabel(label).fill(text);
  await dialog.locator("button[type=submit]").click();
}

describe("on one node", () => {
  let service: Service;
  let url: string;
  let opened: Opened;
  const clients: Client[] = [];
  const connect = async (user_id: string, device_id = `${user_id}-phone`): Promise<Client> => {
    const client = await Client.connect(service.url, { query: { user_id, device_id } });
    clients.push(client);
    return client;
  };
  beforeAll(async () => {
    service = await startService({
      settings: { ...listening, CLUSTER__NODE_ID: "the-node", OPERATIONS__SHOW_PAYLOADS: "true" },
    });
    url = await consoleOf(service);
    opened = await open(url);
    await signIn(opened.page, "root");
  });
  afterAll(async () => {
    await Promise.all(clients.map((client) => client.close()));
    await opened?.close();
    await service?.stop();
  });

  test("[END3] [ADM1] figures move, and the last hour is drawn", async () => {
    const { page } = opened;
    await tile(page, "Connections", "1");
    const [anna, ben] = [await connect(fresh("anna")), await connect(fresh("ben"))];
    await tile(page, "Connections", "3");
    for (const client of [anna, ben]) await client.ask("subscribe", { topics: ["conversation:c1"] });
    await anna.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hi" });
    await anna.request("history", { topic: "user:another" });
    await tile(page, "Log head", "1");
    await tile(page, "Refusals", /[1-9]/);
    await page.getByText("Refused in the hour: forbidden").waitFor();
    await page
      .getByRole("img", { name: /^Connections, now: connections [1-9]/ })
      .locator("canvas")
      .waitFor();
    // A mean is of the seconds in which something was appended.
    const send = () =>
      anna.ask("message.send", { conversation_id: "c1", client_message_id: fresh("m"), content: "hi" });
    const sending = setInterval(() => void send(), 250);
    await page.getByRole("img", { name: /^Append to the log, now: mean [\d.]+ ms, longest/ }).waitFor();
    clearInterval(sending);
    await page.getByText("All figures").click();
    await page.getByRole("heading", { name: "sequencer" }).waitFor();
    await ben.close();
    await tile(page, "Connections", "2");
  });

  test("[END3] [ADM1] the node, and connections by user, device and address", async () => {
    const { page } = opened;
    const [carl, dora] = [fresh("carl"), fresh("dora")];
    await Promise.all([connect(carl, "tablet"), connect(dora, "tablet"), connect(dora, "laptop")]);
    await go(page, "Nodes");
    await rowOf(page, "Nodes", "the-node").getByText("yes").waitFor();
    await page.getByRole("link", { name: "the-node" }).click();
    await page.getByRole("heading", { name: "Node the-node" }).waitFor();
    await go(page, "Users");
    const search = async (kind: string, text: string, found: number) => {
      await page.getByLabel("Search by").selectOption(kind);
      await page.getByRole("searchbox").fill(text);
      await page.getByRole("button", { name: "Search" }).click();
      await page.getByText(new RegExp(`^${found} connections?$`)).waitFor();
    };
    await search("user", dora, 2);
    expect(await rowOf(page, "Connections", carl).count()).toBe(0);
    await search("device", "tablet", 2);
    await rowOf(page, "Connections", carl).waitFor();
    await search("address", "192.0.2.1", 0);
    await page.getByText("Nobody is connected so.").waitFor();
    const id = (await clients.at(-1)!.next("connected")).payload.connection_id;
    await page.getByLabel("Search by").selectOption("connection");
    await page.getByRole("searchbox").fill(id);
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByRole("heading", { name: id }).waitFor();
  });

  test("[END3] [ADM1] a connection's messages are seen live, with what is in them where that is allowed, until one stops or it ends", async () => {
    const { page } = opened;
    const emil = await connect(fresh("emil"));
    const { connection_id: id } = (await emil.next("connected")).payload;
    await page.goto(`${url}/#/connections/${id}`);
    await page.getByLabel("with what is in them").check();
    await page.getByRole("button", { name: "Watch" }).click();
    await page.getByText("watching", { exact: true }).waitFor();
    await emil.ask("message.send", { conversation_id: "c2", client_message_id: "m1", content: "look at me\u202eem" });
    const list = page.getByRole("list", { name: "Newest first" });
    await list.getByRole("listitem").filter({ hasText: "message.send" }).getByText("look at me\\u202eem").waitFor();
    await list.getByRole("listitem").filter({ hasText: "ack" }).first().waitFor();
    await page.getByRole("button", { name: "Stop" }).click();
    await service.logged((line) => line.msg === "a connection is watched no more" && line.connection_id === id);
    await emil.settled();
    await page.getByRole("button", { name: "Watch" }).click();
    await page.getByText("watching", { exact: true }).waitFor();
    expect(await list.getByText("ping").count()).toBe(0);
    await act(page, page.getByRole("button", { name: "Disconnect" }), { "Reason, which the client is told": "enough" });
    expect(await emil.closed).toEqual({ code: 4011, reason: "enough" });
    await page.getByText("ended: closed (4011)").waitFor();
    const line = await service.logged((it) => it.msg === "a connection is watched" && it.connection_id === id);
    expect(line).toMatchObject({ by: "root", shows_payloads: true });
  });

  test("[END3] [ADM1] a user is disconnected, blocked and let in again", async () => {
    const { page } = opened;
    const user = fresh("fred");
    const first = await connect(user);
    await page.goto(`${url}/#/users/${user}`);
    await page.getByText("1 connection", { exact: true }).waitFor();
    await act(page, page.getByRole("button", { name: "Disconnect" }));
    expect((await first.closed).code).toBe(4011);
    await page.getByText("1 connection closed.").waitFor();
    const second = await connect(user);
    await act(page, page.getByRole("button", { name: "Block", exact: true }), { "For how long": "10m" });
    expect((await second.closed).code).toBe(4011);
    await page.getByText(/^Blocked until .*; 1 connection closed\.$/).waitFor();
    const standing = page.getByText(/^blocked until/);
    await standing.waitFor();
    await expect(connect(user)).rejects.toThrow();
    await act(page, page.getByRole("button", { name: "Unblock" }));
    await page.getByText("The block is lifted.").waitFor();
    await standing.waitFor({ state: "detached" });
    await connect(user);
    await act(page, page.getByRole("button", { name: "Block", exact: true }), { "For how long": "soon" });
    await page.getByText(/must be seconds or a duration/).waitFor();
  });

  test("[END3] [ADM1] members are added, muted and removed, and the topic says who hears it", async () => {
    const { page } = opened;
    const [gina, c] = [fresh("gina"), fresh("room")];
    const client = await connect(gina);
    await go(page, "Topics");
    await page.getByRole("searchbox").fill(`conversation:${c}`);
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByText("Nobody hears any such topic.").waitFor();
    await page.getByRole("link", { name: `conversation:${c}` }).click();
    await page.getByText("It has no members.").waitFor();
    await act(page, page.getByRole("button", { name: "Add" }), {
      "Users, with spaces between them": `${gina} ${fresh("hugo")}`,
    });
    await rowOf(page, "Members", gina).getByText("yes").waitFor();
    await client.ask("subscribe", { topics: [`conversation:${c}`] });
    await rowOf(page, "Subscribers", gina).waitFor();
    await act(page, rowOf(page, "Members", gina).getByRole("button", { name: "Mute" }));
    await client.next("member.updated", ({ user_id, may_write }) => user_id === gina && !may_write);
    await rowOf(page, "Members", gina).getByRole("button", { name: "Unmute" }).waitFor();
    await act(page, rowOf(page, "Members", gina).getByRole("button", { name: "Remove" }));
    await client.next("unsubscribed", ({ reason }) => reason === "access_revoked");
    await rowOf(page, "Members", gina).waitFor({ state: "detached" });
  });

  test("[END3] it is all its own: nothing is asked of others, and the policy has refused nothing", async () => {
    const { asked, complaints } = opened;
    expect(complaints).toEqual([]);
    expect(new Set(asked.filter((it) => !it.startsWith("data:")).map((it) => new URL(it).origin))).toEqual(
      new Set([url]),
    );
    // A script that somebody managed to write into it would not run, nor reach anybody.
    const { page } = opened;
    const refused = await page.evaluate(`(async () => {
      const ran = new Promise((resolve) =>
        document.addEventListener("securitypolicyviolation", (it) => resolve(it.effectiveDirective), { once: true }));
      const script = document.createElement("script");
      script.textContent = "window.written = true";
      document.body.append(script);
      const elsewhere = await fetch("https://127.0.0.1:1/").then(() => "reached", () => "refused");
      return [await ran, "written" in window, elsewhere];
    })()`);
    expect(refused).toEqual(["script-src-elem", false, "refused"]);
  });

  test("[END3] on a phone nothing is wider than the screen, and dark is dark", async () => {
    const phone = await open(url, {
      viewport: { width: 360, height: 740 },
      colorScheme: "dark",
      hasTouch: true,
      isMobile: true,
    });
    const { page } = phone;
    await signIn(page);
    const id = (await (await connect(fresh("ida"))).next("connected")).payload.connection_id;
    for (const [place, heading] of [
      ["", "Cluster"],
      ["nodes", "Nodes"],
      ["users", "Users"],
      ["topics", "Topics"],
      ["topics/conversation:c1", "conversation:c1"],
      [`connections/${id}`, id],
    ]) {
      await page.goto(`${url}/#/${place}`);
      await page.getByRole("heading", { name: heading!, exact: true }).waitFor();
      if (place === "")
        await page
          .getByRole("img", { name: /^Connections/ })
          .locator("canvas")
          .waitFor();
      if (place === "users") await rowOf(page, "Connections", id).waitFor();
      const [width, background] = await page.evaluate<[number, string]>(
        "[document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]",
      );
      expect([place, width, background]).toEqual([place, 360, "rgb(22, 24, 28)"]);
    }
    expect(phone.complaints).toEqual([]);
    await phone.close();
  });
});

describe("who comes in", () => {
  const token = "an operations token";
  let service: Service;
  let url: string;
  const mint = (claims: object) => signToken({ sub: "root", exp: Math.round(Date.now() / 1_000) + 600, ...claims });
  beforeAll(async () => {
    service = await startService({
      settings: { ...listening, OPERATIONS__TOKEN: token, AUTH__MODE: "token", AUTH__SECRET: secret },
    });
    url = await consoleOf(service);
  });
  afterAll(() => service?.stop());

  test("[END3] [AUTH2] wrong tokens are said to be wrong, good ones come in, and a reload does not ask again", async () => {
    const { page, close } = await open(url);
    await signIn(page, "not it");
    await page.getByText("This is not the token of operations.token.").waitFor();
    await signIn(page, token);
    await page.getByLabel("Token with the role admin").waitFor();
    await signIn(page, "nonsense");
    await page.getByText("This token is not valid here.").waitFor();
    await signIn(page, await mint({}));
    await page.getByText("This is no admin here.").waitFor();
    await signIn(page, await mint({ roles: ["admin"] }));
    await tile(page, "Connections", "1");
    await page.reload();
    await tile(page, "Connections", "1");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Token of this listener").waitFor();
    expect(await page.evaluate(() => Object.entries(sessionStorage))).toEqual([]);
    await signIn(page, token);
    await page.getByLabel("Token with the role admin").waitFor();
    await close();
  });

  test("[END3] the token in the address is taken out of it", async () => {
    const { page, complaints, close } = await open(`${url}/?token=${encodeURIComponent(token)}`);
    await page.getByLabel("Token with the role admin").waitFor();
    expect([page.url(), complaints]).toEqual([`${url}/`, []]);
    await close();
  });
});

test("[END3] a line that breaks before it is known who the operator is leaves no empty page, and no address does", async () => {
  const service = await startService({ settings: listening });
  const url = await consoleOf(service);
  const { page, close, complaints } = await open(url);
  let lines = 0;
  await page.routeWebSocket(/\/ws\?/, (socket) => {
    const isFirst = ++lines === 1;
    const server = socket.connectToServer();
    socket.onMessage((message) => {
      if (isFirst && String(message).includes('"admin.nodes"')) void socket.close({ code: 1012 });
      else server.send(message);
    });
  });
  await signIn(page, "root");
  await tile(page, "Connections", "1");
  expect(lines).toBe(2);
  await page.goto(`${url}/#/users/50%`);
  await page.getByRole("heading", { name: "50%" }).waitFor();
  expect(complaints).toEqual([]);
  await close();
  await service.stop();
});

test("[END3] who was let in stays so while the service is away, and goes on once it is back", async () => {
  const [port, inner] = (await freePorts(2)) as [number, number];
  const settings = { ...listening, SERVER__PORT: String(port), OPERATIONS__LISTEN: `127.0.0.1:${inner}` };
  const service = await startService({ settings: { ...settings, CLUSTER__NODE_ID: "first" } });
  const { page, close } = await open(await consoleOf(service));
  await signIn(page, "root");
  await tile(page, "Connections", "1");
  await page.getByText("first ·").waitFor();
  service.signal("SIGKILL");
  await page
    .getByRole("status")
    .getByText("not let in, or nobody is there: trying again")
    .or(page.getByLabel("Who you are"))
    .waitFor();
  expect(await page.getByLabel("Who you are").count()).toBe(0);
  await service.stop();
  const next = await startService({ settings: { ...settings, CLUSTER__NODE_ID: "second" } });
  const client = await Client.connect(next.url, { query: { user_id: fresh("anna") } });
  await tile(page, "Connections", "2");
  await page.getByText("second ·").waitFor();
  await client.close();
  await close();
  await next.stop();
});

test("[END3] [CON1] a user who is not let in is told so where it is trusted by its name", async () => {
  const service = await startService({ settings: listening });
  const chief = await Client.connect(service.url, { query: { user_id: "chief", roles: "admin" } });
  await chief.ask("admin.block", { user_id: "stranger", for: "10m" });
  const { page, close } = await open(await consoleOf(service));
  await signIn(page, "stranger");
  await page.getByText("The service does not let stranger in").waitFor();
  await signIn(page, "root");
  await tile(page, "Connections", "2");
  await chief.close();
  await close();
  await service.stop();
});

const healthOf = (page: Page, nodeId: string, words: string) =>
  page
    .getByRole("list", { name: "Health" })
    .getByRole("listitem")
    .filter({ hasText: nodeId })
    .getByText(words)
    .waitFor();

test.skipIf(process.env.TEST_DATABASE_URL !== undefined)(
  "[END3] [END2] [ADM1] what is wrong stands on top: PostgreSQL that is away, and Redis, without which a node knows only of itself",
  async () => {
    const [database, redis] = await Promise.all([startPostgres(), startRedis()]);
    const storage = await database.newDatabase();
    await migrateStorage({ url: storage, lockTimeoutMs: 10_000 });
    const start = (nodeId: string) =>
      startClusterNode(redis.url, {
        settings: {
          ...listening,
          STORAGE__URL: storage,
          CLUSTER__NODE_ID: nodeId,
          CLUSTER__HEARTBEAT: "200ms",
          CLUSTER__DEAD_AFTER: "60s",
        },
      });
    const nodes = await Promise.all(["n1", "n2"].map(start));
    const { page, close } = await open(await consoleOf(nodes[0]!));
    await signIn(page, "root");
    for (const nodeId of ["n1", "n2"]) await healthOf(page, nodeId, "storage up");
    await tile(page, "Log head", /^0 *$/);
    await tile(page, "Lag", /^0 /);
    await database.halt();
    for (const nodeId of ["n1", "n2"]) await healthOf(page, nodeId, "storage down: failed");
    await tile(page, "Log head", "–");
    await tile(page, "Lag", "–");
    await database.resume();
    for (const nodeId of ["n1", "n2"]) await healthOf(page, nodeId, "storage up");
    await tile(page, "Log head", /^0 *$/);
    redis.pause();
    await healthOf(page, "n1", "cluster degraded");
    await healthOf(page, "n2", "n1 reaches no other node just now");
    redis.resume();
    await healthOf(page, "n2", "cluster up");
    await close();
    await Promise.all(nodes.map((node) => node.stop()));
    await Promise.all([database.stop(), redis.stop()]);
  },
);

describe("on three nodes", () => {
  let folder: string;
  let redis: RedisServer;
  let nodes: Service[] = [];
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "ws-console-"));
    redis = await startRedis();
    const start = (nodeId: string) =>
      startClusterNode(redis.url, {
        settings: {
          ...listening,
          STORAGE__URL: `sqlite:${join(folder, "log.db")}`,
          CLUSTER__NODE_ID: nodeId,
          CLUSTER__HEARTBEAT: "200ms",
          CLUSTER__DEAD_AFTER: "60s",
        },
      });
    nodes = await Promise.all(["n1", "n2", "n3"].map(start));
  });
  afterAll(async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await redis?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test("[END3] [ADM1] one console has the whole cluster: its figures, a connection elsewhere, and who does not answer", async () => {
    const url = await consoleOf(nodes[0]!);
    const { page, complaints, close } = await open(url);
    await signIn(page);
    await tile(page, "Nodes", "3");
    const user = fresh("anna");
    const clients = await Promise.all(nodes.map((node) => Client.connect(node.url, { query: { user_id: user } })));
    await tile(page, "Connections", "4");
    await tile(page, "Users", "2");
    await page.goto(`${url}/#/nodes/n2`);
    await tile(page, "Users", /^1 *$/);
    await page.goto(`${url}/#/users/${user}`);
    await page.getByText("3 connections").waitFor();
    await rowOf(page, "Connections", "n3").getByRole("link").nth(1).click();
    await page.getByRole("button", { name: "Watch" }).click();
    await page.getByText("watching", { exact: true }).waitFor();
    await clients[2]!.settled();
    await page.getByRole("list", { name: "Newest first" }).getByText("pong").waitFor();
    await act(page, page.getByRole("button", { name: "Disconnect" }));
    expect((await clients[2]!.closed).code).toBe(4011);
    await go(page, "Nodes");
    await rowOf(page, "Nodes", "n3").getByText("yes").waitFor();
    nodes[2]!.signal("SIGSTOP");
    try {
      await page.getByText("Without an answer of: n3").waitFor();
      await rowOf(page, "Nodes", "n3").getByText("no answer").waitFor();
      await rowOf(page, "Nodes", "n3").getByText("no", { exact: true }).waitFor();
    } finally {
      nodes[2]!.signal("SIGCONT");
    }
    await rowOf(page, "Nodes", "n3").getByText("yes").waitFor();
    expect(complaints).toEqual([]);
    await Promise.all(clients.map((client) => client.close()));
    await close();
  });
});
