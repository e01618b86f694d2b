/** Proves that metrics and the console are on a listener of their own, for those who may, and that their figures are true. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

interface Internal {
  service: Service;
  url: string;
}

async function start(settings: Record<string, string> = {}): Promise<Internal> {
  const service = await startService({ settings: { OPERATIONS__LISTEN: "127.0.0.1:0", ...settings } });
  const { url } = await service.logged(({ msg }) => msg === "metrics and console");
  return { service, url: String(url) };
}

const token = "an operations token";
let open: Internal;
let guarded: Internal;
beforeAll(async () => {
  [open, guarded] = await Promise.all([start({ CLUSTER__NODE_ID: "the-node" }), start({ OPERATIONS__TOKEN: token })]);
});
afterAll(() => Promise.all([open?.service.stop(), guarded?.service.stop()]));
const { connect, gather } = createPeople(() => open.service.url);

const metricsText = async () => (await fetch(`${open.url}/metrics`)).text();
/** The value of one line: `ws_closes_total{code="1000"}`; 0 where it is not there. */
const valueIn = (text: string, line: string) =>
  Number(
    text
      .split("\n")
      .find((it) => it.startsWith(`${line} `))
      ?.slice(line.length + 1) ?? 0,
  );
const reach = (line: string, value: number) =>
  eventually(metricsText, (text) => valueIn(text, line) >= value).then((text) =>
    expect(valueIn(text, line)).toBe(value),
  );

describe("who sees it", () => {
  test("[END3] the public port has none of it", async () => {
    for (const path of ["/metrics", "/about.json", "/"]) {
      for (const { service } of [open, guarded]) expect((await fetch(service.http + path)).status).toBe(404);
    }
  });

  test("[END3] off unless it is set", async () => {
    const service = await startService();
    try {
      expect(service.logs.map(({ msg }) => msg)).not.toContain("metrics and console");
    } finally {
      await service.stop();
    }
  });

  test("[END3] with a token only with it: as bearer, and for the page in the address", async () => {
    const status = async (path: string, authorization?: string) =>
      (await fetch(guarded.url + path, { headers: authorization === undefined ? {} : { authorization } })).status;
    const inAddress = `?token=${encodeURIComponent(token)}`;
    for (const path of ["/metrics", "/about.json", "/"]) {
      expect(await status(path)).toBe(401);
      expect(await status(path, "Bearer wrong")).toBe(401);
      expect(await status(`${path}?token=wrong`)).toBe(401);
    }
    expect(await status(`/${inAddress}`)).toBe(200);
    expect(await status(`/metrics${inAddress}`)).toBe(401);
    expect(await status(`/about.json${inAddress}`)).toBe(401);
    for (const path of ["/metrics", "/about.json", "/"]) expect(await status(path, `Bearer ${token}`)).toBe(200);
  });

  test("[END3] [LIM] who guesses is logged, and refused before it is known whether the next guess is right", async () => {
    const { service, url } = await start({
      OPERATIONS__TOKEN: token,
      AUTH__BEHIND_GATEWAY: "true",
      RATE_LIMITS__ENABLED: "true",
      RATE_LIMITS__FAILED_AUTHENTICATIONS_PER_MINUTE_PER_IP: "3",
      SERVER__TRUSTED_PROXIES: "127.0.0.1",
    });
    try {
      const ask = async (given: string, address: string, path = "/metrics") => {
        const headers = { authorization: `Bearer ${given}`, "x-forwarded-for": address };
        const { status, headers: answered } = await fetch(url + path, { headers });
        return [status, answered.get("retry-after")];
      };
      for (const path of ["/metrics", "/about.json", "/ws"])
        expect(await ask("wrong", "192.0.2.1", path)).toEqual([401, null]);
      for (const given of ["wrong", token]) expect(await ask(given, "192.0.2.1")).toEqual([429, expect.any(String)]);
      expect(await ask(token, "192.0.2.2")).toEqual([200, null]);
      const line = await service.logged(({ msg }) => msg === "a wrong token for the internal listener");
      expect(line).toMatchObject({ level: "warn", address: "192.0.2.1" });
      expect(JSON.stringify(service.logs)).not.toContain('wrong"');
    } finally {
      await service.stop();
    }
  });

  test("[END3] without a token a browser cannot be led here under another name", async () => {
    const { port } = new URL(open.url);
    for (const host of [`evil.example:${port}`, "169.254.169.254"]) {
      expect((await fetch(`${open.url}/about.json`, { headers: { host } })).status).toBe(403);
    }
    expect((await fetch(`${open.url}/about.json`, { headers: { host: `localhost:${port}` } })).status).toBe(200);
  });

  test("[END3] another path is 404, another method 405", async () => {
    expect((await fetch(`${open.url}/nothing`)).status).toBe(404);
    expect((await fetch(`${open.url}/metrics`, { method: "POST" })).status).toBe(405);
  });

  test("[END3] a port that is taken is said, and nothing starts half", async () => {
    const { port } = new URL(open.url);
    await expect(startService({ settings: { OPERATIONS__LISTEN: `127.0.0.1:${port}` } })).rejects.toThrow(
      "operations.listen: ",
    );
  });
});

