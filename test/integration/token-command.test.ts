/** Proves that the token command mints what the service accepts, and says clearly when it cannot [AUTH2]. */
import { afterAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAuthenticator } from "../../src/auth/authenticator.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { Client } from "../support/client.ts";
import { program } from "../support/program.ts";
import { startService } from "../support/service.ts";

const folder = await mkdtemp(join(tmpdir(), "ws-service-token-"));
afterAll(() => rm(folder, { recursive: true, force: true }));
const secret = "a secret of at least thirty-two bytes";

async function configFile(name: string, auth: Record<string, unknown>): Promise<string> {
  const path = join(folder, name);
  await Bun.write(path, Bun.YAML.stringify({ auth }));
  return path;
}

async function runToken(...args: string[]) {
  const child = Bun.spawn([...program, "token", ...args], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? "" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, code };
}

test("[AUTH2] a minted token is accepted with the same configuration", async () => {
  const file = await configFile("token.yaml", {
    mode: "token",
    secret,
    issuer: "https://login.example",
    audience: "chat",
  });
  const roles = ["--role", "admin", "--role=service,admin"];
  const { stdout, stderr, code } = await runToken(
    ...["--config", file, "--user", "u1", "--device", "d1", "--ttl", "2h", ...roles],
  );
  expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
  const { config } = await loadConfig({ file, env: {}, cwd: folder });
  const authenticator = createAuthenticator({ config: config.auth, now: Date.now });
  await authenticator.start();
  const identity = await authenticator.verify(stdout.trim());
  expect(identity).toMatchObject({ userId: "u1", roles: ["service", "admin"], deviceId: "d1", topics: [] });
  // Issued before now, for two hours of whole seconds: it still has one, and has not more than two.
  expect(identity.expiresAt! - Date.now()).toBeGreaterThan(3_600_000);
  expect(identity.expiresAt! - Date.now()).toBeLessThanOrEqual(7_200_000);
});

test("[AUTH2] with a second key for backends it signs roles with that one, and users' tokens where only that one can", async () => {
  const service_secret = "the backends' own secret, of 32 bytes or more";
  const own = { mode: "token", secret, service_secret, issuer: "https://login.example" };
  const foreign = { mode: "token", algorithms: ["RS256"], jwks_url: "http://127.0.0.1:9/jwks", service_secret };
  for (const [name, auth] of Object.entries({ own, foreign })) {
    const file = await configFile(`${name}.yaml`, auth);
    const { config } = await loadConfig({ file, env: {}, cwd: folder });
    const authenticator = createAuthenticator({ config: config.auth, now: Date.now });
    await authenticator.start();
    const minted = async (...args: string[]) =>
      authenticator.verify((await runToken("--config", file, ...args)).stdout.trim());
    expect(await minted("--user", "shop", "--role", "service")).toMatchObject({ userId: "shop", roles: ["service"] });
    expect(await minted("--user", "anna")).toMatchObject({ userId: "anna", roles: [] });
    authenticator.stop();
  }
  const mapped = await configFile("mapped.yaml", { mode: "token", secret, role_map: { owner: "admin" } });
  const { stdout, stderr } = await runToken("--config", mapped, "--user", "u1", "--role", "admin");
  expect([stdout, stderr]).toEqual(["", expect.stringContaining("auth.service_secret")]);
});

test("[AUTH2] without a secret it says how to set one", async () => {
  const { stdout, stderr, code } = await runToken("--config", await configFile("bare.yaml", {}), "--user", "u1");
  expect({ stdout, code }).toEqual({ stdout: "", code: 1 });
  expect(stderr).toContain("auth.secret");
  expect(stderr).toContain("openssl rand -base64 32");
});

test("[AUTH2] where others sign, it refuses and says why", async () => {
  const file = await configFile("jwks.yaml", {
    mode: "token",
    algorithms: ["RS256", "EdDSA"],
    jwks_url: "http://127.0.0.1:9/jwks.json",
  });
  const { stdout, stderr, code } = await runToken("--config", file, "--user", "u1");
  expect({ stdout, code }).toEqual({ stdout: "", code: 1 });
  expect(stderr).toContain("RS256, EdDSA");
  expect(stderr).toContain("private key");
});

test("[AUTH2] a backend's token may be good for years", async () => {
  const file = await configFile("years.yaml", { secret });
  const { stdout, code } = await runToken("--config", file, "--user", "shop", "--role", "service", "--ttl", "365d");
  const { iat, exp } = JSON.parse(atob(stdout.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/")));
  expect([code, exp - iat]).toEqual([0, 365 * 86_400]);
});

const senseless: [string, string[], string][] = [
  ["no user", [], "--user"],
  ["a malformed user", ["--user", "u 1"], "--user"],
  ["a malformed device", ["--user", "u1", "--device", ""], "--device"],
  ["an unknown role", ["--user", "u1", "--role", "service,root"], '"root"'],
  ["a malformed duration", ["--user", "u1", "--ttl", "soon"], "--ttl"],
  ["no duration at all", ["--user", "u1", "--ttl", "0s"], "--ttl"],
  ["a duration beyond any date", ["--user", "u1", "--ttl", "999999999999d"], "--ttl"],
  ["a duration of a life", ["--user", "u1", "--ttl", "36500d"], "at most 3650d"],
];
for (const [name, args, named] of senseless) {
  test(`[AUTH2] ${name}: exit code 2, and the option is named`, async () => {
    const file = await configFile("usage.yaml", { secret });
    const { stdout, stderr, code } = await runToken("--config", file, ...args);
    expect({ stdout, code }).toEqual({ stdout: "", code: 2 });
    expect(stderr).toContain(named);
  });
}

test("[CON1] [AUTH2] [ADM2] a service that serves only who is there is filled from the shell, as the docs do it", async () => {
  const settings = { AUTH__MODE: "token", AUTH__SECRET: secret, DIRECTORY__MODE: "managed" };
  const service = await startService({ settings });
  const env = { PATH: process.env.PATH ?? "", WS__AUTH__SECRET: secret };
  const run = async (words: string[], more: Record<string, string> = {}) => {
    const child = Bun.spawn([...program, ...words], {
      cwd: folder,
      env: { ...env, ...more },
      stdin: "ignore",
    });
    const [text, code] = await Promise.all([child.stdout.text(), child.exited]);
    expect([words.join(" "), code]).toEqual([words.join(" "), 0]);
    return text.trim();
  };
  try {
    const operator = { WS_SERVICE_TOKEN: await run(["token", "--user", "root", "--role", "admin"]) };
    await run(["admin", "users", "upsert", "anna", "ben", "--url", service.url], operator);
    await run(["admin", "members", "add", "c1", "anna", "ben", "--url", service.url], operator);
    const anna = await Client.connect(service.url, { query: { token: await run(["token", "--user", "anna"]) } });
    const { topics, rejected } = await anna.ask("subscribe", { topics: ["conversation:c1", "conversation:c2"] });
    expect([topics[0].topic, rejected]).toEqual(["conversation:c1", [{ topic: "conversation:c2", code: "forbidden" }]]);
  } finally {
    await service.stop();
  }
});
