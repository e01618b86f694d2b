/** Proves who is believed: tokens in all three ways, refresh, expiry, key servers and revocation [AUTH] [CON2]. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportJWK, exportSPKI, generateKeyPair, type JWTPayload } from "jose";
import { Client } from "../support/client.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, secretBytes, signToken } from "../support/tokens.ts";

setDefaultTimeout(60_000);
const seconds = (fromNow: number) => Date.now() / 1_000 + fromNow;
const token = (claims: JWTPayload = {}, ...rest: Parameters<typeof signToken> extends [any, ...infer R] ? R : never) =>
  signToken({ sub: "anna", exp: seconds(3_600), ...claims }, ...rest);
const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
const hs256 = { AUTH__MODE: "token", AUTH__SECRET: secret };

/** Sets a row of the users table from another process than the service, as an application would. */
function setUser(service: Service, userId: string, disabled: boolean): void {
  const database = new Database(join(service.folder, "data/ws-service.db"));
  database.exec("PRAGMA busy_timeout = 5000");
  database
    .query("INSERT INTO users (user_id, disabled) VALUES (?1, ?2) ON CONFLICT (user_id) DO UPDATE SET disabled = ?2")
    .run(userId, disabled ? 1 : 0);
  database.close();
}

describe("tokens", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      settings: {
        ...hs256,
        AUTH__ISSUER: "https://issuer.example.com",
        AUTH__AUDIENCE: "chat",
        DIRECTORY__MODE: "managed",
        PRESENCE__MAX_DEVICES: "2",
        PRESENCE__OFFLINE_GRACE: "0s",
      },
    });
    for (const user of ["anna", "ben", "many", "ghost"]) setUser(service, user, false);
    setUser(service, "gone", true);
  });
  afterAll(() => service.stop());
  const issued = (claims: JWTPayload = {}) => token({ iss: "https://issuer.example.com", aud: "chat", ...claims });
  const open = (query: Record<string, string> = {}) => Client.open(service.url, { query });

  test("[CON2] [AUTH1] the token comes as a Bearer header, in the query, or in the first authenticate", async () => {
    const claims = { roles: ["service", "admin", "root"] };
    const header = await Client.connect(service.url, { headers: { Authorization: `Bearer ${await issued(claims)}` } });
    const query = await Client.connect(service.url, { query: { token: await issued(claims), device_id: "tablet" } });
    for (const client of [header, query]) {
      expect(client.received[0]!.payload).toMatchObject({ user_id: "anna", authenticated: true });
      await client.close();
    }
    const message = await open();
    expect((await message.next("connected")).payload).toMatchObject({ user_id: null, authenticated: false });
    const exp = Math.floor(seconds(600));
    const success = await message.ask("authenticate", { token: await issued({ ...claims, exp }), device_id: "phone" });
    expect(success).toEqual({
      user_id: "anna",
      device_id: "phone",
      roles: ["service", "admin"],
      expires_at: new Date(exp * 1_000).toISOString(),
      acked_cursor: null,
    });
    const subscribed = await message.next("subscribed");
    expect(subscribed.reply_to).toBeUndefined();
    expect(subscribed.payload.topics.map(({ topic }: { topic: string }) => topic).sort()).toEqual([
      "calls:anna",
      "notifications:anna",
      "user:anna",
    ]);
    await message.close();
  });

  test("[CON2] the header wins over the query", async () => {
    const headers = { Authorization: `Bearer ${await issued({ sub: "ben" })}` };
    const client = await Client.connect(service.url, { headers, query: { token: await issued() } });
    expect(client.received[0]!.payload.user_id).toBe("ben");
    await client.close();
  });

  test("[CON2] of Authorization one Bearer is read, however it is written and whatever stands beside it; two are refused", async () => {
    const one = await issued();
    const answerTo = async (authorization: string) => {
      const raw = await RawSocket.dial(service.url, { headers: { Authorization: authorization } });
      raw.destroy();
      return raw.answer;
    };
    const taken = [
      `Bearer ${one}`,
      `BEARER  ${one} `,
      `Bearer\t${one}`,
      `Basic eDp5, Bearer ${one}`,
      `bearer ${one}, Basic eDp5`,
    ];
    for (const header of taken) expect([header, (await answerTo(header)).status]).toEqual([header, 101]);
    const messages = async (headers: string[]) =>
      Promise.all(headers.map(async (header) => (await answerTo(header)).body?.message));
    const twice = "Authorization: Bearer must not stand twice.";
    const notOne = "Authorization: Bearer must have one token.";
    expect(await messages([`Bearer ${one}, Bearer ${one}`, `Bearer, Bearer ${one}`])).toEqual([twice, twice]);
    expect(await messages(["Bearer", "Bearer ", `Bearer ${one} ${one}`])).toEqual([notOne, notOne, notOne]);
  });

  test("[CON2] before authentication only ping and authenticate are served", async () => {
    const client = await open();
    const requests: [string, object][] = [
      ["subscribe", { topics: ["user"] }],
      ["message.send", { conversation_id: "c1", client_message_id: "m1", content: "x" }],
      ["history", { topic: "user:anna" }],
      ["publish", { all: true, type: "x", payload: {} }],
      ["ack", { cursor: "x" }],
    ];
    for (const [type, payload] of requests) {
      expect([type, (await client.request(type, payload)).payload.code]).toEqual([type, "not_authenticated"]);
    }
    const pong = await client.request("ping");
    expect([pong.type, pong.payload.cursor]).toEqual(["pong", undefined]);
    await client.ask("authenticate", { token: await issued() });
    expect((await client.request("ping")).payload.cursor).toEqual(expect.any(String));
    await client.close();
  });

  test("[AUTH1] [AUTH2] [ENV5] each failure has its code, says whether to try again, and closes with 4004", async () => {
    const cases: [string, boolean, string | Promise<string>][] = [
      ["token_invalid", false, "nonsense"],
      [
        "token_invalid",
        false,
        signToken(
          { sub: "anna", exp: seconds(60), iss: "https://issuer.example.com", aud: "chat" },
          { key: new TextEncoder().encode("another secret of thirty-two bytes") },
        ),
      ],
      ["token_invalid", false, issued({ iss: "https://other.example.com" })],
      ["token_invalid", false, issued({ aud: "mail" })],
      ["token_invalid", false, issued({ sub: "" })],
      ["token_invalid", false, issued({ exp: undefined as never })],
      ["token_invalid", false, issued({ sub: undefined as never })],
      ["token_invalid", false, issued({ device_id: "other device" })],
      ["token_expired", true, issued({ exp: seconds(-60) })],
      ["token_not_yet_valid", true, issued({ nbf: seconds(60) })],
      ["user_unknown", false, issued({ sub: "stranger" })],
      ["user_disabled", false, issued({ sub: "gone" })],
    ];
    for (const [code, retryable, signed] of cases) {
      const client = await open();
      const reply = await client.request("authenticate", { token: await signed });
      expect([reply.type, reply.payload]).toEqual(["auth.failed", { code, retryable }]);
      expect((await client.closed).code).toBe(4004);
    }
  });

  test("[CON3] [ENV5] beyond the most devices a newcomer comes in, by message and by upgrade, and backends do not count", async () => {
    const signed = await issued({ sub: "many" });
    const shop = await issued({ sub: "many", roles: ["service"] });
    const backends: Client[] = [];
    for (const device_id of ["s1", "s2", "s3"])
      backends.push(await Client.connect(service.url, { query: { token: shop, device_id } }));
    const connect = (device_id: string) => Client.connect(service.url, { query: { token: signed, device_id } });
    const [first, second] = [await connect("a"), await connect("b")];
    await first.settled();
    const message = await open({ device_id: "c" });
    expect((await message.request("authenticate", { token: signed })).type).toBe("auth.success");
    expect((await second.closed).code).toBe(4012);
    await message.settled();
    const last = await connect("d");
    expect((await first.closed).code).toBe(4012);
    // The same device again is no further device.
    const again = await connect("c");
    expect((await message.closed).code).toBe(4010);
    // A backend that is one no more counts from then on.
    await backends[0]!.ask("authenticate", { token: signed });
    expect((await last.closed).code).toBe(4012);
    for (const client of [again, ...backends]) await client.settled();
    const own = async () => (await backends[0]!.ask("presence.query", { user_ids: ["many"] })).users[0].devices;
    expect(await own()).toBe(4);
    for (const client of [again, ...backends]) await client.close();
  });

  test("[AUTH2] 30 s of leeway: a token that has just ended or is about to begin is taken", async () => {
    for (const claims of [{ exp: seconds(-20) }, { nbf: seconds(20) }]) {
      const client = await open();
      expect((await client.request("authenticate", { token: await issued(claims) })).type).toBe("auth.success");
      await client.close();
    }
  });

  test("[AUTH2] alg none, and no signature, are refused everywhere", async () => {
    const claims = { sub: "anna", exp: seconds(600), iss: "https://issuer.example.com", aud: "chat" };
    for (const alg of ["none", "None", "NONE", "HS256"]) {
      const unsigned = `${base64({ alg, typ: "JWT" })}.${base64(claims)}.`;
      expect((await RawSocket.refused(service.url, { query: { token: unsigned } })).status).toBe(401);
      const client = await open();
      expect((await client.request("authenticate", { token: unsigned })).payload.code).toBe("token_invalid");
    }
  });

  test("[AUTH2] a token that is bound to a device is good for that device only; the topics claim grants", async () => {
    const bound = await issued({ device_id: "phone", topics: ["conversation:granted"] });
    const refusal = await RawSocket.refused(service.url, { query: { token: bound, device_id: "tablet" } });
    expect([refusal.status, refusal.body.code]).toEqual([401, "token_invalid"]);
    const client = await open();
    expect((await client.ask("authenticate", { token: bound })).device_id).toBe("phone");
    const { topics, rejected } = await client.ask("subscribe", {
      topics: ["conversation:granted", "conversation:other"],
    });
    expect(topics[0].topic).toBe("conversation:granted");
    expect(rejected).toEqual([{ topic: "conversation:other", code: "forbidden" }]);
    await client.close();
  });

  test("[CON1] [AUTH4] at the upgrade a disabled user is 403", async () => {
    const answer = await RawSocket.refused(service.url, { query: { token: await issued({ sub: "gone" }) } });
    expect([answer.status, answer.body.code]).toEqual([403, "user_disabled"]);
  });

  test("[AUTH3] a refresh extends the session and keeps every subscription", async () => {
    const client = await Client.connect(service.url, {
      query: { token: await issued({ topics: ["conversation:kept"] }), device_id: "kept" },
    });
    await client.ask("subscribe", { topics: ["conversation:kept"] });
    const exp = Math.floor(seconds(7_200));
    const success = await client.ask("authenticate", { token: await issued({ exp, topics: ["conversation:kept"] }) });
    expect(success).toMatchObject({ device_id: "kept", expires_at: new Date(exp * 1_000).toISOString() });
    await client.settled();
    expect(client.all("subscribed").length).toBe(2);
    const backend = await Client.connect(service.url, {
      query: { token: await issued({ sub: "ben", roles: ["service"] }) },
    });
    await backend.ask("publish", { topic: "conversation:kept", type: "poll.closed", payload: {} });
    await backend.ask("publish", { user_ids: ["anna"], type: "poll.opened", payload: {} });
    await client.next("poll.closed");
    await client.next("poll.opened");
    await Promise.all([client.close(), backend.close()]);
  });

  test("[AUTH3] a refresh with fewer rights takes them: topics are left at once, roles are gone; with more it adds", async () => {
    const of = (roles: string[], topics: string[]) => issued({ roles, topics });
    const client = await Client.connect(service.url, {
      query: { token: await of(["service", "admin"], ["conversation:one", "conversation:two", "presence:ben"]) },
    });
    const asked = ["conversation:one", "conversation:two", "presence:ben", "typing:one"];
    const { rejected } = await client.ask("subscribe", { topics: asked });
    expect(rejected).toEqual([]);
    expect((await client.ask("authenticate", { token: await of([], ["conversation:two"]) })).roles).toEqual([]);
    // Told before the reply: what is forbidden is over once the new token counts.
    const told = client.received.map(({ type }) => type);
    expect(told.indexOf("unsubscribed")).toBeLessThan(told.indexOf("auth.success"));
    const { payload } = await client.next("unsubscribed");
    expect([payload.topics.sort(), payload.reason]).toEqual([
      ["conversation:one", "presence:ben", "typing:one"],
      "access_revoked",
    ]);
    for (const [type, request] of [
      ["publish", { all: true, type: "x", payload: {} }],
      ["admin.nodes", {}],
      ["history", { topic: "conversation:one" }],
    ] as const)
      expect([type, (await client.request(type, request)).payload.code]).toEqual([type, "forbidden"]);
    const backend = await Client.connect(service.url, {
      query: { token: await issued({ sub: "ben", roles: ["service"] }) },
    });
    for (const topic of ["conversation:one", "conversation:two"])
      await backend.ask("publish", { topic, type: "poll.closed", payload: { topic } });
    await client.next("poll.closed", ({ topic }) => topic === "conversation:two");
    await client.settled();
    expect(client.all("poll.closed").length).toBe(1);
    await client.ask("authenticate", { token: await of([], ["conversation:three"]) });
    await client.next("unsubscribed", ({ topics }) => topics.includes("conversation:two"));
    const heard = async () => {
      const { topics } = await client.ask("subscribe", { topics: ["conversation:three", "conversation:two"] });
      return topics.map(({ topic }: { topic: string }) => topic).sort();
    };
    expect(await heard()).toEqual(["conversation:three"]);
    await client.ask("authenticate", { token: await of(["service"], []) });
    expect(await heard()).toEqual(["conversation:three", "conversation:two"]);
    await client.ask("publish", { topic: "conversation:three", type: "poll.opened", payload: {} });
    await Promise.all([client.close(), backend.close()]);
  });

  test("[AUTH2] a token with role service or admin needs no row among the users; disabled it is refused", async () => {
    for (const roles of [["service"], ["admin"]]) {
      const backend = await Client.connect(service.url, { query: { token: await issued({ sub: "nobody", roles }) } });
      // Its own things work as anybody's.
      await backend.ask("ack", { cursor: backend.all("subscribed")[0]!.payload.cursor });
      await backend.ask("presence.update", { status: "busy" });
      await backend.close();
    }
    const refusals = [
      issued({ sub: "nobody", roles: ["superuser"] }),
      issued({ sub: "nobody" }),
      issued({ sub: "gone", roles: ["service"] }),
    ];
    const codes = await Promise.all(
      refusals.map(
        async (token) => (await RawSocket.refused(service.url, { query: { token: await token } })).body.code,
      ),
    );
    expect(codes).toEqual(["user_unknown", "user_unknown", "user_disabled"]);
  });

  test("[AUTH3] [AUTH1] a refresh with another user closes with 4005; one that fails is told, and the connection lives on", async () => {
    const other = await Client.connect(service.url, { query: { token: await issued() } });
    other.send("authenticate", { token: await issued({ sub: "ben" }) });
    expect((await other.closed).code).toBe(4005);
    const bad = await Client.connect(service.url, {
      query: { token: await issued({ topics: ["conversation:held"] }), device_id: "mine" },
    });
    await bad.ask("subscribe", { topics: ["conversation:held"] });
    const failures: [string, string | Promise<string>][] = [
      ["token_invalid", "nonsense"],
      ["token_expired", issued({ exp: seconds(-60) })],
      ["token_invalid", issued({ device_id: "another" })],
      ["user_disabled", issued({ sub: "gone" })],
    ];
    for (const [code, token] of failures) {
      const { type, payload } = await bad.request("authenticate", { token: await token });
      expect([type, payload.code]).toEqual(["auth.failed", code]);
    }
    const { topics } = await bad.ask("subscribe", { topics: ["conversation:held"] });
    expect([topics.length, bad.all("unsubscribed")]).toEqual([1, []]);
    await bad.close();
  });

  test("[AUTH1] [SUB5] who leaves while its token is looked at leaves no device behind", async () => {
    const signed = await issued({ sub: "ghost" });
    for (let round = 0; round < 20; round++) {
      const raw = await RawSocket.open(service.url, { query: { device_id: `d${round}` } });
      await raw.next("connected");
      raw.send("authenticate", { token: signed });
      raw.destroy();
    }
    const client = await Client.connect(service.url, { query: { token: signed } });
    const devices = async () => (await client.ask("presence.query", { user_ids: ["ghost"] })).users[0].devices;
    expect(await devices()).toBe(1);
    await client.close();
  });
});