test("[END3] [CON2] an operator comes in where the public listener is full, and takes nobody's place there", async () => {
  const { service, url } = await start({
    AUTH__MODE: "token",
    AUTH__SECRET: secret,
    AUTH__MAX_ANONYMOUS: "1",
    WEBSOCKET__MAX_CONNECTIONS: "2",
    RATE_LIMITS__ENABLED: "true",
    RATE_LIMITS__CONNECTIONS_PER_SECOND_PER_IP: "20",
    OPERATIONS__MAX_CONNECTIONS: "2",
  });
  try {
    const token = await signToken({ sub: "root", roles: ["admin"], exp: Math.floor(Date.now() / 1_000) + 600 });
    const inside = `${url.replace("http", "ws")}/ws`;
    const nobody = await Client.open(service.url);
    expect((await RawSocket.refused(service.url)).status).toBe(429);
    const operator = await Client.open(inside);
    await operator.ask("authenticate", { token, device_id: "console" });
    // The operator has not taken the last place.
    const anna = await Client.connect(service.url, { query: { token, device_id: "a" } });
    expect((await RawSocket.refused(service.url, { query: { token, device_id: "b" } })).status).toBe(429);
    const flood = await Promise.all(Array.from({ length: 40 }, () => RawSocket.refused(service.url)));
    expect(flood.map(({ body }) => body.code)).toContain("rate_limited");
    const second = await Client.connect(inside, { query: { token, device_id: "other" } });
    const { status, body } = await RawSocket.refused(inside, { query: { token, device_id: "third" } });
    expect([status, body.message]).toEqual([429, "The internal listener has as many connections as it may."]);
    await second.close();
    await Client.connect(inside, { query: { token, device_id: "third" } });
    await Promise.all([nobody.close(), anna.close()]);
  } finally {
    await service.stop();
  }
});

test("[END3] [ADM1] [CON1] who is no admin may do by the internal listener what they may do by the public one, and no more", async () => {
  const { service, url } = await start({
    AUTH__MODE: "token",
    AUTH__SECRET: secret,
    DIRECTORY__MODE: "managed",
    OPERATIONS__TOKEN: token,
    OPERATIONS__SHOW_PAYLOADS: "true",
  });
  try {
    const inside = `${url.replace("http", "ws")}/ws`;
    const mint = (claims: object) => signToken({ exp: Math.floor(Date.now() / 1_000) + 600, ...claims });
    const given = { operations_token: token };
    const root = await Client.connect(inside, {
      query: { ...given, token: await mint({ sub: "root", roles: ["admin"] }) },
    });
    await root.ask("admin.users.upsert", { user_ids: ["anna", "ben"] });
    await root.ask("admin.members.add", { conversation_id: "c1", user_ids: ["ben"] });
    // The roles and the user of the query count here as little as there.
    const claimed = { user_id: "root", roles: "admin,service", token: await mint({ sub: "anna" }) };
    const [within, without] = [
      await Client.connect(inside, { query: { ...given, ...claimed, device_id: "1" } }),
      await Client.connect(service.url, { query: { ...claimed, device_id: "2" } }),
    ];
    const { connection_id } = (await root.next("connected")).payload;
    for (const [type, payload] of [
      ["admin.stats", {}],
      ["admin.connections", {}],
      ["admin.watch", { connection_id, payloads: true }],
      ["admin.members.add", { conversation_id: "c1", user_ids: ["anna"] }],
      ["admin.disconnect", { user_id: "ben", reason: "x" }],
      ["publish", { all: true, type: "news", payload: {} }],
      ["history", { topic: "conversation:c1" }],
      ["history", { topic: "user:ben" }],
      ["message.send", { conversation_id: "c1", client_message_id: "m", content: "hi" }],
      ["members", { conversation_id: "c1" }],
    ] as const) {
      const [inner, outer] = [await within.request(type, payload), await without.request(type, payload)];
      expect([type, inner.type, inner.payload]).toEqual([type, "error", outer.payload]);
    }
    const topics = ["log", "missed", "conversation:c1", "user:ben", `watch:${connection_id}`];
    const [inner, outer] = [await within.ask("subscribe", { topics }), await without.ask("subscribe", { topics })];
    expect([inner.topics, inner.rejected]).toEqual([[], outer.rejected]);
    for (const to of [inside, service.url]) {
      const query = { ...given, token: await mint({ sub: "nobody" }) };
      expect((await RawSocket.refused(to, { query })).status).toBe(403);
      expect((await RawSocket.refused(to, { query: { ...given, token: "no token" } })).status).toBe(401);
    }
  } finally {
    await service.stop();
  }
});

