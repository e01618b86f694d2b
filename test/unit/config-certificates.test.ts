/** Proves that a certificate that would not work is a fault of the configuration, and which of its two files is at fault. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../../src/config/faults.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { makeCertificate } from "../support/certificates.ts";

let folder: string;
let sound: { cert: string; key: string };
let other: { cert: string; key: string };
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ws-certificates-"));
  const make = (name: string) => {
    makeCertificate(folder, name);
    const [cert, key] = ["cert.pem", "key.pem"].map((file) => readFileSync(join(folder, file), "utf8"));
    return { cert: cert!, key: key! };
  };
  [sound, other] = [make("sound.test"), make("other.test")];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** `file: what is expected` of each fault, with these texts on the disk. */
async function faultsOf({ cert, key }: { cert: string; key: string }, checksFiles = true): Promise<string[]> {
  writeFileSync(join(folder, "cert.pem"), cert);
  writeFileSync(join(folder, "key.pem"), key);
  const env = { WS__SERVER__TLS__CERT_FILE: "cert.pem", WS__SERVER__TLS__KEY_FILE: "key.pem" };
  const error = await loadConfig({ env, cwd: folder, checksFiles }).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error === null) return [];
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).faults.map(({ path, value, expected }) => `${path} ${value} ${expected}`);
}

const noCertificate = 'server.tls.cert_file "cert.pem" must be a PEM file with a certificate';
const noKey = 'server.tls.key_file "key.pem" must be a PEM file with a private key, without a passphrase';

test("a certificate with its key is sound, and so is a chain", async () => {
  expect(await faultsOf(sound)).toEqual([]);
  expect(await faultsOf({ ...sound, cert: sound.cert + other.cert })).toEqual([]);
});

test("a file that holds something else is told by its setting", async () => {
  expect(await faultsOf({ ...sound, cert: "garbage" })).toEqual([noCertificate]);
  expect(await faultsOf({ ...sound, cert: sound.key })).toEqual([noCertificate]);
  expect(await faultsOf({ ...sound, key: "" })).toEqual([noKey]);
  expect(await faultsOf({ cert: "", key: sound.cert })).toEqual([noCertificate, noKey]);
});

test("the key of another certificate, and a chain that is cut off, are told", async () => {
  const [foreign] = await faultsOf({ ...sound, key: other.key });
  expect(foreign).toBe('server.tls.key_file "key.pem" must be the key of the certificate in server.tls.cert_file');
  const cutOff = other.cert.replace(/\n[^-\n]+\n-----END/, "\n-----END");
  const [chain] = await faultsOf({ ...sound, cert: sound.cert + cutOff });
  expect(chain).toStartWith('server.tls.cert_file "cert.pem" must have whole certificates only');
});

test("who does not use them need not have them sound", async () => {
  expect(await faultsOf({ cert: "garbage", key: "garbage" }, false)).toEqual([]);
});
