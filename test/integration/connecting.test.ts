/** Proves who may come in, in which order that is checked, and what a connection is told [CON1] to [CON5]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../src/config/loader.ts";
import { protobufPeer } from "../../src/protocol/protobuf/codec.ts";
import { Client } from "../support/client.ts";
import { type HandshakeAnswer, opcodes, RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);
const inAnHour = () => Math.floor(Date.now() / 1_000) + 3_600;

function expectRefusal(answer: HandshakeAnswer, expected: { status: number; code: string; field?: string }): void {
  const { status, body, headers } = answer;
  expect({ status, ...body }).toEqual({ ...expected, message: expect.any(String) });
  const retryAfter = headers.get("retry-after");
  if (status === 429 || status === 503) expect(Number(retryAfter)).toBeGreaterThanOrEqual(1);
  else expect(retryAfter).toBeNull();
}

describe("trusted mode", () => {
  let service: Service;
  beforeAll(async () => {
    const settings = {
      SERVER__ALLOWED_ORIGINS: "https://app.example.com,https://*.example.org:8443",
      AUTH__BEHIND_GATEWAY: "true",
      PRESENCE__OFFLINE_GRACE: "100ms",
    };
    service = await startService({ settings });
  });
  afterAll(() => service.stop());
  const refused = (query: Record<string, string>, headers: Record<string, string> = {}, protocols: string[] = []) =>
    RawSocket.refused(service.url, { query, headers, protocols });

  test("[CON1] a bad query is 400 and names the field", async () => {
    const bad: Record<string, string[]> = {
      user_id: ["", "u 1", "ü", "u\n1", "x".repeat(129)],
      device_id: ["", "d 1", "ü", "d\u0000", "x".repeat(129)],
      roles: ["root", "service,root", "Service"],
      since: ["", "a b", "ü", "a\u0000", "x".repeat(65)],
    };
    for (const [field, values] of Object.entries(bad)) {
      for (const value of values) {
        expectRefusal(await refused({ user_id: "u1", [field]: value }), { status: 400, code: "bad_query", field });
      }
    }
  });

  test("[CON1] missing credentials are 401", async () => {
    const answer = await refused({});
    expectRefusal(answer, { status: 401, code: "not_authenticated", field: "user_id" });
    expect(answer.headers.get("www-authenticate")).toBe("Bearer");
  });

  test("[CON1] an origin that is not allowed is 403; requests without one are not browsers", async () => {
    for (const Origin of [
      "https://evil.example.com",
      "http://app.example.com",
      "https://app.example.com:8443",
      "null",
      "https://example.org:8443",
      "https://a.example.org",
      "http://a.example.org:8443",
      "https://evil.com/.example.org:8443",
      "https://a@b.example.org:8443",
      "https://aexample.org:8443",
    ]) {
      expectRefusal(await refused({ user_id: "u1" }, { Origin }), { status: 403, code: "forbidden" });
    }
    const origins = ["https://app.example.com", "https://a.example.org:8443", "https://a.b-c.example.org:8443"];
    for (const headers of [...origins.map((Origin) => ({ Origin })), {}] as Record<string, string>[]) {
      const raw = await RawSocket.open(service.url, { query: { user_id: "u1" }, headers });
      raw.destroy();
    }
  });

  test("[CON1] the origin is looked at before identity and subprotocol", async () => {
    const Origin = "https://evil.example.com";
    expectRefusal(await refused({ user_id: "" }, { Origin }), { status: 403, code: "forbidden" });
    expectRefusal(await refused({}, { Origin }, ["chat"]), { status: 403, code: "forbidden" });
  });

  test("[CON2] user_id is taken as given, roles likewise", async () => {
    const user_id = "anna@example.com/!~";
    const client = await Client.connect(service.url, {
      query: { user_id, device_id: "phone", roles: "service,admin" },
    });
    expect((await client.next("connected")).payload).toMatchObject({ user_id, authenticated: true });
    expect(await client.ask("authenticate", { token: "whatever" })).toEqual({
      user_id,
      device_id: "phone",
      roles: ["service", "admin"],
      expires_at: null,
      acked_cursor: null,
    });
    await client.ask("publish", { user_ids: [user_id], type: "poll.closed", payload: {} });
    const ordinary = await Client.connect(service.url, { query: { user_id } });
    expect((await ordinary.request("publish", { all: true, type: "x", payload: {} })).payload.code).toBe("forbidden");
    await Promise.all([client.close(), ordinary.close()]);
  });

  test("[CON3] a device id is the client's, or one is made and told", async () => {
    const longest = "~".repeat(128);
    const named = await Client.connect(service.url, { query: { user_id: "u2", device_id: longest } });
    expect((await named.next("connected")).payload.device_id).toBe(longest);
    const made = await Promise.all([1, 2].map(() => Client.connect(service.url, { query: { user_id: "u2" } })));
    const ids = made.map((client) => client.all("connected")[0]!.payload.device_id);
    expect(new Set(ids).size).toBe(2);
    for (const id of ids) expect(id).toMatch(/^[\x21-\x7e]{1,128}$/);
    await Promise.all([named, ...made].map((client) => client.close()));
  });

  test("[CON3] a second connection of a device replaces the first with 4010; other devices stay", async () => {
    const connect = (user_id: string, device_id: string) =>
      Client.connect(service.url, { query: { user_id, device_id } });
    const [first, tablet, other] = await Promise.all([
      connect("u3", "phone"),
      connect("u3", "tablet"),
      connect("u4", "phone"),
    ]);
    const second = await connect("u3", "phone");
    expect((await first.closed).code).toBe(4010);
    for (const client of [second, tablet, other]) await client.settled();
    const third = await connect("u3", "phone");
    expect((await second.closed).code).toBe(4010);
    await Promise.all([third, tablet, other].map((client) => client.close()));
  });

  test("[CON3] of a device's connections at once, one lives", async () => {
    const clients = await Promise.all(
      Array.from({ length: 8 }, () => Client.open(service.url, { query: { user_id: "u5", device_id: "phone" } })),
    );
    const open = new Set(clients);
    const oneIsLeft = Promise.withResolvers<void>();
    const closings = clients.map(async (client) => {
      const { code } = await client.closed;
      open.delete(client);
      if (open.size > 0) expect(code).toBe(4010);
      if (open.size === 1) oneIsLeft.resolve();
    });
    await oneIsLeft.promise;
    const [last] = open;
    await last!.settled();
    await last!.close();
    await Promise.all(closings);
  });

  test("[CON3] [PRE1] a second connection that is gone before it is known replaces the first, or leaves it as it was", async () => {
    const replaced: number[] = [];
    for (let round = 0; round < 20; round++) {
      const query = { user_id: `gone${round}`, device_id: "phone" };
      const first = await Client.connect(service.url, { query });
      void first.closed.then(({ code }) => replaced.push(code));
      (await RawSocket.open(service.url, { query })).destroy();
    }
    const admin = await Client.connect(service.url, { query: { user_id: "root", roles: "admin" } });
    // None lives on as a device that nobody counts: its user offline while it is connected.
    await until(async () => {
      const { hub, presence } = await admin.ask("admin.stats");
      return presence.leaving === 0 && presence.devices === hub.connections;
    });
    expect(replaced.every((code) => code === 4010)).toBe(true);
  });

  test("[CON4] the subprotocol is the client's first that is ours; JSON where none is offered", async () => {
    const query = { user_id: "u6" };
    const chosen = async (...protocols: string[]) => {
      const raw = await RawSocket.open(service.url, { query, protocols });
      raw.destroy();
      return raw.answer.headers.get("sec-websocket-protocol");
    };
    expect(await chosen()).toBeNull();
    expect(await chosen("ws-service.v1.json")).toBe("ws-service.v1.json");
    expect(await chosen("ws-service.v1.protobuf")).toBe("ws-service.v1.protobuf");
    expect(await chosen("chat", "ws-service.v1.protobuf", "ws-service.v1.json")).toBe("ws-service.v1.protobuf");
    expect(await chosen("ws-service.v9.json", "ws-service.v1.json")).toBe("ws-service.v1.json");
    for (const protocols of [["chat"], ["ws-service.v2.json", "mqtt"], ["WS-SERVICE.V1.JSON"]]) {
      expectRefusal(await refused(query, {}, protocols), {
        status: 400,
        code: "unsupported_subprotocol",
        field: "Sec-WebSocket-Protocol",
      });
    }
  });

  test("[CON4] a JSON connection gets text frames, a protobuf connection binary ones, and both speak to each other", async () => {
    const json = await RawSocket.open(service.url, { query: { user_id: "json" }, protocols: ["ws-service.v1.json"] });
    const binary = await RawSocket.open(service.url, {
      query: { user_id: "binary" },
      protocols: ["ws-service.v1.protobuf"],
    });
    const decoded = () => binary.frames.map(({ payload }) => protobufPeer.decode(payload));
    const request = (id: string, type: string, payload: object) => {
      binary.sendFrame({ opcode: opcodes.binary, payload: protobufPeer.encode({ id, type, payload }) });
      return binary.until(() => decoded().find((message) => message.reply_to === id));
    };
    const conversation = { topics: ["conversation:c1"] };
    await request("1", "subscribe", conversation);
    await json.request("subscribe", conversation);
    expect(
      await request("2", "message.send", { conversation_id: "c1", client_message_id: "b1", content: "from b" }),
    ).toMatchObject({
      type: "ack",
    });
    expect((await json.next("message.new")).payload.content).toBe("from b");
    await json.request("message.send", { conversation_id: "c1", client_message_id: "j1", content: { text: "from j" } });
    const heard = await binary.until(() => decoded().find(({ type }) => type === "message.new"));
    expect(heard).toMatchObject({ topic: "conversation:c1", seq: 2, payload: { content: { text: "from j" } } });
    expect(decoded()[0]).toMatchObject({ type: "connected", payload: { user_id: "binary", protocol_version: 1 } });
    expect(new Set(json.frames.map(({ opcode }) => opcode))).toEqual(new Set([opcodes.text]));
    expect(new Set(binary.frames.map(({ opcode }) => opcode))).toEqual(new Set([opcodes.binary]));
    binary.sendText(JSON.stringify({ id: "3", type: "ping", payload: {} }));
    expect(await binary.until(() => decoded().find(({ type }) => type === "error"))).toMatchObject({
      payload: { code: "invalid_message" },
    });
    for (const raw of [json, binary]) raw.destroy();
  });

  test("[CON1] a query parameter of ours that stands twice is 400, whichever of the two a gateway has added", async () => {
    const once = { user_id: "u7", device_id: "d1", roles: "service", since: "acked", token: "t" };
    for (const [name, value] of Object.entries(once)) {
      for (const second of [value, ""]) {
        const query = new URLSearchParams({ user_id: "u7", ...(name === "user_id" ? {} : { [name]: value }) });
        query.append(name, second);
        const url = `${service.http}/ws?${query}`;
        const answer = await fetch(url, { headers: { Connection: "Upgrade", Upgrade: "websocket" } });
        expect([answer.status, ((await answer.json()) as { field: string }).field]).toEqual([400, name]);
      }
    }
  });

  test("[CON5] connected comes first and says how this server is", async () => {
    const client = await Client.connect(service.url, { query: { user_id: "u7", device_id: "d1" } });
    expect(client.received[0]).toEqual({
      id: expect.any(String),
      type: "connected",
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      payload: {
        connection_id: expect.any(String),
        device_id: "d1",
        user_id: "u7",
        authenticated: true,
        protocol_version: 1,
        server_time: expect.stringMatching(/Z$/),
        ping_interval_ms: 54_000,
        max_message_size: 10 * 1024 * 1024,
      },
    });
    const other = await Client.connect(service.url, { query: { user_id: "u7", device_id: "d2" } });
    expect(other.received[0]!.payload.connection_id).not.toBe(client.received[0]!.payload.connection_id);
    await Promise.all([client.close(), other.close()]);
  });
});

describe("trusted mode on a developer's own machine", () => {
  test("[CON1] no page of another site reaches it: origins of this machine alone, and requests without one", async () => {
    const service = await startService();
    try {
      const statusOf = async (headers: Record<string, string>) => {
        const raw = await RawSocket.dial(service.url, { query: { user_id: "u1", roles: "admin" }, headers });
        raw.destroy();
        return raw.answer.status;
      };
      for (const Origin of [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example:8086",
        "http://localhost:8086@evil.example",
        "http://127.0.0.2",
        "file://",
      ])
        expect([Origin, await statusOf({ Origin })]).toEqual([Origin, 403]);
      // A name that leads here does not help: the origin is the page's.
      expect(await statusOf({ Origin: "http://evil.example:8086", Host: "evil.example:8086" })).toBe(403);
      for (const Origin of ["http://localhost:3000", "http://127.0.0.1:8086", "https://[::1]:5173", "http://localhost"])
        expect([Origin, await statusOf({ Origin })]).toEqual([Origin, 101]);
      expect(await statusOf({})).toBe(101);
    } finally {
      await service.stop();
    }
  });

  test("[CON1] [CON2] a proxy on it lets in nobody else, on neither listener, unless it is said to be a gateway", async () => {
    const proxied = { SERVER__TRUSTED_PROXIES: "127.0.0.1", OPERATIONS__LISTEN: "127.0.0.1:0" };
    for (const [settings, expected] of [
      [proxied, [403, 403]],
      [{ ...proxied, SERVER__TRUSTED_PROXIES: "" }, [403, 403]],
      [{ ...proxied, AUTH__BEHIND_GATEWAY: "true" }, [101, 403]],
    ] as const) {
      const service = await startService({ settings });
      try {
        const { url } = await service.logged(({ msg }) => msg === "metrics and console");
        const statuses = (address: string) =>
          Promise.all(
            [service.url, `${String(url).replace("http", "ws")}/ws`].map(async (to) => {
              const headers = { "X-Forwarded-For": address };
              const raw = await RawSocket.dial(to, { query: { user_id: "eve", roles: "admin" }, headers });
              raw.destroy();
              return raw.answer.status;
            }),
          );
        expect(await statuses("192.0.2.1")).toEqual([...expected]);
        expect(await statuses("::1")).toEqual([101, 101]);
      } finally {
        await service.stop();
      }
    }
  });
});

describe("start", () => {
  const folder = mkdtempSync(join(tmpdir(), "ws-service-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("[CON2] trusted mode refuses to start on another address than loopback, unless a gateway is in front", async () => {
    for (const SERVER__HOST of ["0.0.0.0", "::"]) {
      const start = startService({ folder, settings: { SERVER__HOST } });
      expect(start).rejects.toThrow("auth.behind_gateway");
      await start.catch(() => {});
      // Only read, not started: nothing here may listen on all addresses.
      const env = { WS__SERVER__HOST: SERVER__HOST, WS__AUTH__BEHIND_GATEWAY: "true" };
      expect((await loadConfig({ env, cwd: folder })).config.auth.behind_gateway).toBe(true);
    }
  });
});

describe("token mode", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      settings: {
        AUTH__MODE: "token",
        AUTH__SECRET: secret,
        AUTH__TIMEOUT: "5s",
        DIRECTORY__MODE: "managed",
        SERVER__ALLOWED_ORIGINS: "https://app.example.com",
      },
    });
  });
  afterAll(() => service.stop());

  test("[CON1] bad credentials are 401, an unknown user is 403", async () => {
    const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });
    for (const options of [
      bearer("a.b.c"),
      { query: { token: "nonsense" } },
      { headers: { Authorization: "Bearer" } },
      { headers: { Authorization: "Bearer a b" } },
    ]) {
      const answer = await RawSocket.refused(service.url, options);
      expectRefusal(answer, { status: 401, code: "token_invalid" });
      expect(answer.headers.get("www-authenticate")).toBe("Bearer");
    }
    const token = await signToken({ sub: "stranger", exp: inAnHour() });
    expectRefusal(await RawSocket.refused(service.url, bearer(token)), { status: 403, code: "user_unknown" });
  });

  test("[CON2] Authorization of another scheme, as proxies and browsers add it, says nothing here", async () => {
    const headers = { Authorization: "Basic dXNlcjpwYXNz" };
    const token = await signToken({ sub: "root", roles: ["service"], exp: inAnHour() });
    const query = await Client.connect(service.url, { headers, query: { token } });
    expect(query.received[0]!.payload.user_id).toBe("root");
    const message = await Client.open(service.url, { headers });
    expect((await message.request("authenticate", { token })).type).toBe("auth.success");
    await Promise.all([query.close(), message.close()]);
  });

  test("[CON2] user_id and roles of the query say nothing here", async () => {
    const client = await Client.open(service.url, { query: { user_id: "anna", roles: "admin" } });
    expect((await client.next("connected")).payload).toMatchObject({ user_id: null, authenticated: false });
    await client.close();
  });

  test("[CON5] before authentication connected says so, and how long there is", async () => {
    const client = await Client.open(service.url, { query: { device_id: "d1" } });
    expect((await client.next("connected")).payload).toMatchObject({
      user_id: null,
      authenticated: false,
      device_id: "d1",
      auth_timeout_ms: 5_000,
    });
    await client.close();
  });
});

describe("admission", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      settings: { WEBSOCKET__MAX_CONNECTIONS: "2" },
    });
  });
  afterAll(() => service.stop());

  test("[CON1] too many connections are 429 with Retry-After; after the origin, before the identity", async () => {
    const query = { user_id: "u1" };
    const [first] = await Promise.all([1, 2].map(() => Client.connect(service.url, { query })));
    const full = { status: 429, code: "limit_exceeded" };
    expectRefusal(await RawSocket.refused(service.url, { query }), full);
    expectRefusal(await RawSocket.refused(service.url, { query: { user_id: "" } }), full);
    expectRefusal(await RawSocket.refused(service.url, { query, protocols: ["chat"] }), full);
    const headers = { Origin: "https://evil.example.com" };
    expectRefusal(await RawSocket.refused(service.url, { query, headers }), { status: 403, code: "forbidden" });
    expect((await fetch(`${service.http}/ready`)).status).toBe(200);
    await first!.close();
    const again = await Client.connect(service.url, { query });
    await again.settled();
  });
});