describe("time", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      settings: {
        ...hs256,
        AUTH__TIMEOUT: "400ms",
        AUTH__LEEWAY: "0s",
        AUTH__EXPIRY_WARNING: "60s",
        AUTH__EXPIRY_GRACE: "400ms",
      },
    });
  });
  afterAll(() => service.stop());

  test("[CON2] [ENV5] who does not authenticate in time is closed with 4003, pings or not", async () => {
    const silent = await Client.open(service.url);
    const talking = await RawSocket.open(service.url);
    let isOver = false;
    void talking.ended.then(() => {
      isOver = true;
    });
    while (!isOver) await talking.request("ping").catch(() => {});
    expect((await talking.ended).code).toBe(4003);
    expect((await silent.closed).code).toBe(4003);
  });

  test("[AUTH3] auth.expiring comes before the end, 4104 after the grace; everything is served until then", async () => {
    const exp = seconds(1);
    const client = await Client.connect(service.url, { query: { token: await token({ exp }) } });
    const expiring = await client.next("auth.expiring");
    expect(expiring.payload.expires_at).toBe(new Date(Math.floor(exp * 1_000)).toISOString());
    await client.ask("history", { topic: "user:anna" });
    expect((await client.closed).code).toBe(4104);
    expect(Date.now()).toBeGreaterThan(exp * 1_000);
    expect(client.all("auth.expiring").length).toBe(1);
  });

  test("[AUTH3] a short token is told of when a third of its life is left, and only once for each token", async () => {
    const iat = Math.floor(seconds(0));
    const short = () => token({ iat, exp: iat + 50 });
    const client = await Client.connect(service.url, { query: { token: await short() } });
    await client.settled();
    // Its first third has not begun: today's clients would refresh for ever.
    expect(client.all("auth.expiring")).toEqual([]);
    const ending = await token({ iat: iat - 40, exp: iat + 10 });
    await client.ask("authenticate", { token: ending });
    await client.next("auth.expiring");
    await client.ask("authenticate", { token: ending });
    await client.settled();
    expect(client.all("auth.expiring").length).toBe(1);
    await client.close();
  });

  test("[AUTH3] who refreshes after the warning stays, and is warned of the next end anew", async () => {
    const stays = await Client.connect(service.url, {
      query: { token: await token({ exp: seconds(1), sub: "stays" }) },
    });
    const leaves = await Client.connect(service.url, {
      query: { token: await token({ exp: seconds(1), sub: "leaves" }) },
    });
    await stays.next("auth.expiring");
    await stays.ask("authenticate", { token: await token({ sub: "stays", exp: seconds(2) }) });
    expect((await leaves.closed).code).toBe(4104);
    await stays.settled();
    await stays.until(() => (stays.all("auth.expiring").length === 2 ? true : undefined));
    await stays.close();
  });
});