describe("what it says", () => {
  test("[END3] metrics are Prometheus text with nothing that is wrong here", async () => {
    const response = await fetch(`${open.url}/metrics`);
    expect(response.headers.get("content-type")).toContain("text/plain; version=0.0.4");
    expect(response.headers.get("cross-origin-resource-policy")).toBe("same-origin");
    const text = await response.text();
    for (const line of text
      .trim()
      .split("\n")
      .filter((it) => it !== "" && !it.startsWith("#"))) {
      expect(line).toMatch(/^[a-z_]+(\{[^}]*\})? -?(\d|\+Inf)[\d.e+-]*$/);
    }
    expect(text).not.toMatch(/nodejs_|process_heap_bytes|NaN/i);
    for (const name of [
      "ws_connections",
      "ws_connections_authenticated",
      "ws_users",
      "ws_presence_users",
      "ws_presence_devices",
      "ws_calls",
      "ws_typing",
      "ws_log_position",
      "ws_cursor_position",
      "ws_replayed_events_total",
      "ws_backpressure_closes_total",
      "ws_log_lines_dropped_total",
      "ws_append_seconds_count",
      "ws_append_batch_events_count",
      "ws_event_loop_lag_seconds_count",
      "process_resident_memory_bytes",
      "process_open_fds",
    ]) {
      expect(text).toMatch(new RegExp(`^${name} `, "m"));
    }
    expect(valueIn(text, "process_open_fds")).toBeGreaterThan(5);
  });

  test("[END3] connections, users, requests, errors, events and closes are counted", async () => {
    const c = fresh("c");
    const before = await metricsText();
    const was = (line: string) => valueIn(before, line);
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    await reach("ws_connections_accepted_total", was("ws_connections_accepted_total") + 2);
    for (const content of ["one", "two", "three"]) {
      await anna!.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content });
    }
    await anna!.ask("typing.start", { conversation_id: c });
    for (let times = 0; times < 2; times++) await ben!.request("history", { topic: "user:another" });
    await ben!.request("no.such.type");
    const again = await connect(fresh("carl"));
    await again.ask("subscribe", { topics: [`conversation:${c}`], since: "acked" });

    const after = await metricsText();
    const grown = (line: string) => valueIn(after, line) - was(line);
    expect(grown('ws_messages_in_total{type="message.send"}')).toBe(3);
    expect(grown('ws_messages_in_total{type="history"}')).toBe(2);
    expect(after).not.toContain("no.such.type");
    expect(grown('ws_errors_total{code="forbidden"}')).toBe(2);
    expect(grown('ws_errors_total{code="unknown_type"}')).toBe(1);
    expect(grown('ws_events_published_total{kind="logged"}')).toBe(3);
    expect(grown('ws_events_published_total{kind="ephemeral"}')).toBeGreaterThanOrEqual(1);
    expect(grown("ws_append_seconds_count")).toBe(3);
    expect(grown("ws_append_batch_events_sum")).toBe(3);
    expect(grown("ws_log_position")).toBe(3);
    expect(grown("ws_replayed_events_total")).toBe(3);
    expect(valueIn(after, "ws_typing")).toBe(1);
    expect(valueIn(after, "ws_connections")).toBeGreaterThanOrEqual(3);
    expect(valueIn(after, "ws_append_seconds_sum")).toBeGreaterThan(0);

    await anna!.close(1000);
    await ben!.close(4999);
    await reach('ws_closes_total{code="other"}', 1);
    await eventually(
      metricsText,
      (text) => valueIn(text, 'ws_closes_total{code="1000"}') > was('ws_closes_total{code="1000"}'),
    );
  });

  test("[END3] clients choose no labels: whatever codes they close with are one series", async () => {
    const other = valueIn(await metricsText(), 'ws_closes_total{code="other"}');
    for (let code = 3_000; code < 3_020; code++) await (await connect(fresh("closer"))).close(code);
    await reach('ws_closes_total{code="other"}', other + 20);
    const series = (await metricsText()).split("\n").filter((line) => line.startsWith("ws_closes_total{"));
    expect(series.filter((line) => line.includes('code="3'))).toEqual([]);
  });

  test("[END3] [CON5] a connection that is nobody's yet is not counted among the authenticated", async () => {
    const { service, url } = await start({
      AUTH__MODE: "token",
      AUTH__SECRET: "a secret of at least thirty-two bytes",
    });
    try {
      const client = await Client.open(service.url);
      await client.next("connected");
      const text = await (await fetch(`${url}/metrics`)).text();
      expect([valueIn(text, "ws_connections"), valueIn(text, "ws_connections_authenticated")]).toEqual([1, 0]);
      await client.close();
    } finally {
      await service.stop();
    }
  });

  test("[END3] where the console is, and the files of its page, which asks nobody else for anything and has nothing inline", async () => {
    expect(await (await fetch(`${open.url}/about.json`)).json()).toEqual({
      node_id: "the-node",
      version: expect.any(String),
      auth: "trusted",
      show_payloads: false,
    });
    const response = await fetch(open.url);
    expect(response.headers.get("content-type")).toContain("text/html");
    const policy = response.headers.get("content-security-policy")!;
    expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self';");
    expect(policy).toContain("connect-src 'self'");
    expect(policy).not.toContain("unsafe");
    const page = await response.text();
    expect(page).not.toMatch(/https?:\/\/|<style|style=|<script(?![^>]* src="\/assets\/)| on\w+=/);
    const files = [...page.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, path]) => path!);
    expect(files).toHaveLength(2);
    for (const path of files) {
      // In them is nothing of anybody's: a browser that asks for them for the page cannot send the token.
      const file = await fetch(guarded.url + path);
      expect([file.status, file.headers.get("cache-control")]).toEqual([200, "no-store"]);
    }
  });

  test("[END3] to a browser that has no token yet the page comes with 401, and asks for it", async () => {
    const response = await fetch(guarded.url, { headers: { accept: "text/html,*/*" } });
    expect([response.status, await response.text()]).toEqual([401, await (await fetch(open.url)).text()]);
  });
});

