/** Proves behind a real nginx and a real HAProxy, by the project's own files, who is let in, what nodes are told, and what is so without a setting. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { undoAfterEach } from "../support/after-each.ts";
import { Client } from "../support/client.ts";
import { freePorts } from "../support/free-ports.ts";
import { startHaproxy } from "../support/haproxy.ts";
import { startNginx } from "../support/nginx.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);
const { defer, stopped } = undoAfterEach();

const proxies = { nginx: startNginx, HAProxy: startHaproxy };
type Name = keyof typeof proxies;
const names = Object.keys(proxies) as Name[];

async function start<Of extends Name>(name: Of, options: Parameters<(typeof proxies)[Of]>[0]) {
  const proxy = (await proxies[name](options)) as Awaited<ReturnType<(typeof proxies)[Of]>>;
  defer(() => proxy.stop());
  return proxy;
}

async function startNode(settings: Record<string, string> = {}): Promise<Service> {
  return stopped(await startService({ settings: { SERVER__TRUSTED_PROXIES: "127.0.0.1", ...settings } }));
}

/** Drains for as long as the last of its clients takes to go, each at a moment of its own. */
const startLasting = () => startNode({ SERVER__DRAIN_WINDOW: "20s", SERVER__DRAIN_TIMEOUT: "30s" });
const hold = (url: string) =>
  Promise.all(Array.from({ length: 8 }, (_, at) => Client.connect(url, { query: { user_id: `held${at}` } })));

async function startDraining(): Promise<Service> {
  const node = await startLasting();
  const clients = await hold(node.url);
  node.signal("SIGTERM");
  await Promise.all(clients.map((client) => client.next("draining")));
  return node;
}

const comeIn = (url: string, count: number) =>
  Promise.allSettled(
    Array.from({ length: count }, (_, at) => Client.connect(url, { query: { user_id: `user${at}` } })),
  );
const refusedAmong = (results: PromiseSettledResult<unknown>[]) =>
  results.filter(({ status }) => status === "rejected");

describe.each(names)("%s", (name) => {
  test("[CON1] a client comes in by TLS, is seen under its own address whatever it says, and its token is in no log", async () => {
    const node = await startNode({ AUTH__MODE: "token", AUTH__SECRET: secret, OPERATIONS__LISTEN: "127.0.0.1:0" });
    const proxy = await start(name, { nodes: [node.port], hasTls: true });
    const token = await signToken({ sub: "root", roles: ["admin"], exp: Math.floor(Date.now() / 1_000) + 600 });
    const headers = { "X-Forwarded-For": "203.0.113.9" };
    const client = await Client.connect(proxy.url, { query: { token }, headers });
    const { connections } = await client.ask("admin.connections", {});
    expect(connections).toMatchObject([{ user_id: "root", address: "127.0.0.1" }]);
    await client.close();
    const log = await eventually(proxy.accessLog, (text) => text.includes("/ws"));
    expect(log).not.toContain(token);
  });

  test("[END1] nothing but the socket is for the public", async () => {
    const node = await startNode();
    const { url } = await start(name, { nodes: [node.port] });
    const statusOf = async (path: string) => (await fetch(url.replace(/^ws(.*)\/ws$/, `http$1${path}`))).status;
    expect(await Promise.all(["/", "/live", "/ready", "/health", "/ws/x"].map(statusOf))).toEqual(Array(5).fill(404));
    expect(await statusOf("/ws")).toBe(426);
  });

  test("[DRN] a newcomer for whom a draining node comes first is let in at the next one, unseen", async () => {
    const [draining, one, two] = await Promise.all([startDraining(), startNode(), startNode()]);
    const { url } = await start(name, { nodes: [draining.port, one.port, two.port] });
    expect(refusedAmong(await comeIn(url, 12))).toEqual([]);
  });
});