describe("public keys", () => {
  test("[AUTH2] RS256, ES256 and EdDSA by key server; while it is away the upgrade is 503, a message unavailable", async () => {
    const pairs = await Promise.all(
      ["RS256", "ES256", "EdDSA"].map(async (alg) => ({ alg, ...(await generateKeyPair(alg, { extractable: true })) })),
    );
    const keys = await Promise.all(
      pairs.map(async ({ alg, publicKey }) => ({ ...(await exportJWK(publicKey)), alg, kid: alg, use: "sig" })),
    );
    let isUp = false;
    const keyServer = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () => (isUp ? Response.json({ keys }) : new Response("down", { status: 503 })),
    });
    const service = await startService({
      settings: { AUTH__MODE: "token", AUTH__ALGORITHMS: "RS256,ES256,EdDSA", AUTH__JWKS_URL: keyServer.url.href },
    });
    try {
      const signed = await Promise.all(
        pairs.map(({ alg, privateKey }) => token({}, { alg, key: privateKey, kid: alg })),
      );
      const refusal = await RawSocket.refused(service.url, { query: { token: signed[0]! } });
      expect([refusal.status, refusal.body.code]).toEqual([503, "unavailable"]);
      expect(Number(refusal.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
      const client = await Client.open(service.url);
      const authenticate = () => client.request("authenticate", { token: signed[0]! });
      const first = await authenticate();
      expect(first.payload).toMatchObject({ code: "unavailable", retryable: true });
      isUp = true;
      // As a client does: again whenever it is told to.
      let reply = first;
      while (reply.type === "error") {
        expect(reply.payload.code).toBe("unavailable");
        await Bun.sleep(reply.payload.retry_after_ms);
        reply = await authenticate();
      }
      expect(reply.type).toBe("auth.success");
      await client.close();
      for (const it of signed) {
        const other = await Client.connect(service.url, { query: { token: it } });
        await other.close();
      }
      isUp = false;
      const cached = await Client.connect(service.url, { query: { token: signed[1]! } });
      await cached.close();
    } finally {
      await service.stop();
      await keyServer.stop(true);
    }
  });

  test("[AUTH2] keys from a PEM file; a public key is never taken for a shared secret", async () => {
    const { publicKey, privateKey } = await generateKeyPair("RS256", { extractable: true });
    const pem = await exportSPKI(publicKey);
    const folder = mkdtempSync(join(tmpdir(), "ws-service-"));
    writeFileSync(join(folder, "public.pem"), pem);
    const service = await startService({
      folder,
      settings: { AUTH__MODE: "token", AUTH__ALGORITHMS: "RS256", AUTH__PUBLIC_KEY_FILE: "public.pem" },
    });
    try {
      for (const text of [pem, pem.trim(), pem.replace(/-----[A-Z ]+-----|\n/g, "")]) {
        const forged = await token({}, { key: new TextEncoder().encode(text) });
        const answer = await RawSocket.refused(service.url, { query: { token: forged } });
        expect([answer.status, answer.body.code]).toEqual([401, "token_invalid"]);
      }
      const foreign = await RawSocket.refused(service.url, { query: { token: await token({}, { key: secretBytes }) } });
      expect(foreign.status).toBe(401);
      const real = await token({}, { alg: "RS256", key: privateKey });
      await (await Client.connect(service.url, { query: { token: real } })).close();
    } finally {
      await service.stop();
    }
  });
});

describe("revocation", () => {
  test("[AUTH4] [ENV5] a user who is disabled in the tables loses every live connection (4011) and gets no new one", async () => {
    const service = await startService();
    try {
      const devices = await Promise.all(
        ["phone", "tablet"].map((device_id) => Client.connect(service.url, { query: { user_id: "anna", device_id } })),
      );
      const other = await Client.connect(service.url, { query: { user_id: "ben" } });
      setUser(service, "anna", true);
      for (const device of devices) expect((await device.closed).code).toBe(4011);
      await other.settled();
      const answer = await RawSocket.refused(service.url, { query: { user_id: "anna" } });
      expect([answer.status, answer.body.code]).toEqual([403, "user_disabled"]);
      setUser(service, "anna", false);
      await (await Client.connect(service.url, { query: { user_id: "anna" } })).settled();
    } finally {
      await service.stop();
    }
  });
});
