/** Proves that a storage that refuses writes makes a node unready, is told once with the engine's reason, and heals by itself. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client } from "../support/client.ts";
import { type PostgresServer, runSql, startPostgres } from "../support/postgres.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type LogLine, type Service, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);
const mayAlter = process.env.TEST_DATABASE_URL === undefined;
let server: PostgresServer;
beforeAll(async () => {
  if (mayAlter) server = await startPostgres();
});
afterAll(() => server?.stop());

async function openDatabase(): Promise<{ url: string; name: string }> {
  const url = await server.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  return { url, name: new URL(url).pathname.slice(1) };
}

/** Asks as a load balancer does until it is answered like that. */
async function becomes(service: Service, status: 200 | 503): Promise<void> {
  while ((await fetch(`${service.http}/ready`)).status !== status) await Bun.sleep(100);
}

/** Finds what is said of the storage, once it has said that it is well again. */
async function told({ logs, logged }: Service): Promise<LogLine[]> {
  await logged(({ msg }) => msg === "the storage takes writes again");
  return logs.filter(({ msg }) => /^the storage (refuses|takes) writes/.test(msg));
}

const gone = "the storage refuses writes";
const message = (client_message_id: string) => ({ conversation_id: "c1", client_message_id, content: "hello" });

test.concurrent.skipIf(!mayAlter)(
  "[END2] [LOG4] a sequence that is behind the log makes the node unready, with what puts it right",
  async () => {
    const { url } = await openDatabase();
    const service = await startService({ settings: { STORAGE__URL: url } });
    const ben = await Client.connect(service.url, { query: { user_id: "ben" } });
    for (const id of ["m1", "m2"]) await ben.ask("message.send", message(id));
    await runSql(url, "SELECT setval('ws.positions', 0)");
    await becomes(service, 503);
    const { err } = (await service.logged(({ msg }) => msg === gone)) as { err?: { message: string } };
    await runSql(url, /SELECT setval.*$/.exec(err!.message)![0]);
    await becomes(service, 200);
    const { position } = await ben.ask("message.send", message("m3"));
    expect(position).toBeGreaterThan(2);
    expect(await told(service)).toHaveLength(2);
    await ben.close();
    await service.stop();
  },
);

test.concurrent.skipIf(!mayAlter)(
  "[END2] a PostgreSQL that has become read-only makes the node unready and is told once, and so is its end",
  async () => {
    const { url, name } = await openDatabase();
    const service = await startService({ settings: { STORAGE__URL: url } });
    const readOnly = async (value: "on" | "off") => {
      await server.run(`ALTER DATABASE ${name} SET default_transaction_read_only = ${value}`);
      await server.run(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}'`);
    };
    const ben = await Client.connect(service.url, { query: { user_id: "ben" } });
    await ben.ask("message.send", message("m1"));

    await readOnly("on");
    for (let attempt = 0; attempt < 3; attempt++) {
      expect((await ben.request("message.send", message("m2"))).payload).toMatchObject({ code: "unavailable" });
    }
    await becomes(service, 503);
    const { checks } = (await (await fetch(`${service.http}/health`)).json()) as { checks: Record<string, object> };
    expect(checks.storage).toMatchObject({ status: "down", error: "failed: 25006" });
    // Somebody new would have to be written down; what is there can be read.
    const refused = await RawSocket.refused(service.url, { query: { user_id: "newcomer" } });
    expect(refused.status).toBe(503);
    expect((await ben.ask("history", { topic: "conversation:c1" })).events).toHaveLength(1);

    await readOnly("off");
    await becomes(service, 200);
    await ben.ask("message.send", message("m2"));
    const lines = await told(service);
    expect(lines.map(({ level, msg }) => [level, msg])).toEqual([
      ["error", gone],
      ["info", "the storage takes writes again"],
    ]);
    expect(JSON.stringify(lines[0]!.err)).toMatch(/read-only transaction|terminating connection|closed/i);
    await service.stop();
  },
);

