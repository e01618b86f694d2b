/** Proves that tokens of a shared secret are taken and refused as the library does, whatever is changed about them [AUTH2]. */
import { describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import fc from "fast-check";
import { decodeProtectedHeader, errors, type JWSHeaderParameters, type JWTVerifyOptions, jwtVerify } from "jose";
import { verifyHs256 } from "../../src/auth/shared-secret.ts";
import { nowMs, nowSeconds, secretBytes } from "../support/tokens.ts";

const encoded = (text: string) => Buffer.from(text).toString("base64url");
const signed = (header: string, payload: string, key: Uint8Array = secretBytes) =>
  `${header}.${payload}.${createHmac("sha256", key).update(`${header}.${payload}`).digest("base64url")}`;

const usual: JWTVerifyOptions = { algorithms: ["HS256"], clockTolerance: 30, currentDate: new Date(nowMs) };

/** Tells the claims, or which refusal it comes to. */
async function outcomeOf(verified: () => Promise<object>): Promise<unknown> {
  try {
    return await verified();
  } catch (error) {
    if (error instanceof errors.JWTExpired) return "expired";
    if (error instanceof errors.JWTClaimValidationFailed) return `claim ${error.claim} ${error.reason}`;
    // A bad signature and a bad form are both refused as `token_invalid`.
    expect(error).toBeInstanceOf(errors.JOSEError);
    return "invalid";
  }
}

/** @returns what both say */
async function outcome(token: string, { secret = secretBytes, options = usual } = {}): Promise<unknown> {
  const expected = await outcomeOf(async () => (await jwtVerify(token, secret, options)).payload);
  const header = await outcomeOf(async () => decodeProtectedHeaderOf(token));
  // Refused before any key is looked for.
  if (header === "invalid" || (header as { alg?: unknown }).alg !== "HS256") expect(expected).toBe("invalid");
  else
    expect(
      await outcomeOf(async () => verifyHs256(token, { header: header as JWSHeaderParameters, secret }, options)),
    ).toEqual(expected);
  return expected;
}

function decodeProtectedHeaderOf(token: string) {
  try {
    return decodeProtectedHeader(token);
  } catch (cause) {
    throw new errors.JWSInvalid("no header", { cause });
  }
}

const claims = { sub: "u1", exp: nowSeconds + 3_600 };
const plain = encoded(JSON.stringify({ alg: "HS256", typ: "JWT" }));
const good = signed(plain, encoded(JSON.stringify(claims)));

describe("an HS256 token", () => {
  test("[AUTH2] of RFC 7515, A.1, is verified by its key, until it has expired", async () => {
    const token =
      "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const secret = Buffer.from(
      "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
      "base64url",
    );
    const at = (seconds: number) => ({ ...usual, currentDate: new Date(seconds * 1_000) });
    expect(await outcome(token, { secret, options: at(1_300_819_379) })).toMatchObject({ iss: "joe" });
    expect(await outcome(token, { secret, options: at(1_300_819_410) })).toBe("expired");
    expect(await outcome(token)).toBe("invalid");
  });

  const headers: [name: string, header: object, isTaken: boolean][] = [
    ["a critical extension that is not known", { crit: ["exp"], exp: 1 }, false],
    ["a payload that is not encoded", { crit: ["b64"], b64: false }, false],
    ["an encoded payload that it says is encoded", { crit: ["b64"], b64: true }, true],
    ["an extension that it has not", { crit: ["b64"] }, false],
    ["no critical extension in its list of them", { crit: [] }, false],
    ["nothing for a list of them", { crit: null }, false],
    ["b64 that is not critical", { b64: false }, true],
    ["another type", { typ: "at+jwt", cty: "x" }, true],
  ];
  for (const [name, header, isTaken] of headers) {
    test(`[AUTH2] with ${name} is ${isTaken ? "taken" : "refused"}`, async () => {
      const token = signed(encoded(JSON.stringify({ alg: "HS256", ...header })), encoded(JSON.stringify(claims)));
      expect(await outcome(token)).toEqual(isTaken ? claims : "invalid");
    });
  }

  const [, payload, signature] = good.split(".") as [string, string, string];
  const parts: [name: string, token: string][] = [
    ["four parts", `${good}.${signature}`],
    ["five parts, as of an encrypted one", `${good}.${payload}.${signature}`],
    ["no signature", `${plain}.${payload}.`],
    ["a signature cut short", good.slice(0, -4)],
    ["a signature and more", `${good}AAAA`],
    ["a payload that is no JSON", signed(plain, encoded("no"))],
    ["a payload that is a list", signed(plain, encoded("[]"))],
    ["an empty payload", signed(plain, "")],
    ["a payload that is no UTF-8", signed(plain, Buffer.from([0x7b, 0xff, 0x7d]).toString("base64url"))],
    ["a payload in the other alphabet", signed(plain, Buffer.from('{"sub":"??>>"}').toString("base64"))],
    ["a payload beyond ASCII", signed(plain, `${payload}ü`)],
  ];
  for (const [name, token] of parts) {
    test(`[AUTH2] with ${name} is refused`, async () => {
      expect(await outcome(token)).toBe("invalid");
    });
  }

  test("[AUTH2] of other bytes of base64url is what it is for the library", async () => {
    // Padding, white space and bits that are left over: whatever it says, both say the same.
    const last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const tails = [...last].map((character) => `${good.slice(0, -1)}${character}`);
    for (const token of [...tails, `${good}=`, `${good}==`, `${good} `, `${good}\n`, ` ${good}`]) await outcome(token);
    for (const text of [`${payload}=`, `${payload}==`, `${payload} `, ` ${payload}`])
      await outcome(signed(plain, text));
  });

  const time = fc.oneof(
    fc.integer({ min: -60, max: 60 }).map((it) => nowSeconds + it),
    fc.constantFrom(null, "1", 1e300),
  );
  const anyClaims = fc.record(
    {
      sub: fc.string(),
      exp: time,
      nbf: time,
      iat: time,
      iss: fc.constantFrom("https://id", "https://id/", 1),
      aud: fc.oneof(fc.constantFrom("chat", "cha"), fc.array(fc.constantFrom("chat", "cha", 1))),
      typ: fc.string(),
    },
    { requiredKeys: [] },
  );
  const options = fc.record({ issuer: fc.constant("https://id"), audience: fc.constant("chat") }, { requiredKeys: [] });

  test("[AUTH2] of any claims is taken or refused as by the library, with any leeway", async () => {
    await fc.assert(
      fc.asyncProperty(anyClaims, options, fc.nat(60), async (claims, wanted, clockTolerance) => {
        const token = signed(plain, encoded(JSON.stringify(claims)));
        await outcome(token, { options: { ...usual, ...wanted, clockTolerance } as typeof usual });
      }),
      { numRuns: 500 },
    );
  });

  const change = fc.record({
    at: fc.nat(),
    put: fc.oneof(fc.constantFrom(..."ABab01-_.=+/ \n"), fc.string({ minLength: 1, maxLength: 1, unit: "binary" })),
    kind: fc.constantFrom("replace", "insert", "remove", "double"),
  });

  function changed(text: string, { at, put, kind }: { at: number; put: string; kind: string }): string {
    const index = at % (text.length + 1);
    if (kind === "double") return text.slice(0, index) + text.slice(index % 7);
    const rest = text.slice(kind === "insert" ? index : index + 1);
    return `${text.slice(0, index)}${kind === "remove" ? "" : put}${rest}`;
  }

  test("[AUTH2] that was changed anywhere is taken or refused as by the library, also where it is signed anew", async () => {
    const isSignedAnew = fc.boolean();
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { minLength: 1, maxLength: 3 }),
        isSignedAnew,
        async (changes, isSignedAnew) => {
          const token = changes.reduce(changed, good);
          const [header = "", payload = ""] = token.split(".");
          await outcome(isSignedAnew ? signed(header, payload) : token);
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
