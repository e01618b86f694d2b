/** Proves that a token is verified by a public key once, and is remembered no longer than it and its key are good [AUTH2]. */
import { afterAll, afterEach, describe, expect, spyOn, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportJWK, exportSPKI, generateKeyPair } from "jose";
import { VerifiedTokens } from "../../src/auth/verified-tokens.ts";
import { nowMs, nowSeconds, refusal, signToken, startedAuthenticator, usualClaims } from "../support/tokens.ts";

const folder = await mkdtemp(join(tmpdir(), "ws-service-auth-once-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

const pair = await generateKeyPair("ES256", { extractable: true });
const other = await generateKeyPair("ES256", { extractable: true });
const sign = (claims: object) => signToken({ ...usualClaims, ...claims }, { alg: "ES256", key: pair.privateKey });

const verifications = spyOn(crypto.subtle, "verify");
afterEach(() => verifications.mockClear());
afterAll(() => verifications.mockRestore());

async function fileOf(name: string, ...keys: CryptoKey[]): Promise<string> {
  const path = join(folder, name);
  await Bun.write(path, (await Promise.all(keys.map((key) => exportSPKI(key)))).join("\n"));
  return path;
}

/** With a clock that is set by hand, and a leeway of 30 seconds. */
async function startedAt(settings: Record<string, unknown>) {
  const clock = { now: nowMs };
  const it = await startedAuthenticator({ algorithms: ["ES256"], ...settings }, { now: () => clock.now });
  return { it, clock };
}

describe("a token of a public key", () => {
  test("[AUTH2] is verified once, and says the same again", async () => {
    const { it } = await startedAt({ public_key_file: await fileOf("once.pem", pair.publicKey) });
    const token = await sign({ device_id: "d1", topics: ["conversation:c1"] });
    const first = await it.verify(token);
    expect(await it.verify(token)).toEqual(first);
    expect(first).toMatchObject({ userId: "u1", deviceId: "d1", topics: ["conversation:c1"] });
    expect(verifications).toHaveBeenCalledTimes(1);
  });

  test("[AUTH1] [AUTH2] expires, and is not yet valid, at its own moment", async () => {
    const { it, clock } = await startedAt({
      public_key_file: await fileOf("times.pem", pair.publicKey),
      leeway: "30s",
    });
    const token = await sign({ nbf: nowSeconds, exp: nowSeconds + 60 });
    expect(await it.verify(token)).toMatchObject({ userId: "u1" });
    clock.now = nowMs + 89_999;
    expect(await it.verify(token)).toMatchObject({ userId: "u1" });
    clock.now = nowMs + 90_000;
    expect((await refusal(it.verify(token))).code).toBe("token_expired");
    clock.now = nowMs - 31_000;
    expect((await refusal(it.verify(token))).code).toBe("token_not_yet_valid");
    clock.now = nowMs - 30_000;
    expect(await it.verify(token)).toMatchObject({ userId: "u1" });
  });

  test("[AUTH2] is refused anew each time: no refusal is remembered", async () => {
    const { it } = await startedAt({ public_key_file: await fileOf("refused.pem", other.publicKey) });
    const token = await sign({});
    for (const _ of [1, 2]) expect((await refusal(it.verify(token))).code).toBe("token_invalid");
    expect(verifications).toHaveBeenCalledTimes(2);
  });

  test("[AUTH2] ends with its key, where that is taken out of the file", async () => {
    const public_key_file = await fileOf("reloaded.pem", pair.publicKey, other.publicKey);
    const { it } = await startedAt({ public_key_file });
    const token = await sign({});
    expect(await it.verify(token)).toMatchObject({ userId: "u1" });
    await fileOf("reloaded.pem", other.publicKey);
    await it.reload();
    expect((await refusal(it.verify(token))).code).toBe("token_invalid");
  });

  test("[AUTH2] is not remembered where its key is taken out while it is verified", async () => {
    const public_key_file = await fileOf("meanwhile.pem", pair.publicKey);
    const { it } = await startedAt({ public_key_file });
    const token = await sign({});
    const begun = Promise.withResolvers<void>();
    const reloaded = Promise.withResolvers<void>();
    const { verify } = crypto.subtle;
    verifications.mockImplementationOnce(async (...values: Parameters<typeof verify>) => {
      begun.resolve();
      await reloaded.promise;
      return verify.apply(crypto.subtle, values);
    });
    const verified = it.verify(token);
    await begun.promise;
    await fileOf("meanwhile.pem", other.publicKey);
    await it.reload();
    reloaded.resolve();
    expect(await verified).toMatchObject({ userId: "u1" });
    expect((await refusal(it.verify(token))).code).toBe("token_invalid");
  });

  test("[AUTH2] ends with its key, where that is withdrawn from the key server", async () => {
    const keyOf = async (key: CryptoKey, kid: string) => ({ ...(await exportJWK(key)), kid });
    let keys = [await keyOf(pair.publicKey, "first")];
    const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => Response.json({ keys }) });
    try {
      const { it, clock } = await startedAt({ jwks_url: server.url.href });
      const token = await signToken(usualClaims, { alg: "ES256", key: pair.privateKey, kid: "first" });
      for (const _ of [1, 2]) expect(await it.verify(token)).toMatchObject({ userId: "u1" });
      expect(verifications).toHaveBeenCalledTimes(1);
      keys = [await keyOf(other.publicKey, "second")];
      clock.now += 10 * 60_000;
      expect((await refusal(it.verify(token))).code).toBe("token_invalid");
    } finally {
      await server.stop(true);
    }
  });
});

describe("what is remembered", () => {
  const identity = { userId: "u1", roles: [], deviceId: null, topics: [], expiresAt: nowMs, issuedAt: null };
  const verified = { identity, notBefore: undefined, expires: undefined };
  const at = { leewayMs: 0, now: nowMs };

  test("[AUTH2] has a bound: the token that was verified longest ago goes first, and a long one is not kept", () => {
    const it = new VerifiedTokens();
    for (let index = 0; index <= 10_000; index++) it.remember(`token-${index}`, verified);
    expect(it.find("token-0", 0, at)).toBeNull();
    expect(it.find("token-1", 0, at)).toBe(identity);
    expect(it.find("token-10000", 0, at)).toBe(identity);
    const long = "x".repeat(2_049);
    it.remember(long, verified);
    expect(it.find(long, 0, at)).toBeNull();
  });
});