test.concurrent.skipIf(!mayAlter)(
  "[END2] [CON1] a role that may only read is 503 on the upgrade and unready, until it is granted the rest",
  async () => {
    const { url, name } = await openDatabase();
    const role = `${name}_reader`;
    await server.run(`CREATE ROLE ${role} LOGIN`);
    await runSql(url, `GRANT USAGE ON SCHEMA ws TO ${role}; GRANT SELECT ON ALL TABLES IN SCHEMA ws TO ${role}`);
    // As hosted servers have it: it tells one server from another, and is done without.
    await runSql(url, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC");
    const asRole = Object.assign(new URL(url), { username: role });
    const service = await startService({ settings: { STORAGE__URL: asRole.href } });
    await becomes(service, 503);
    const refused = await RawSocket.refused(service.url, { query: { user_id: "ben" } });
    expect([refused.status, refused.body.code]).toEqual([503, "unavailable"]);
    const line = await service.logged(({ msg }) => msg === gone);
    expect(JSON.stringify(line.err)).toContain("permission denied for table");
    const asked = await service.logged(({ msg }) => msg === "the directory cannot be asked");
    expect(JSON.stringify(asked.err)).toContain("permission denied for table users");

    await runSql(
      url,
      `GRANT ALL ON ALL TABLES IN SCHEMA ws TO ${role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA ws TO ${role}`,
    );
    await becomes(service, 200);
    const ben = await Client.connect(service.url, { query: { user_id: "ben" } });
    await ben.ask("message.send", message("m1"));
    // One right that is missing is told by what was asked, once.
    await runSql(url, `REVOKE ALL ON ws.receipts FROM ${role}`);
    for (let attempt = 0; attempt < 3; attempt++) {
      const reply = await ben.request("mark.read", { conversation_id: "c1", up_to_seq: 1 });
      expect(reply.payload).toMatchObject({ code: "unavailable" });
    }
    await runSql(url, `GRANT ALL ON ws.receipts TO ${role}`);
    await ben.ask("mark.read", { conversation_id: "c1", up_to_seq: 1 });
    await service.logged(({ msg }) => msg === "the storage takes requests again");
    const refusals = service.logs.filter(({ msg }) => msg === "the storage refuses requests");
    expect(refusals.map(({ type }) => type)).toEqual(["mark.read"]);
    expect(JSON.stringify(refusals[0]!.err)).toContain("permission denied for table receipts");
    expect((await told(service)).map(({ msg }) => msg)).toEqual([gone, "the storage takes writes again"]);
    expect(service.logs.filter(({ msg }) => msg === "request failed")).toEqual([]);
    await service.stop();
    await runSql(url, `DROP OWNED BY ${role}`);
    await server.run(`DROP ROLE ${role}`);
  },
);

test.concurrent("[END2] a primary that has come back as a standby makes the node unready until it is promoted", async () => {
  // One of its own, wherever the others are: it is stopped.
  const primary = await startPostgres({ settings: ["wal_level=replica"] });
  await migrateStorage({ url: primary.url, lockTimeoutMs: 10_000 });
  const service = await startService({ settings: { STORAGE__URL: primary.url } });
  const ben = await Client.connect(service.url, { query: { user_id: "ben" } });
  await ben.ask("message.send", message("m1"));
  await primary.halt();
  await primary.resume("standby");
  const { body } = await eventually(
    async () => {
      const answer = await fetch(`${service.http}/health`);
      return { status: answer.status, body: await answer.text() };
    },
    (answer) => answer.body.includes("25006"),
  );
  expect(JSON.parse(body)).toMatchObject({ status: "down", checks: { storage: { status: "down" } } });
  expect((await ben.ask("history", { topic: "conversation:c1" })).events).toHaveLength(1);
  await primary.run("SELECT pg_promote()");
  await becomes(service, 200);
  await ben.ask("message.send", message("m2"));
  expect((await told(service)).map(({ msg }) => msg)).toEqual([gone, "the storage takes writes again"]);
  await service.stop();
  await primary.stop();
});
