/** Proves against a PostgreSQL with a private authority what `sslmode` and `storage.tls` do, and what they refuse. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ClientTlsFiles } from "../../src/config/client-tls.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { type Authority, makeAuthority } from "../support/certificates.ts";
import { Client } from "../support/client.ts";
import { newEvent } from "../support/new-event.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { startService } from "../support/service.ts";

setDefaultTimeout(60_000);
let folder: string;
let authority: Authority;
let server: PostgresServer;
let schema: string;
const none = { ca_file: null, cert_file: null, key_file: null };

/** Asks whoever comes encrypted as `app` for a certificate for that name; everybody else is let in, encrypted or not. */
const access = `hostssl all app 127.0.0.1/32 cert clientcert=verify-full
hostnossl all app 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
`;

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ws-authority-"));
  authority = makeAuthority(folder);
  // For its address, not for `localhost`, by which it is reached as well.
  const { cert, key } = authority.issue("127.0.0.1");
  server = await startPostgres({
    files: { "server.crt": cert, "server.key": key, "root.crt": authority.ca, "pg_hba.conf": access },
    settings: ["ssl=on", "ssl_ca_file=root.crt"],
  });
  schema = server.newSchema();
  await server.run("CREATE ROLE app LOGIN SUPERUSER");
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
});
afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Way {
  user?: string;
  host?: string;
  mode?: string;
  tls?: Partial<ClientTlsFiles>;
}

/** Whether the connections of a storage that was opened like that are encrypted; or why it cannot be opened. */
async function tryOut({ user = "postgres", host = "127.0.0.1", mode, tls }: Way): Promise<string> {
  const url = Object.assign(new URL(server.url), { username: user, hostname: host });
  if (mode !== undefined) url.searchParams.set("sslmode", mode);
  const options = { url: url.href, schema, queryTimeoutMs: 3_000, tls: tls === undefined ? null : { ...none, ...tls } };
  const storage = createPostgresStorage({ ...options, outbox: { rejectedKeptMs: 1_000 } });
  try {
    await storage.start();
    await storage.log.append([newEvent("user:a")]);
    await storage.outbox!.start();
    await storage.outbox!.take();
    const rows = await server.run(`SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
      WHERE application_name = 'ws-service'`);
    return rows.map(({ ssl }) => (ssl ? "encrypted" : "plain")).join(" and ");
  } catch (error) {
    return (error as Error).message;
  } finally {
    await storage.outbox!.stop();
    await storage.stop();
  }
}

test("[OPS4] each sslmode does what it says", async () => {
  const ca_file = write("trusted.pem", authority.ca);
  const foreign = write("foreign.pem", makeAuthority(mkdtempSync(join(folder, "other-"))).ca);
  const localhost = { host: "localhost" };
  const unknown = /unable to verify|self.signed|unable to get/i;
  const cases: [Way, string | RegExp][] = [
    [{}, "plain"],
    [{ mode: "disable" }, "plain"],
    [{ mode: "require" }, "encrypted"],
    [{ mode: "require", tls: { ca_file } }, "encrypted"],
    [{ mode: "require", tls: { ca_file: foreign } }, unknown],
    [{ mode: "verify-ca", ...localhost, tls: { ca_file } }, "encrypted"],
    [{ mode: "verify-ca" }, unknown],
    [{ mode: "verify-full", tls: { ca_file } }, "encrypted"],
    [{ tls: { ca_file } }, "encrypted"],
    [{ ...localhost, tls: { ca_file } }, /does not match certificate/],
    [{ mode: "verify-full", tls: { ca_file: foreign } }, unknown],
  ];
  for (const [way, outcome] of cases) {
    const found = await tryOut(way);
    if (typeof outcome === "string") expect([way, found]).toEqual([way, outcome]);
    else expect(found).toMatch(outcome);
  }
});

test("[OPS4] a server that asks for a certificate of ours is shown it", async () => {
  const ca_file = write("ca.pem", authority.ca);
  const { cert, key } = authority.issue("app");
  const [cert_file, key_file] = [write("app.pem", cert), write("app.key", key)];
  expect(await tryOut({ user: "app", tls: { ca_file } })).toMatch(
    /requires a valid client certificate|closed|certificate required/i,
  );
  const strange = authority.issue("somebody");
  const wrong = { cert_file: write("strange.pem", strange.cert), key_file: write("strange.key", strange.key) };
  expect(await tryOut({ user: "app", tls: { ca_file, ...wrong } })).toContain("certificate authentication failed");
  expect(await tryOut({ user: "app", tls: { ca_file, cert_file, key_file } })).toBe("encrypted");
});

test("[OPS4] migrate and serve use the settings, and a file that is wrong is told by its setting", async () => {
  const { cert, key } = authority.issue("app");
  const url = Object.assign(new URL(await server.newDatabase()), { username: "app" });
  const settings = {
    STORAGE__URL: url.href,
    STORAGE__TLS__CA_FILE: write("c.pem", authority.ca),
    STORAGE__TLS__CERT_FILE: write("a.pem", cert),
    STORAGE__TLS__KEY_FILE: write("a.key", key),
  };
  const migrated = await startService({ settings, words: ["migrate"] }).catch((error: unknown) => String(error));
  expect(migrated).toContain("schema made");
  const service = await startService({ settings });
  const ben = await Client.connect(service.url, { query: { user_id: "ben" } });
  await ben.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hello" });
  await service.stop();
  // An authority for the whole process, without a setting.
  const trusting = await startService({
    settings: {
      STORAGE__URL: Object.assign(new URL(url), { username: "postgres", search: "?sslmode=verify-full" }).href,
    },
    env: { NODE_EXTRA_CA_CERTS: settings.STORAGE__TLS__CA_FILE },
  });
  await trusting.stop();
  const broken = { ...settings, STORAGE__TLS__KEY_FILE: write("b.key", authority.issue("other").key) };
  const refused = await startService({ settings: broken }).catch((error: unknown) => String(error));
  expect(refused).toContain("storage.tls.key_file");
  expect(refused).toContain("must be the key of the certificate in storage.tls.cert_file");
});
