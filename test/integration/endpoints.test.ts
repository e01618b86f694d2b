/** Proves the four paths of the public listener over HTTP [END]. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { Client } from "../support/client.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);
let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());

const get = (path: string, init?: RequestInit) => fetch(`${service.http}${path}`, init);

/** The first line of the answer to a request that is sent as it is. */
async function statusOf(request: string): Promise<string> {
  const { promise: answer, resolve } = Promise.withResolvers<string>();
  let text = "";
  await Bun.connect({
    hostname: "127.0.0.1",
    port: service.port,
    socket: {
      open: (socket) => void socket.write(request),
      data: (_, data) => void (text += data),
      close: () => resolve(text),
    },
  });
  return (await answer).split("\r\n")[0]!;
}

describe("paths", () => {
  test("[CON1] [END1] a request that is refused, or for nothing, keeps no connection", async () => {
    for (const query of [{}, { user_id: "anna", roles: "king" }] as Record<string, string>[]) {
      const refused = await RawSocket.dial(service.url, { query });
      expect(refused.answer.status).toBeGreaterThanOrEqual(400);
      expect(refused.answer.headers.get("connection")).toBe("close");
      await refused.ended;
    }
    expect((await get("/nowhere")).headers.get("connection")).toBe("close");
    expect((await get("/live")).headers.get("connection")).not.toBe("close");
  });

  test("[END1] there are four paths, everything else is 404", async () => {
    for (const path of ["/live", "/ready", "/health"]) expect((await get(path)).status).toBe(200);
    for (const path of [
      "/",
      "/ws/",
      "/WS",
      "/wss",
      "/healthz",
      "/live/",
      "/metrics",
      "/console",
      "/api/messages",
      "/%77s",
    ]) {
      const answer = await get(path);
      expect([path, answer.status]).toEqual([path, 404]);
      expect(await answer.json()).toMatchObject({ code: "not_found" });
    }
  });

  test("[END1] a browser is shown a page for every 404, with the endpoints and no policy against sockets", async () => {
    const accept = "text/html,application/xhtml+xml,*/*;q=0.8";
    for (const path of ["/", "/chat", "/live/x"]) {
      const answer = await get(path, { headers: { accept } });
      expect([path, answer.status, answer.headers.get("content-type")]).toEqual([
        path,
        404,
        "text/html; charset=utf-8",
      ]);
      expect(answer.headers.get("content-security-policy")).toBeNull();
      const page = await answer.text();
      for (const endpoint of ["/ws", "/health", "/live", "/ready"]) expect(page).toContain(endpoint);
      expect(page).not.toContain("chat");
    }
    expect((await get("/live", { headers: { accept } })).headers.get("content-type")).toContain("application/json");
    expect(await (await get("/", { method: "HEAD", headers: { accept } })).text()).toBe("");
  });

  test("[END1] the paths are the same with a query", async () => {
    expect((await get("/live?probe=1")).status).toBe(200);
    expect((await get("/ws?user_id=u1")).status).toBe(426);
    expect((await get("/nothing?/ws")).status).toBe(404);
  });

  test("[END2] HTTP/1.0 without a Host header, as load balancers ask, is answered on all four paths", async () => {
    const asked = [
      ["GET /ready", "200 OK"],
      ["HEAD /live", "200 OK"],
      ["GET /health?probe=1", "200 OK"],
      ["POST /ready", "405 Method Not Allowed"],
      ["GET /ws?user_id=u1", "426 Upgrade Required"],
      ["GET /nothing", "404 Not Found"],
      ["GET //live", "404 Not Found"],
      ["OPTIONS /", "404 Not Found"],
    ];
    for (const [line, status] of asked) {
      expect([line, await statusOf(`${line} HTTP/1.0\r\n\r\n`)]).toEqual([line, `HTTP/1.1 ${status}`]);
    }
    expect(await statusOf("GET /ready HTTP/1.0\r\nHost:\r\n\r\n")).toBe("HTTP/1.1 200 OK");
  });

  test("[END1] a Host header that is none is 400, and what was asked with it is not logged", async () => {
    for (const host of ["[", "a b", "a:99999"]) {
      const status = await statusOf(`GET /ws?token=hidden HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      expect([host, status]).toEqual([host, "HTTP/1.1 400 Bad Request"]);
    }
    expect(service.logs.filter(({ level }) => level === "error")).toEqual([]);
  });

  test("[END1] /ws without an upgrade is 426, by whatever method, and says to what to upgrade", async () => {
    for (const method of ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
      const answer = await get("/ws?user_id=u1", { method });
      expect([method, answer.status]).toEqual([method, 426]);
      expect(answer.headers.get("upgrade")).toBe("websocket");
      expect(await answer.json()).toMatchObject({ code: "upgrade_required" });
    }
    expect((await RawSocket.refused(service.url, { headers: { Upgrade: "h2c" } })).status).toBe(426);
  });

  test("[END1] a handshake that is none is 426 and no connection", async () => {
    const { status } = await RawSocket.refused(service.url, {
      query: { user_id: "u1" },
      headers: { "Sec-WebSocket-Key": "" },
    });
    expect(status).toBe(426);
  });

  test("[END1] an upgrade on another path is no WebSocket", async () => {
    for (const path of ["/", "/live", "/health"]) {
      const answer = await RawSocket.refused(`${service.http}${path}`, { query: { user_id: "u1" } });
      expect(answer.status).toBe(path === "/" ? 404 : 200);
    }
  });

  test("[END1] another method on the health paths is 405 and names those that are allowed", async () => {
    for (const path of ["/live", "/ready", "/health"]) {
      for (const method of ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
        const answer = await get(path, { method });
        expect([path, method, answer.status]).toEqual([path, method, 405]);
        expect(answer.headers.get("allow")).toBe("GET, HEAD");
      }
      const head = await get(path, { method: "HEAD" });
      expect([head.status, await head.text()]).toEqual([200, ""]);
    }
  });

  test("[END1] there is no REST API: a message that is posted goes nowhere", async () => {
    const body = JSON.stringify({ id: "1", type: "publish", payload: { all: true, type: "x", payload: {} } });
    for (const path of ["/publish", "/admin", "/messages", "/api/v1/publish"]) {
      expect((await get(path, { method: "POST", body })).status).toBe(404);
    }
  });
});

describe("health", () => {
  test("[END2] /live says that the process turns", async () => {
    expect(await (await get("/live")).json()).toEqual({ status: "ok" });
  });

  test("[END2] /health has one entry for each checker, uncached by anybody on the way", async () => {
    const answer = await get("/health");
    expect(answer.headers.get("content-type")).toContain("application/json");
    expect(answer.headers.get("cache-control")).toBe("no-store");
    const { status, checks, draining } = (await answer.json()) as any;
    expect({ status, draining }).toEqual({ status: "up", draining: false });
    expect(Object.keys(checks).sort()).toEqual(["cluster", "storage"]);
    for (const check of Object.values<any>(checks)) {
      expect(check).toEqual({ status: "up", latency_ms: expect.any(Number) });
    }
  });

  test("[END2] probes are answered while sockets are busy", async () => {
    const client = await Client.connect(service.url, { query: { user_id: "busy" } });
    const replies = Array.from({ length: 500 }, () => client.request("ping"));
    const answers = await Promise.all(Array.from({ length: 20 }, () => get("/ready")));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    await Promise.all(replies);
    await client.close();
  });

  test("[END2] while the storage does not answer, /ready and /health say so and /live stays well", async () => {
    const other = await startService({ settings: { STORAGE__QUERY_TIMEOUT: "300ms" } });
    const database = new Database(join(other.folder, "data/ws-service.db"));
    try {
      const client = await Client.connect(other.url, { query: { user_id: "anna" } });
      // A writer that keeps the lock: the worker waits for it, and so does everybody who needs the worker.
      database.exec("PRAGMA busy_timeout = 5000");
      database.exec("BEGIN EXCLUSIVE");
      const send = await client.request("message.send", {
        conversation_id: "c1",
        client_message_id: "m1",
        content: "hello",
      });
      expect(send.payload).toMatchObject({ code: "unavailable", retryable: true });
      const ready = async () => (await fetch(`${other.http}/ready`)).status;
      const seen = await ready();
      const health = await fetch(`${other.http}/health`);
      expect([seen, health.status]).toEqual([503, 503]);
      expect(((await health.json()) as any).checks.storage).toMatchObject({
        status: "down",
        latency_ms: expect.any(Number),
        error: expect.any(String),
      });
      expect((await fetch(`${other.http}/live`)).status).toBe(200);
      const refused = await RawSocket.refused(other.url, { query: { user_id: "ben" } });
      expect([refused.status, refused.body.code]).toEqual([503, "unavailable"]);
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    } finally {
      database.close();
      await other.stop();
    }
  });
});
