/** Proves that what a role without any right notifies of changes nothing, and that what is so is told all the same [SUB3] [PUB2]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client } from "../support/client.ts";
import { type PostgresServer, runSql, startPostgres } from "../support/postgres.ts";
import { startService } from "../support/service.ts";

setDefaultTimeout(60_000);
let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

test("[SUB3] [AUTH4] [PUB2] forged and nonsensical notifications, and floods of them, take nothing from anybody", async () => {
  const url = await server.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  const nobody = `nobody_${process.pid}`;
  await server.run(`CREATE ROLE ${nobody} LOGIN`);
  await runSql(
    url,
    "INSERT INTO ws.users VALUES ('anna'), ('ben'); INSERT INTO ws.members VALUES ('c1', 'anna'), ('c1', 'ben')",
  );
  const service = await startService({
    settings: { STORAGE__URL: url, WEBSOCKET__MAX_CONNECTIONS: "100", DIRECTORY__MODE: "managed" },
  });
  const connect = (user_id: string) => Client.connect(service.url, { query: { user_id } });
  const [anna, ben] = [await connect("anna"), await connect("ben")];
  for (const client of [anna, ben]) await client.ask("subscribe", { topics: ["conversation", "typing", "presence"] });

  const attacker = postgres(Object.assign(new URL(url), { username: nobody }).href, { max: 1, onnotice: () => {} });
  await expect(attacker`SELECT * FROM ws.members`).rejects.toThrow("permission denied");
  const forged = [
    { op: "member_removed", conversation_id: "c1", user_id: "ben" },
    { op: "member_added", conversation_id: "c2", user_id: "ben" },
    { op: "user_changed", user_id: "ben" },
    { op: "mark", mark: "made up" },
    { op: "resync" },
    { op: "member_removed", conversation_id: 7 },
    [null],
    "text",
  ];
  for (const notice of forged) await attacker`SELECT pg_notify('ws_directory', ${JSON.stringify(notice)})`;
  await attacker`SELECT pg_notify('ws_directory', 'no JSON'), pg_notify('ws_outbox', 'x')`;
  await attacker`SELECT pg_notify('ws_directory', json_build_object('op', 'member_removed', 'conversation_id', 'c' || n, 'user_id', 'ben')::text)
    FROM generate_series(1, 3000) AS n`;
  await attacker`SELECT pg_notify('ws_directory', '{"op": "resync", "n": ' || n || '}'), pg_notify('ws_outbox', n::text)
    FROM generate_series(1, 3000) AS n`;
  // A true notice comes after them on the same way.
  await runSql(url, "INSERT INTO ws.members VALUES ('c3', 'ben')");
  await ben.next(
    "subscribed",
    ({ topics }, { reply_to }) => !reply_to && JSON.stringify(topics).includes("conversation:c3"),
  );
  await anna.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hello" });
  await ben.next("message.new");
  await runSql(url, "SELECT ws.publish_to_conversation('c1', 'poll.closed', '{}')");
  await ben.next("poll.closed");
  expect(ben.received.filter(({ type }) => type === "unsubscribed")).toEqual([]);
  expect(ben.received.filter(({ topic }) => topic === "conversation:c2")).toEqual([]);

  await runSql(url, "DELETE FROM ws.members WHERE conversation_id = 'c1' AND user_id = 'ben'");
  await ben.next("unsubscribed", ({ topics }) => JSON.stringify(topics).includes("conversation:c1"));
  await runSql(url, "UPDATE ws.users SET disabled = true WHERE user_id = 'ben'");
  expect((await ben.closed).code).toBe(4011);
  expect(service.logs.filter(({ level }) => level !== "info")).toEqual([]);
  await attacker.end({ timeout: 1 });
  await service.stop();
  await server.run(`DROP ROLE ${nobody}`);
});
