/** Runs the service with the roles and grants that the docs show, and proves that they are enough for all that it does. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client } from "../support/client.ts";
import { examplesOf } from "../support/ingest.ts";
import { type PostgresServer, runSql, startPostgres } from "../support/postgres.ts";
import { startService } from "../support/service.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);
let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

const putAside = "an entry cannot be published and was put aside";

test("[PUB2] [PUB3] [LOG7] three roles with the grants of the docs do all that is needed, and nothing is refused", async () => {
  const url = await server.newDatabase();
  const as = (role: string) => Object.assign(new URL(url), { username: role }).href;
  const [beforehand, afterwards] = (await examplesOf("sql", "Storage and backup")) as [string, string];
  await runSql(url, beforehand);
  // The schema is there, and this role may not make one.
  await runSql(url, `REVOKE CREATE ON DATABASE ${new URL(url).pathname.slice(1)} FROM PUBLIC`);
  expect(await migrateStorage({ url: as("ws_migrate"), lockTimeoutMs: 10_000 })).toMatchObject({ from: 0 });
  await runSql(as("ws_migrate"), afterwards);

  const service = await startService({
    settings: {
      STORAGE__URL: as("ws_service"),
      WEBSOCKET__MAX_CONNECTIONS: "100",
      DIRECTORY__MODE: "managed",
      LOG__EVENTS_PER_TOPIC: "2",
      WEBSOCKET__CLEANUP_INTERVAL: "250ms",
    },
  });
  const app = postgres(as("app"), { max: 1, onnotice: () => {} });
  await app`INSERT INTO ws.users (user_id) VALUES ('anna'), ('ben'), ('root')`;
  await app`INSERT INTO ws.members (conversation_id, user_id) VALUES ('c1', 'anna'), ('c1', 'ben')`;
  const connect = (user_id: string, query = {}) => Client.connect(service.url, { query: { user_id, ...query } });
  const [anna, ben, root] = [await connect("anna"), await connect("ben"), await connect("root", { roles: "admin" })];
  await ben.ask("subscribe", { topics: ["conversation", "typing", "presence"] });
  for (const key of ["m1", "m2", "m3", "m4", "m5"]) {
    await anna.ask("message.send", { conversation_id: "c1", client_message_id: key, content: "hello" });
  }
  const last = await ben.next("message.new", ({ client_message_id }) => client_message_id === "m5");
  await ben.ask("mark.read", { conversation_id: "c1", up_to_seq: last.seq });
  const { cursor } = await ben.ask("ping");
  await ben.ask("ack", { cursor });
  await ben.ask("presence.update", { status: "busy", status_text: "lunch" });
  await anna.ask("presence.query", { user_ids: ["ben"] });
  await app`SELECT ws.publish_to_conversation('c1', 'poll.closed', '{"n": 1}', 'poll-1')`;
  await ben.next("poll.closed");
  await app`SELECT ws.publish_to_conversation('c1', 'poll.closed', '{"n": 2}', 'poll-1')`;
  await service.logged(({ msg }) => msg === putAside);
  const rejected = await runSql(url, "SELECT reason FROM ws.outbox_rejected");
  expect(rejected).toHaveLength(1);
  // Retention has taken what is beyond the newest two.
  await until(async () => (await anna.ask("history", { topic: "conversation:c1" })).events.length <= 2);
  await root.ask("admin.members.add", { conversation_id: "c2", user_ids: ["ben"] });
  await root.ask("admin.users.upsert", { user_ids: ["eve"] });
  await root.ask("admin.block", { user_id: "eve", for: "10m" });
  await app`DELETE FROM ws.members WHERE user_id = 'ben' AND conversation_id = 'c1'`;
  await ben.next("unsubscribed", ({ topics }) => JSON.stringify(topics).includes("conversation:c1"));
  await root.ask("admin.users.disable", { user_id: "ben" });
  expect((await ben.closed).code).toBe(4011);
  expect((await fetch(`${service.http}/ready`)).status).toBe(200);
  const told = service.logs.filter(({ level, msg }) => level !== "info" && msg !== putAside);
  expect(told).toEqual([]);

  if (server.isOwn) {
    // Another epoch of the log begins in the rights of the service.
    await server.halt();
    await server.resume();
    await service.logged(({ msg }) => msg.startsWith("the log goes on in another epoch"));
    expect(service.logs.filter(({ msg }) => msg.startsWith("the log has gone back"))).toEqual([]);
  }

  // No more than that.
  await expect(app`SELECT * FROM ws.events`).rejects.toThrow("permission denied for table events");
  await expect(runSql(as("ws_service"), "UPDATE ws.schema_version SET version = 0")).rejects.toThrow(
    "permission denied",
  );
  await expect(runSql(as("ws_service"), "CREATE TABLE ws.mine ()")).rejects.toThrow("permission denied for schema ws");
  await app.end({ timeout: 1 });
  await service.stop();
});