test("[CON2] nginx complains of a node that is gone without writing the token of who came", async () => {
  const [port] = (await freePorts(1)) as [number];
  const complaintsOf = async (without: RegExp[]) => {
    const proxy = await start("nginx", { nodes: [port], without });
    await expect(Client.connect(proxy.url, { query: { token: "a.secret.token" } })).rejects.toThrow();
    await eventually(proxy.accessLog, (text) => text.includes(" /ws"));
    return proxy.errorLog();
  };
  expect(await complaintsOf([])).not.toContain("a.secret.token");
  expect(await complaintsOf([/error_log .* crit;/])).toContain("a.secret.token");
});

test("[DRN] nginx refuses newcomers at a draining node without proxy_next_upstream", async () => {
  const draining = await startDraining();
  const one = await startNode();
  const { url } = await start("nginx", { nodes: [draining.port, one.port], without: [/proxy_next_upstream error.*/] });
  expect(refusedAmong(await comeIn(url, 12)).length).toBeGreaterThan(0);
});

describe.each([
  { what: "as many as come", without: [], refusedLeast: 0, refusedMost: 0 },
  // Of six: one at each, until these leave, or nobody yet.
  { what: "but one at a time without max_fails=0", without: [/ max_fails=0/g], refusedLeast: 4, refusedMost: 6 },
])("nodes that were gone for a moment are given $what by nginx", ({ without, refusedLeast, refusedMost }) => {
  test("[DRN] once they are back", async () => {
    const gone = await Promise.all([startNode(), startNode()]);
    const ports = gone.map(({ port }) => port);
    await Promise.all(gone.map((node) => node.stop()));
    const { url } = await start("nginx", { nodes: ports, without });
    expect(refusedAmong(await comeIn(url, 1))).toHaveLength(1);
    await Promise.all(ports.map((port) => startNode({ SERVER__PORT: String(port) })));
    expect(refusedAmong(await comeIn(url, 6)).length).toBeWithin(refusedLeast, refusedMost + 1);
  });
});

test("[CON1] nginx upgrades nobody without HTTP/1.1 and the headers, and believes what a client says of its address", async () => {
  const node = await startNode({ AUTH__BEHIND_GATEWAY: "true" });
  const bare = await start("nginx", {
    nodes: [node.port],
    without: [/proxy_http_version.*/, /proxy_set_header Upgrade.*/, /proxy_set_header Connection.*/],
  });
  expect(refusedAmong(await comeIn(bare.url, 1))).toHaveLength(1);
  const gullible = await start("nginx", { nodes: [node.port], without: [/proxy_set_header X-Forwarded-For.*/] });
  const headers = { "X-Forwarded-For": "203.0.113.9" };
  const client = await Client.connect(gullible.url, { query: { user_id: "root", roles: "admin" }, headers });
  const { connections } = await client.ask("admin.connections", {});
  expect(connections).toMatchObject([{ address: "203.0.113.9" }]);
});

test("[END2] HAProxy's check finds the node, and no longer once it drains, while its clients stay until their turn", async () => {
  const node = await startLasting();
  const proxy = await start("HAProxy", { nodes: [node.port] });
  const checked = () => proxy.ask("show stat");
  await eventually(checked, (it) => /^nodes,one,.*,L7OK,200,/m.test(it));
  const clients = await hold(proxy.url);
  node.signal("SIGTERM");
  await eventually(checked, (it) => /^nodes,one,.*,L7STS,503,/m.test(it));
  expect((await Promise.race(clients.map((client) => client.closed))).code).toBe(1012);
});

test("[DRN] HAProxy refuses newcomers at a draining node that it has not checked yet, without retry-on", async () => {
  const draining = await startDraining();
  const one = await startNode();
  const without = [/^ {2}option httpchk.*$/m, /^ {2}retry-on.*$/m];
  const { url } = await start("HAProxy", { nodes: [draining.port, one.port], without });
  expect(refusedAmong(await comeIn(url, 12)).length).toBeGreaterThan(0);
});
