/** Proves that metrics and the console are on a listener of their own, for those who may, and that their figures are true. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(30_000);

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
    for (const path of ["/metrics", "/stats.json", "/"]) {
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
    for (const path of ["/metrics", "/stats.json", "/"]) {
      expect(await status(path)).toBe(401);
      expect(await status(path, "Bearer wrong")).toBe(401);
      expect(await status(`${path}?token=wrong`)).toBe(401);
    }
    expect(await status(`/${inAddress}`)).toBe(200);
    expect(await status(`/metrics${inAddress}`)).toBe(401);
    expect(await status(`/stats.json${inAddress}`)).toBe(401);
    for (const path of ["/metrics", "/stats.json", "/"]) expect(await status(path, `Bearer ${token}`)).toBe(200);
  });

  test("[END3] without a token a browser cannot be led here under another name", async () => {
    const { port } = new URL(open.url);
    for (const host of [`evil.example:${port}`, "169.254.169.254"]) {
      expect((await fetch(`${open.url}/stats.json`, { headers: { host } })).status).toBe(403);
    }
    expect((await fetch(`${open.url}/stats.json`, { headers: { host: `localhost:${port}` } })).status).toBe(200);
  });

  test("[END3] another path is 404, another method 405", async () => {
    expect((await fetch(`${open.url}/ws`)).status).toBe(404);
    expect((await fetch(`${open.url}/metrics`, { method: "POST" })).status).toBe(405);
  });

  test("[END3] a port that is taken is said, and nothing starts half", async () => {
    const { port } = new URL(open.url);
    await expect(startService({ settings: { OPERATIONS__LISTEN: `127.0.0.1:${port}` } })).rejects.toThrow(
      "operations.listen: ",
    );
  });
});

describe("what it says", () => {
  test("[END3] metrics are Prometheus text with nothing that is wrong here", async () => {
    const response = await fetch(`${open.url}/metrics`);
    expect(response.headers.get("content-type")).toContain("text/plain; version=0.0.4");
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

  test("[END3] the console's figures", async () => {
    await connect(fresh("anna"));
    const response = await fetch(`${open.url}/stats.json`);
    expect(response.headers.get("cache-control")).toBe("no-store");
    const stats: any = await response.json();
    expect(stats.figures.hub.connections).toBeGreaterThan(0);
    expect(stats.resident_bytes).toBeGreaterThan(2 ** 20);
    expect(stats).toMatchObject({
      node_id: "the-node",
      version: expect.any(String),
      figures: { hub: { connections: expect.any(Number) }, log: { position: expect.any(Number) } },
      counts: { messages_in: expect.any(Object), errors: expect.any(Object) },
      event_loop_lag_ms: { last: expect.any(Number), worst: expect.any(Number) },
      appends: { batches: expect.any(Number), events: expect.any(Number), mean_ms: expect.any(Number) },
    });
  });

  test("[END3] the page is whole: it asks nobody else for anything", async () => {
    const response = await fetch(open.url);
    expect(response.headers.get("content-type")).toContain("text/html");
    const policy = response.headers.get("content-security-policy")!;
    expect(policy).toContain("default-src 'none'");
    const [, nonce] = /script-src 'nonce-([^']+)'/.exec(policy)!;
    const page = await response.text();
    expect(page).toContain(`<script nonce="${nonce}">`);
    expect(page).toContain('fetch("/stats.json"');
    expect(page).not.toMatch(/https?:\/\/|\bsrc=|@import/);
    // The script is one that a browser can read.
    const [, script] = /<script[^>]*>([\s\S]*)<\/script>/.exec(page)!;
    expect(() => new Function(script!)).not.toThrow();
  });
});
