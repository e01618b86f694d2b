/** Proves how keys come from a key server, with a real one: rotation, outage and nonsense [AUTH2]. */
import { afterEach, describe, expect, test } from "bun:test";
import { exportJWK, generateKeyPair, type JWK } from "jose";
import { Unavailable } from "../../src/ground/unavailable.ts";
import {
  authenticator,
  nowMs,
  refusal,
  secret,
  signToken as sign,
  startedAuthenticator as started,
  usualClaims as usual,
} from "../support/tokens.ts";

const rsa = await generateKeyPair("RS256", { extractable: true });
const rsaOther = await generateKeyPair("RS256", { extractable: true });
const ec = await generateKeyPair("ES256", { extractable: true });
const ed = await generateKeyPair("EdDSA", { extractable: true });

/** A real key server; `answer` is what it does with the next request. */
async function keyServer(...keys: JWK[]) {
  const state = {
    requests: 0,
    answer: (): Response | Promise<Response> => Response.json({ keys }),
  };
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      if (new URL(request.url).pathname === "/elsewhere") return Response.json({ keys });
      state.requests++;
      return state.answer();
    },
  });
  servers.push(server);
  return {
    state,
    url: server.url.href,
    stop: () => server.stop(true),
    publish: (...next: JWK[]) => {
      state.answer = () => Response.json({ keys: next });
    },
  };
}
const servers: Bun.Server<undefined>[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((it) => it.stop(true)));
});

const jwk = async (key: CryptoKey, fields: Partial<JWK>): Promise<JWK> =>
  ({ ...(await exportJWK(key)), ...fields }) as JWK;

const first = await jwk(rsa.publicKey, { kid: "first", alg: "RS256", use: "sig" });
const second = await jwk(rsaOther.publicKey, { kid: "second", alg: "RS256", use: "sig" });
const byFirst = await sign(usual, { alg: "RS256", key: rsa.privateKey, kid: "first" });
const bySecond = await sign({ ...usual, sub: "u2" }, { alg: "RS256", key: rsaOther.privateKey, kid: "second" });