describe("the socket of the console", () => {
  const inner = (internal: Internal) => `${internal.url.replace("http", "ws")}/ws`;
  const asAdmin = { user_id: "root", roles: "admin" };

  test("[END3] [ADM1] is one of the service: it asks what admins ask, and hears what is published", async () => {
    const c = fresh("c");
    const [anna] = await gather(c, [fresh("anna")]);
    const admin = await Client.connect(inner(open), { query: asAdmin });
    await admin.ask("subscribe", { topics: [`conversation:${c}`] });
    expect((await admin.ask("admin.topic", { topic: `conversation:${c}` })).subscribers).toBe(2);
    await anna!.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content: "hi" });
    await admin.next("message.new", ({ content }) => content === "hi");
    await admin.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content: "ho" });
    await anna!.next("message.new", ({ content }) => content === "ho");
    const { connections } = await admin.ask("admin.connections", { user_id: "root" });
    expect(connections).toMatchObject([{ node_id: "the-node", roles: ["admin"], address: "127.0.0.1" }]);
    await admin.close();
  });

  test("[END3] [CON1] only the console's own page connects, and others than browsers", async () => {
    const { host } = new URL(open.url);
    const status = async (headers: Record<string, string>, query = "") => {
      const upgrade = {
        connection: "upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      };
      const response = await fetch(`${open.url}/ws?user_id=root&roles=admin${query}`, {
        headers: { ...upgrade, ...headers },
      });
      return response.status;
    };
    for (const origin of ["https://evil.example", "null", `http://localhost:1`, open.service.http])
      expect([origin, await status({ origin })]).toEqual([origin, 403]);
    expect(
      await status({
        host: `evil.example:${new URL(open.url).port}`,
        origin: `http://evil.example:${new URL(open.url).port}`,
      }),
    ).toBe(403);
    const own = await Client.connect(inner(open), { query: asAdmin, headers: { origin: `http://${host}` } });
    await own.close();
    expect((await fetch(`${open.url}/ws`)).status).toBe(426);
  });

  test("[END3] with a token only with it", async () => {
    const enter = (query: object) => Client.connect(inner(guarded), { query: { ...asAdmin, ...query } });
    for (const query of [{}, { operations_token: "wrong" }]) await expect(enter(query)).rejects.toThrow();
    const client = await enter({ operations_token: token });
    await client.ask("admin.nodes");
    await client.close();
  });

  test("[END3] [DRN] is let go as any other when the node drains", async () => {
    const internal = await start();
    const admin = await Client.connect(inner(internal), { query: asAdmin });
    internal.service.signal("SIGTERM");
    await admin.next("draining");
    expect((await admin.closed).code).toBe(1012);
    expect(await internal.service.exited).toBe(0);
    await internal.service.stop();
  });
});
