/** Proves which tokens are accepted, with real keys [AUTH1] [AUTH2]. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { exportSPKI, generateKeyPair, type JWTPayload, UnsecuredJWT } from "jose";
import { AuthenticationError, type Authenticator } from "../../src/auth/authenticator.ts";
import { ConfigError } from "../../src/config/faults.ts";
import { authFailureTable } from "../../src/protocol/errors.ts";
import {
  authenticator,
  nowMs,
  nowSeconds,
  refusal,
  secret,
  secretBytes,
  signToken as sign,
  startedAuthenticator as started,
  usualClaims as usual,
} from "../support/tokens.ts";

const folder = await mkdtemp(join(tmpdir(), "ws-service-auth-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

const rsa = await generateKeyPair("RS256");
const ec = await generateKeyPair("ES256");
const ecOther = await generateKeyPair("ES256");
const ed = await generateKeyPair("EdDSA");

async function pemFile(name: string, ...keys: CryptoKey[]): Promise<string> {
  const path = join(folder, name);
  await Bun.write(path, (await Promise.all(keys.map((key) => exportSPKI(key)))).join("\n"));
  return path;
}

describe("claims", () => {
  test("[AUTH2] a token says who, with which roles, on which device, with which topics, until when", async () => {
    const it = await started({ secret });
    const claims = {
      ...usual,
      roles: ["admin", "superuser", "service", "admin"],
      device_id: "d1",
      topics: ["conversation:c1"],
    };
    expect(await it.verify(await sign(claims))).toEqual({
      userId: "u1",
      roles: ["service", "admin"],
      deviceId: "d1",
      topics: ["conversation:c1"],
      expiresAt: nowMs + 3_600_000,
      issuedAt: null,
    });
    expect(await it.verify(await sign(usual))).toMatchObject({ roles: [], deviceId: null, topics: [] });
  });

  const malformed: [string, Record<string, unknown>][] = [
    ["no sub", { sub: undefined }],
    ["a number for sub", { sub: 7 }],
    ["an empty sub", { sub: "" }],
    ["a sub with a space", { sub: "u 1" }],
    ["a sub that is not ASCII", { sub: "ü1" }],
    ["a sub of 129 characters", { sub: "u".repeat(129) }],
    ["no exp", { exp: undefined }],
    ["text for exp", { exp: "tomorrow" }],
    ["an exp beyond any date", { exp: 1e300 }],
    ["text for nbf", { nbf: "now" }],
    ["text for roles", { roles: "admin" }],
    ["an object for roles", { roles: { admin: true } }],
    ["a number among roles", { roles: ["admin", 1] }],
    ["a number for device_id", { device_id: 1 }],
    ["a malformed device_id", { device_id: "my phone" }],
    ["text for topics", { topics: "conversation:c1" }],
    ["an object among topics", { topics: [{}] }],
  ];
  for (const [name, claims] of malformed) {
    test(`[AUTH2] ${name}: token_invalid`, async () => {
      const it = await started({ secret });
      const error = await refusal(it.verify(await sign({ ...usual, ...claims } as JWTPayload)));
      expect(error).toMatchObject({ name: "AuthenticationError", code: "token_invalid" });
      expect(authFailureTable[error.code].retryable).toBe(false);
    });
  }

  test("[AUTH2] issuer and audience must be the configured ones, and must be there", async () => {
    const it = await started({ secret, issuer: "https://login.example", audience: "chat" });
    const good = { ...usual, iss: "https://login.example", aud: ["other", "chat"] };
    expect(await it.verify(await sign(good))).toMatchObject({ userId: "u1" });
    for (const wrong of [{ iss: "https://login.example/" }, { iss: undefined }, { aud: "cha" }, { aud: undefined }]) {
      const error = await refusal(it.verify(await sign({ ...good, ...wrong } as JWTPayload)));
      expect(error.code).toBe("token_invalid");
    }
  });

  test("[AUTH1] [AUTH2] exp and nbf are checked with the leeway", async () => {
    const it = await started({ secret, leeway: "30s" });
    expect(await it.verify(await sign({ sub: "u1", exp: nowSeconds - 29 }))).toMatchObject({
      expiresAt: nowMs - 29_000,
    });
    const expired = await refusal(it.verify(await sign({ sub: "u1", exp: nowSeconds - 30 })));
    expect(expired).toMatchObject({ code: "token_expired" });
    expect(authFailureTable[expired.code].retryable).toBe(true);
    expect(await it.verify(await sign({ ...usual, nbf: nowSeconds + 30 }))).toMatchObject({ userId: "u1" });
    const early = await refusal(it.verify(await sign({ ...usual, nbf: nowSeconds + 31 })));
    expect(early).toMatchObject({ code: "token_not_yet_valid" });
    expect(authFailureTable[early.code].retryable).toBe(true);
  });
});

describe("keys and algorithms", () => {
  const asymmetric = [
    { alg: "RS256", pair: rsa },
    { alg: "ES256", pair: ec },
    { alg: "EdDSA", pair: ed },
  ];
  for (const { alg, pair } of asymmetric) {
    test(`[AUTH2] ${alg} with a PEM file`, async () => {
      const public_key_file = await pemFile(`${alg}.pem`, pair.publicKey);
      const it = await started({ algorithms: [alg], public_key_file });
      expect(await it.verify(await sign(usual, { alg, key: pair.privateKey, kid: "any" }))).toMatchObject({
        userId: "u1",
      });
      const stranger = await generateKeyPair(alg);
      expect((await refusal(it.verify(await sign(usual, { alg, key: stranger.privateKey })))).code).toBe(
        "token_invalid",
      );
    });
  }

  test("[AUTH2] alg none is refused, however it is spelt", async () => {
    const it = await started({ secret });
    const unsecured = new UnsecuredJWT(usual).encode();
    expect((await refusal(it.verify(unsecured))).code).toBe("token_invalid");
    const body = (await sign(usual)).split(".")[1];
    for (const alg of ["none", "None", "NONE", "nOnE", "", null, undefined, ["HS256"], "hs256", "HS512"]) {
      const header = Buffer.from(JSON.stringify({ alg })).toString("base64url");
      for (const signature of ["", "AAAA"]) {
        expect((await refusal(it.verify(`${header}.${body}.${signature}`))).code).toBe("token_invalid");
      }
    }
  });

  test("[AUTH2] a public key is never taken for a secret", async () => {
    const path = await pemFile("confusion.pem", rsa.publicKey);
    const pem = new TextEncoder().encode(await Bun.file(path).text());
    const forged = await sign({ ...usual, roles: ["admin"] }, { key: pem });
    for (const algorithms of [["RS256"], ["RS256", "HS256"], ["HS256", "RS256"]]) {
      const it = await started({ algorithms, public_key_file: path, secret });
      expect((await refusal(it.verify(forged))).code).toBe("token_invalid");
      const trimmed = await sign(usual, { key: pem.slice(0, pem.lastIndexOf(45) + 1) });
      expect((await refusal(it.verify(trimmed))).code).toBe("token_invalid");
    }
  });

  test("[AUTH2] an algorithm that is not configured is refused though its key is there", async () => {
    const it = await started({
      algorithms: ["HS256"],
      secret,
      public_key_file: await pemFile("idle.pem", ec.publicKey),
    });
    const token = await sign(usual, { alg: "ES256", key: ec.privateKey });
    expect((await refusal(it.verify(token))).code).toBe("token_invalid");
  });

  test("[AUTH2] a PEM file may hold several keys, and is read again on reload", async () => {
    const path = await pemFile("rotating.pem", ec.publicKey);
    const it = await started({ algorithms: ["ES256", "RS256"], public_key_file: path });
    const late = await sign(usual, { alg: "ES256", key: ecOther.privateKey });
    expect((await refusal(it.verify(late))).code).toBe("token_invalid");
    await pemFile("rotating.pem", ec.publicKey, ecOther.publicKey, rsa.publicKey);
    await it.reload();
    expect(await it.verify(late)).toMatchObject({ userId: "u1" });
    expect(await it.verify(await sign(usual, { alg: "RS256", key: rsa.privateKey }))).toMatchObject({ userId: "u1" });
    await Bun.write(path, "nothing");
    await expect(it.reload()).rejects.toBeInstanceOf(ConfigError);
    expect(await it.verify(late)).toMatchObject({ userId: "u1" });
  });

  test("[AUTH2] settings that can never work are refused at the start, without the key in the message", async () => {
    const weak = await crypto.subtle.generateKey(
      {
        name: "RSASSA-PKCS1-v1_5",
        modulusLength: 1024,
        publicExponent: new Uint8Array([1, 0, 1]),
        hash: "SHA-256",
      },
      true,
      ["sign", "verify"],
    );
    const privatePem = join(folder, "private.pem");
    await Bun.write(privatePem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    const settings: Record<string, unknown>[] = [
      {},
      { secret: "too short" },
      { algorithms: ["RS256"], secret },
      { algorithms: ["RS256"], public_key_file: join(folder, "absent.pem") },
      { algorithms: ["RS256"], public_key_file: privatePem },
      { algorithms: ["RS256"], public_key_file: await pemFile("weak.pem", weak.publicKey) },
      { algorithms: ["RS256"], public_key_file: await pemFile("unfit.pem", ec.publicKey) },
    ];
    for (const auth of settings) {
      const error = await authenticator(auth)
        .start()
        .catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(ConfigError);
      expect(String(error)).not.toContain("too short");
    }
  });
});

const good = await sign({ ...usual, roles: ["service"] });
const identity = {
  userId: "u1",
  roles: ["service"],
  deviceId: null,
  topics: [],
  expiresAt: nowMs + 3_600_000,
  issuedAt: null,
};

describe("roles", () => {
  const rolesOf = async (it: Authenticator, token: Promise<string>) => (await it.verify(await token)).roles;
  const foreign = async (settings: Record<string, unknown> = {}) =>
    started({
      algorithms: ["ES256"],
      public_key_file: await pemFile(`${crypto.randomUUID()}.pem`, ec.publicKey),
      ...settings,
    });
  const signed = (claims: Record<string, unknown>) =>
    sign({ ...usual, ...claims }, { alg: "ES256", key: ec.privateKey });

  test("[AUTH2] the admins of whoever else signs are not ours, unless a map says which of its roles are", async () => {
    expect(await rolesOf(await foreign(), signed({ roles: ["admin", "service"] }))).toEqual([]);
    const mapped = await foreign({ role_map: { "chat-admin": "admin", "chat-backend": "service" } });
    expect(await rolesOf(mapped, signed({ roles: ["admin", "chat-admin", "constructor"] }))).toEqual(["admin"]);
    expect(await rolesOf(mapped, signed({ roles: ["chat-backend", "chat-admin"] }))).toEqual(["service", "admin"]);
  });

  test("[AUTH2] roles stand where auth.roles_claim says, a name or a path; null: tokens carry none", async () => {
    const role_map = { admin: "admin" };
    const nested = await foreign({ roles_claim: "realm_access.roles", role_map });
    expect(await rolesOf(nested, signed({ realm_access: { roles: ["admin"] } }))).toEqual(["admin"]);
    // A claim of this very name is the path's, too, as some issuers have URLs for names.
    expect(await rolesOf(nested, signed({ "realm_access.roles": ["admin"] }))).toEqual(["admin"]);
    for (const claims of [{ roles: ["admin"] }, { realm_access: ["admin"] }, { realm_access: null }, {}])
      expect(await rolesOf(nested, signed(claims))).toEqual([]);
    expect((await refusal(nested.verify(await signed({ realm_access: { roles: 7 } })))).code).toBe("token_invalid");
    const scope = await foreign({ roles_claim: "scope", role_map: { "chat:admin": "admin" } });
    expect(await rolesOf(scope, signed({ scope: "openid chat:admin" }))).toEqual(["admin"]);
    const none = await started({ secret, roles_claim: null });
    expect(await rolesOf(none, sign({ ...usual, roles: ["admin"] }))).toEqual([]);
  });

  test("[AUTH2] beside a key for backends only its tokens carry roles, whatever users' tokens say", async () => {
    const service_secret = "the backends' own secret of 32 bytes or more";
    const backendKey = new TextEncoder().encode(service_secret);
    const backend = (claims: Record<string, unknown>) => sign({ ...usual, ...claims }, { key: backendKey });
    for (const it of [
      await started({ secret, service_secret }),
      await foreign({ service_secret, issuer: "https://id" }),
    ]) {
      // It has no issuer and no audience: the key is for this service alone.
      expect(await rolesOf(it, backend({ roles: ["service", "root"] }))).toEqual(["service"]);
      expect((await refusal(it.verify(await backend({ exp: 0 })))).code).toBe("token_expired");
    }
    expect(await rolesOf(await started({ secret, service_secret }), sign({ ...usual, roles: ["admin"] }))).toEqual([]);
    const other = await foreign({ service_secret });
    expect(await rolesOf(other, signed({ roles: ["admin"] }))).toEqual([]);
    // HS256 is the backends' alone there: a public key is no secret.
    const pem = new TextEncoder().encode(await exportSPKI(ec.publicKey));
    expect((await refusal(other.verify(await sign({ ...usual, roles: ["admin"] }, { key: pem })))).code).toBe(
      "token_invalid",
    );
  });

  test("[AUTH2] the backends' key may be a public one, beside users' secret", async () => {
    const service_public_key_file = await pemFile("backends.pem", ec.publicKey);
    const it = await started({ secret, service_public_key_file });
    expect(await rolesOf(it, signed({ roles: ["admin"] }))).toEqual(["admin"]);
    expect(await rolesOf(it, sign({ ...usual, roles: ["admin"] }))).toEqual([]);
    const stranger = await generateKeyPair("ES256");
    const forged = await sign({ ...usual, roles: ["admin"] }, { alg: "ES256", key: stranger.privateKey });
    expect((await refusal(it.verify(forged))).code).toBe("token_invalid");
  });
});

describe("what is no token", () => {
  test("[AUTH1] garbage, over-long and truncated tokens are token_invalid, and never in the message", async () => {
    const it = await started({ secret });
    const [header, body, signature] = good.split(".") as [string, string, string];
    const notObject = await signText("[]");
    const cases = ["", ".", "..", "a.b.c", "a.b.c.d.e", `${header}.${body}`, `${header}.${body}.`, ` ${good}`];
    cases.push(`Bearer ${good}`, `${good}.`, `${header}..${signature}`, notObject, await signText("not JSON"));
    cases.push(`${header}.${body}.${signature}${"A".repeat(8_192)}`);
    for (let length = 0; length < good.length; length++) cases.push(good.slice(0, length));
    for (const text of cases) {
      const error = await refusal(it.verify(text));
      expect(error.code).toBe("token_invalid");
      if (text.length > 8) expect(`${error.message}${error.stack}${JSON.stringify(error)}`).not.toContain(text);
    }
  });

  async function signText(text: string): Promise<string> {
    const head = Buffer.from('{"alg":"HS256"}').toString("base64url");
    const input = `${head}.${Buffer.from(text).toString("base64url")}`;
    const key = await crypto.subtle.importKey("raw", secretBytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    const signature = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(input));
    return `${input}.${Buffer.from(signature).toString("base64url")}`;
  }

  test("[AUTH2] a token beyond the length of the authenticate message is refused though it is signed", async () => {
    const it = await started({ secret });
    const long = await sign({ ...usual, padding: "x".repeat(8_192) });
    expect(await refusal(it.verify(long))).toMatchObject({ code: "token_invalid" });
  });

  test("[AUTH2] any text is refused as token_invalid", async () => {
    const it = await started({ secret });
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "binary" }), async (text) => {
        expect((await refusal(it.verify(text))).code).toBe("token_invalid");
      }),
    );
  });

  const edits = fc.record({
    at: fc.nat(),
    put: fc.oneof(fc.constantFrom(..."ABab01-_.=+/ "), fc.string({ minLength: 1, maxLength: 1 })),
    kind: fc.constantFrom("replace", "insert", "remove"),
  });

  function edited(token: string, { at, put, kind }: { at: number; put: string; kind: string }): string {
    const index = at % token.length;
    const rest = token.slice(kind === "insert" ? index : index + 1);
    return `${token.slice(0, index)}${kind === "remove" ? "" : put}${rest}`;
  }

  test("[AUTH2] no change of a valid token verifies to another identity", async () => {
    const path = await pemFile("property.pem", ec.publicKey);
    const signed = await sign({ ...usual, roles: ["service"] }, { alg: "ES256", key: ec.privateKey });
    const shared = await started({ secret });
    const asymmetric = await started({
      algorithms: ["ES256"],
      public_key_file: path,
      role_map: { service: "service" },
    });
    await fc.assert(
      fc.asyncProperty(edits, fc.boolean(), async (edit, useShared) => {
        const [it, token] = useShared ? [shared, good] : [asymmetric, signed];
        const outcome = await it.verify(edited(token, edit)).catch((error: unknown) => error);
        if (outcome instanceof AuthenticationError) expect(outcome.code).toBe("token_invalid");
        // The last character of a base64url part may have bits that mean nothing.
        else expect(outcome).toEqual(identity);
      }),
      { numRuns: 500 },
    );
  });
});