describe("key server", () => {
  const algorithms = ["RS256", "ES256", "EdDSA"];

  function clock() {
    const state = { ms: nowMs };
    return { now: () => state.ms, advance: (ms: number) => (state.ms += ms) };
  }

  test("[AUTH2] keys come from the key server, once for any number of tokens", async () => {
    const keys = [first, await jwk(ec.publicKey, { kid: "ec" }), await jwk(ed.publicKey, { kid: "ed" })];
    const { url, state } = await keyServer(...keys);
    const it = await started({ algorithms, jwks_url: url });
    const tokens = await Promise.all([
      byFirst,
      sign(usual, { alg: "ES256", key: ec.privateKey, kid: "ec" }),
      sign(usual, { alg: "EdDSA", key: ed.privateKey, kid: "ed" }),
    ]);
    const verified = await Promise.all([...tokens, ...tokens].map((token) => it.verify(token)));
    expect(verified.map(({ userId }) => userId)).toEqual(new Array(6).fill("u1"));
    expect(state.requests).toBe(1);
  });

  test("[AUTH2] without a key id every fitting key is tried", async () => {
    const { url } = await keyServer(await jwk(rsa.publicKey, {}), await jwk(rsaOther.publicKey, {}));
    const it = await started({ algorithms, jwks_url: url });
    expect(await it.verify(await sign(usual, { alg: "RS256", key: rsa.privateKey }))).toMatchObject({ userId: "u1" });
    expect(await it.verify(await sign(usual, { alg: "RS256", key: rsaOther.privateKey }))).toMatchObject({
      userId: "u1",
    });
  });

  test("[AUTH2] a secret in the key set is never used", async () => {
    const { url } = await keyServer({ kty: "oct", k: Buffer.from(secret).toString("base64url"), kid: "oct" }, first);
    const it = await started({ algorithms: ["RS256", "HS256"], jwks_url: url, secret: "x".repeat(32) });
    expect((await refusal(it.verify(await sign(usual, { kid: "oct" })))).code).toBe("token_invalid");
  });

  test("[AUTH2] a new key is found by one refetch, and made-up key ids cause no flood of them", async () => {
    const { url, state, publish } = await keyServer(first);
    const { now, advance } = clock();
    const it = await started({ algorithms, jwks_url: url }, { now });
    publish(first, second);
    // The set is fresh: the key is looked for again only after the cooldown.
    expect((await refusal(it.verify(bySecond))).code).toBe("token_invalid");
    expect(state.requests).toBe(1);
    advance(10_000);
    const verified = await Promise.all([it.verify(bySecond), it.verify(bySecond), it.verify(byFirst)]);
    expect(verified.map(({ userId }) => userId)).toEqual(["u2", "u2", "u1"]);
    expect(state.requests).toBe(2);
    advance(9_999);
    for (let index = 0; index < 20; index++) {
      const stranger = await sign(usual, { alg: "RS256", key: rsa.privateKey, kid: `made-up-${index}` });
      expect((await refusal(it.verify(stranger))).code).toBe("token_invalid");
    }
    expect(state.requests).toBe(2);
  });

  test("[AUTH2] a key that was withdrawn ends, on an idle server too", async () => {
    const { url, publish } = await keyServer(first, second);
    const { now, advance } = clock();
    const it = await started({ algorithms, jwks_url: url }, { now });
    publish(second);
    expect(await it.verify(byFirst)).toMatchObject({ userId: "u1" });
    advance(10 * 60_000);
    expect((await refusal(it.verify(byFirst))).code).toBe("token_invalid");
    expect(await it.verify(bySecond)).toMatchObject({ userId: "u2" });
  });

  test("[AUTH2] a clock that was set back does not keep new keys out", async () => {
    const { url, publish } = await keyServer(first);
    const { now, advance } = clock();
    const it = await started({ algorithms, jwks_url: url }, { now });
    advance(-600_000);
    publish(first, second);
    expect((await it.verify(bySecond)).userId).toBe("u2");
  });

  test("[AUTH2] [CON1] while the key server is away, cached keys go on and unknown ones are unavailable", async () => {
    const { url, stop } = await keyServer(first);
    const { now, advance } = clock();
    const faults: string[] = [];
    const it = await started({ algorithms, jwks_url: url }, { now, onFault: (message) => faults.push(message) });
    await stop();
    advance(30 * 60_000);
    expect(await it.verify(byFirst)).toMatchObject({ userId: "u1" });
    await expect(it.verify(bySecond)).rejects.toBeInstanceOf(Unavailable);
    expect(await it.verify(byFirst)).toMatchObject({ userId: "u1" });
    expect(faults.length).toBe(1);
  });

  test("[AUTH2] [CON1] without any key a token is unavailable, not invalid, and works once the server is back", async () => {
    const { url, state, publish } = await keyServer(first);
    const { now, advance } = clock();
    state.answer = () => new Response("down", { status: 503 });
    const faults: string[] = [];
    const it = await started({ algorithms, jwks_url: url }, { now, onFault: (message) => faults.push(message) });
    await expect(it.verify(byFirst)).rejects.toBeInstanceOf(Unavailable);
    expect(state.requests).toBe(1);
    expect(faults).toEqual(["The keys of auth.jwks_url could not be fetched: status 503."]);
    // A token of another kind needs no key to be refused.
    expect(await refusal(it.verify(await sign(usual)))).toMatchObject({
      name: "AuthenticationError",
      code: "token_invalid",
    });
    publish(first);
    advance(2_000);
    expect(await it.verify(byFirst)).toMatchObject({ userId: "u1" });
  });

  const broken: [string, () => Response | Promise<Response>][] = [
    ["no JSON", () => new Response("<html>")],
    ["JSON that is no key set", () => Response.json({ keys: "none" })],
    ["nothing but null", () => Response.json(null)],
    ["a redirect", () => Response.redirect("/elsewhere", 302)],
    ["too many keys", () => Response.json({ keys: new Array(101).fill(first) })],
    ["too many bytes", () => Response.json({ keys: [first], padding: "x".repeat(1 << 20) })],
  ];
  for (const [name, answer] of broken) {
    test(`[AUTH2] a key server that gives ${name} is one that is away`, async () => {
      const { url, state } = await keyServer(first);
      const it = await started({ algorithms, jwks_url: url });
      state.answer = answer;
      await expect(it.reload()).rejects.toThrow();
      expect(await it.verify(byFirst)).toMatchObject({ userId: "u1" });
      const fresh = await started({ algorithms, jwks_url: url });
      await expect(fresh.verify(byFirst)).rejects.toBeInstanceOf(Unavailable);
    });
  }

  const endless: [string, () => Response | Promise<Response>][] = [
    ["no answer at all", () => new Promise<Response>(() => {})],
    ["a body that never ends", () => new Response(new ReadableStream({ pull: () => new Promise(() => {}) }))],
  ];
  for (const [name, answer] of endless) {
    test(`[AUTH2] a key server that gives ${name} is one that is away after three seconds`, async () => {
      const { url, state } = await keyServer(first);
      const faults: string[] = [];
      /** Each fetch that is under way, with what ends it once its time is up. */
      const deadlines = new Set<{ ms: number; pass(): void }>();
      const options = {
        onFault: (fault: string) => faults.push(fault),
        after(ms: number, pass: () => void) {
          const deadline = { ms, pass };
          deadlines.add(deadline);
          return () => deadlines.delete(deadline);
        },
      };
      const passes = async () => {
        await asked.promise;
        expect([...deadlines].map(({ ms }) => ms)).toEqual([3_000]);
        for (const { pass } of deadlines) pass();
      };
      const it = await started({ algorithms, jwks_url: url }, options);
      expect(deadlines.size).toBe(0);
      let asked = Promise.withResolvers<void>();
      state.answer = () => {
        asked.resolve();
        return answer();
      };
      const [reloaded] = await Promise.allSettled([it.reload(), passes()]);
      expect(reloaded.status).toBe("rejected");
      expect(await it.verify(byFirst)).toMatchObject({ userId: "u1" });
      asked = Promise.withResolvers();
      const [fresh] = await Promise.all([started({ algorithms, jwks_url: url }, options), passes()]);
      await expect(fresh.verify(byFirst)).rejects.toBeInstanceOf(Unavailable);
      expect(faults).toEqual(Array(2).fill("The keys of auth.jwks_url could not be fetched: no answer in time."));
    });
  }

  test("[AUTH2] stopping ends a fetch that is under way", async () => {
    const { url, state } = await keyServer(first);
    const asked = Promise.withResolvers<void>();
    state.answer = () => {
      asked.resolve();
      return new Promise(() => {});
    };
    const it = authenticator({ algorithms, jwks_url: url }, { jwksTiming: { fetchDeadlineMs: 3_600_000 } });
    const starting = it.start();
    await asked.promise;
    it.stop();
    await starting;
  });
});
