/** Proves what `config check` says of connections to PostgreSQL and Redis: the files of TLS, and what stands in the URLs. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ConfigError } from "../../src/config/faults.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { readRedisUrl } from "../../src/config/redis-url.ts";
import { makeAuthority } from "../support/certificates.ts";

let folder: string;
let pair: { cert: string; key: string };
let otherKey: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ws-client-tls-"));
  const authority = makeAuthority(folder);
  pair = authority.issue("app");
  otherKey = authority.issue("other").key;
  const files = { "good.pem": pair.cert, "good.key": pair.key, "other.key": otherKey, "empty.pem": "" };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const tls = (files: Record<string, string>) =>
  Object.fromEntries(Object.entries(files).map(([name, file]) => [`WS__STORAGE__TLS__${name.toUpperCase()}`, file]));

async function faultsOf(env: Record<string, string>, url = "postgres://db/app"): Promise<string[]> {
  const error = await loadConfig({ env: { WS__STORAGE__URL: url, ...env }, cwd: folder }).catch((it: unknown) => it);
  if (!(error instanceof Error)) return [];
  return (error as ConfigError).faults.map(({ path, expected }) => `${path} ${expected}`);
}

test("files that are sound are no fault, alone or together", async () => {
  expect(await faultsOf(tls({ ca_file: "ca.pem" }))).toEqual([]);
  expect(await faultsOf(tls({ cert_file: "good.pem", key_file: "good.key" }))).toEqual([]);
  expect(await faultsOf(tls({ ca_file: "ca.pem", cert_file: "good.pem", key_file: "good.key" }))).toEqual([]);
});

test("each file that would not work is told by its setting", async () => {
  expect(await faultsOf(tls({ ca_file: "gone.pem" }))).toEqual(["storage.tls.ca_file must be a file that is there"]);
  expect(await faultsOf(tls({ ca_file: "empty.pem" }))).toEqual([
    "storage.tls.ca_file must be a PEM file with certificates",
  ]);
  expect(await faultsOf(tls({ cert_file: "good.pem" }))).toEqual([
    "storage.tls.cert_file needs storage.tls.key_file beside it",
  ]);
  expect(await faultsOf(tls({ key_file: "good.key" }))).toEqual([
    "storage.tls.key_file needs storage.tls.cert_file beside it",
  ]);
  expect(await faultsOf(tls({ cert_file: "good.pem", key_file: "other.key" }))).toEqual([
    "storage.tls.key_file must be the key of the certificate in storage.tls.cert_file",
  ]);
});

test("what would not be done as the URL says is a fault", async () => {
  const of = (query: string, env = {}) => faultsOf(env, `postgres://user:secret@a:1,b:2/app?${query}`);
  for (const mode of ["disable", "require", "verify-ca", "verify-full"])
    expect(await of(`sslmode=${mode}`)).toEqual([]);
  for (const query of [
    "sslmode=prefer",
    "sslmode=allow",
    "sslmode=no-verify",
    "sslmode=",
    "sslmode=require&sslmode=disable",
  ]) {
    expect(await of(query)).toEqual([
      "storage.url must have at most one sslmode, of disable, require, verify-ca, verify-full",
    ]);
  }
  expect(await of("ssl=true")).toEqual(["storage.url must not have ssl: use sslmode"]);
  expect(await of("sslrootcert=ca.pem")).toEqual(["storage.url must not have sslrootcert: use storage.tls.ca_file"]);
  expect(await of("sslmode=disable", tls({ ca_file: "ca.pem" }))).toEqual([
    "storage.url must not have sslmode=disable where storage.tls is set",
  ]);
  expect(await faultsOf(tls({ ca_file: "ca.pem" }), "sqlite:a.db")).toEqual([
    "storage.url must be postgres://… where storage.tls is set",
  ]);
});

test("a parameter of the URL that is none, or that nothing is done for, is a fault that names what may stand there", async () => {
  const of = (query: string) => faultsOf({}, `postgres://user:secret@a:1,b:2/app?${query}`);
  const may = "what may stand behind the ? is sslmode, application_name, options, target_session_attrs";
  expect(await of("application_name=chat&options=-c%20work_mem%3D8MB&target_session_attrs=read-write")).toEqual([]);
  for (const name of ["sslmodes", "ssl_mode", "SSLMODE"]) {
    expect(await of(`${name}=verify-full`)).toEqual([
      `storage.url must not have the parameter ${name}: ${may}; the nearest is sslmode`,
    ]);
  }
  for (const name of ["idle_timeout", "search_path"])
    expect(await of(`${name}=5`)).toEqual([`storage.url must not have the parameter ${name}: ${may}`]);
  expect(await of("target_session_attrs=standby")).toEqual([
    "storage.url must have at most one target_session_attrs, of read-write, primary",
  ]);
  expect(await of("options=a&options=b")).toEqual(["storage.url must have each parameter once"]);
  // Hides what follows a `?` in a password.
  expect(await faultsOf({}, "postgres://u:1?word@r")).toEqual([`storage.url must not have such a parameter: ${may}`]);
});

test.each(["u:p%ss@h/db", "u:p#ss@h/db", "h/db#x", "u:p/ss@h/db", "h:port/db", "["])(
  "postgres://%s cannot be read, and is told as a fault",
  async (rest) => {
    expect(await faultsOf({}, `postgres://${rest}`)).toEqual([
      expect.stringMatching(/^storage\.url must be postgres:\/\/user:password@host:port\/database, /),
    ]);
  },
);

test("the same for Redis, whose URL must be encrypted for files to have a meaning", async () => {
  const redis = (name: string, file: string) => ({ [`WS__CLUSTER__TLS__${name}`]: file });
  const to = (url: string, env: Record<string, string>) => faultsOf({ WS__CLUSTER__URL: url, ...env });
  for (const url of [
    "rediss://r",
    "redis://r?tls=true",
    "redis+cluster://r?tls=true",
    "redis+sentinel://r/m?sentinel_password=x&tls=true",
  ])
    expect(await to(url, redis("CA_FILE", "ca.pem"))).toEqual([]);
  expect(await to("rediss://r", redis("CA_FILE", "gone.pem"))).toEqual([
    "cluster.tls.ca_file must be a file that is there",
  ]);
  for (const url of ["redis://r", "redis+cluster://r"])
    expect(await to(url, redis("CA_FILE", "ca.pem"))).toEqual([
      "cluster.url must be rediss://…, or have ?tls=true, where cluster.tls is set",
    ]);
});

test.each([
  [
    "redis://r?tsl=true",
    "must not have the parameter tsl: what may stand behind the ? is tls=true, tls=false; the nearest is tls",
  ],
  [
    "rediss://r?TLS=true",
    "must not have the parameter TLS: what may stand behind the ? is tls=true, tls=false; the nearest is tls",
  ],
  ["redis+cluster://r?tls=yes", "must have tls=true or tls=false, and no other tls"],
  ["redis+cluster://r?tls=1", "must have tls=true or tls=false, and no other tls"],
  ["redis+cluster://r?tls", "must have tls=true or tls=false, and no other tls"],
  ["redis+cluster://r?tls=true&tls=false", "must have each parameter once"],
  [
    "redis+cluster://r?sentinel_password=x",
    "must not have the parameter sentinel_password: what may stand behind the ? is tls=true, tls=false",
  ],
  [
    "redis+sentinel://r/m?sentinel_pasword=x",
    "must not have the parameter sentinel_pasword: what may stand behind the ? is tls=true, tls=false, sentinel_password=…; the nearest is sentinel_password",
  ],
  ["redis://r:1?word@r", "must not have such a parameter: what may stand behind the ? is tls=true, tls=false"],
  ["rediss://r?tls=false", "must be redis://… where it has tls=false"],
  ["redis://r/abc", "must have a number as its database, such as /0"],
  ["redis://r/0/1", "must have a number as its database, such as /0"],
  ["redis+sentinel://r/m/abc", "must have a number as its database, such as /0"],
  ["redis+sentinel://r", "must have the master's name as its path, and then its database's number, if any"],
  ["redis+cluster://r/0", "must have no path: a Redis Cluster has one database"],
  ["redis://:100%@r", "must have a % of a name or password written as %25"],
  ["redis://a,b", "must have one host: more are for redis+sentinel://… and redis+cluster://…"],
  ["http://r", "must be redis://…, rediss://…, redis+sentinel://… or redis+cluster://…"],
])("%s is refused before anything connects", async (url, expected) => {
  expect(await faultsOf({ WS__CLUSTER__URL: url })).toEqual([`cluster.url ${expected}`]);
});

test("a secret whose name is misspelt is not shown", async () => {
  const url = "redis+sentinel://h/m?sentinel_pasword=hunter2&tls=true";
  const env = { WS__STORAGE__URL: "postgres://db/app", WS__CLUSTER__URL: url };
  const error = await loadConfig({ env, cwd: folder }).catch(String);
  expect(error).toContain('"redis+sentinel://h/m?sentinel_pasword=********&tls=true" must not have');
});

test("Redis is spoken to as its URL says, whatever its scheme", () => {
  for (const scheme of ["redis", "redis+cluster"]) {
    expect(readRedisUrl(`${scheme}://r?tls=true`).isEncrypted).toBe(true);
    expect(readRedisUrl(`${scheme}://r?tls=false`).isEncrypted).toBe(false);
    expect(readRedisUrl(`${scheme}://r`).isEncrypted).toBe(false);
  }
  expect(readRedisUrl("rediss://r").isEncrypted).toBe(true);
});
