/** Verifying a token: CPU of the first time and of when it comes again, by algorithm. */
import { join } from "node:path";
import { exportSPKI, generateKeyPair, SignJWT } from "jose";
import * as v from "valibot";
import { createAuthenticator } from "../src/auth/authenticator.ts";
import { configSchema } from "../src/config/schema.ts";
import { readOptions } from "./support/command-line.ts";
import { present } from "./support/measured.ts";
import { quantile } from "./support/statistics.ts";
import { temporaryFolder } from "./support/temporary.ts";

readOptions({});

const tokens = 2_000;
const rounds = 3;
const secret = "a secret of at least thirty-two bytes";

const folder = temporaryFolder("ws-tokens");

try {
  const lines: Record<string, string>[] = [];
  for (const algorithm of ["HS256", "RS256", "ES256", "EdDSA"]) lines.push(await measure(algorithm));
  present("tokens", lines);
} finally {
}

async function measure(algorithm: string): Promise<Record<string, string>> {
  const { key, auth } = await keysOf(algorithm);
  const config = v.parse(configSchema, { auth: { mode: "token", algorithms: [algorithm], ...auth } }).auth;
  const authenticator = createAuthenticator({ config, now: Date.now });
  await authenticator.start();
  const first: number[] = [];
  const again: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const some: string[] = [];
    const exp = Math.floor(Date.now() / 1_000) + 3_600 + round;
    for (let index = 0; index < tokens; index++) {
      const token = new SignJWT({ sub: `user-${index}`, exp }).setProtectedHeader({ alg: algorithm, typ: "JWT" });
      some.push(await token.sign(key));
    }
    const verifyAll = async () => {
      const before = process.cpuUsage();
      for (const token of some) await authenticator.verify(token);
      const { user, system } = process.cpuUsage(before);
      return (user + system) / tokens;
    };
    const costs = [await verifyAll(), await verifyAll()] as const;
    // The first round only warms up.
    if (round === 0) continue;
    first.push(costs[0]);
    again.push(costs[1]);
  }
  const median = (costs: number[]) => quantile(costs, 0.5).toFixed(1);
  return { algorithm, "µs the first time": median(first), "µs again": median(again) };
}

async function keysOf(algorithm: string) {
  if (algorithm === "HS256") return { key: new TextEncoder().encode(secret), auth: { secret } };
  const { privateKey, publicKey } = await generateKeyPair(algorithm);
  const file = join(folder, `${algorithm}.pem`);
  await Bun.write(file, await exportSPKI(publicKey));
  return { key: privateKey, auth: { public_key_file: file } };
}
