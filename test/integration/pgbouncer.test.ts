/** Runs the service behind a real PgBouncer: in session mode all is well, and a mode that loses notifications is told [SUB3] [PUB2]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { Client } from "../support/client.ts";
import { type Pooler, startPgBouncer } from "../support/pgbouncer.ts";
import { type PostgresServer, runSql, startPostgres } from "../support/postgres.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);
let server: PostgresServer;
let url: string;
let pooler: Pooler;
let service: Service;
beforeAll(async () => {
  server = await startPostgres();
  url = await server.newDatabase();
  pooler = await startPgBouncer({ url, mode: "session" });
});
afterAll(async () => {
  await service?.stop();
  await pooler?.stop();
  await server?.stop();
});

test("[SUB3] [PUB2] in session mode everything works, without a setting of PgBouncer's", async () => {
  await migrateStorage({ url: pooler.url, lockTimeoutMs: 10_000 });
  await runSql(
    url,
    "INSERT INTO ws.users VALUES ('anna'), ('ben'); INSERT INTO ws.members VALUES ('c1', 'anna'), ('c1', 'ben')",
  );
  service = await startService({
    settings: {
      STORAGE__URL: pooler.url,
      WEBSOCKET__MAX_CONNECTIONS: "100",
      STORAGE__QUERY_TIMEOUT: "2s",
      DIRECTORY__MODE: "managed",
    },
  });
  const connect = (user_id: string) => Client.connect(service.url, { query: { user_id } });
  const [anna, ben] = [await connect("anna"), await connect("ben")];
  await ben.ask("subscribe", { topics: ["conversation"] });
  await anna.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hello" });
  await ben.next("message.new");
  await runSql(url, "SELECT ws.publish_to_conversation('c1', 'poll.closed', '{}')");
  await ben.next("poll.closed");
  await runSql(url, "DELETE FROM ws.members WHERE user_id = 'ben'");
  await ben.next("unsubscribed");
  expect(service.logs.filter(({ level }) => level !== "info")).toEqual([]);
});

test("[SUB3] a mode in which notifications are lost is told when it comes later, and so is its end; changes are late, not lost", async () => {
  const ben = await Client.connect(service.url, { query: { user_id: "ben" } });
  await ben.ask("subscribe", { topics: ["conversation"] });
  await pooler.restart("transaction");
  const line = await service.logged(({ msg }) => msg === "changes of the directory are not heard at once");
  expect(line.level).toBe("error");
  expect(JSON.stringify(line.err)).toContain("pool_mode = session");
  await runSql(url, "INSERT INTO ws.members VALUES ('c1', 'ben')");
  await ben.next("subscribed", (_, { reply_to }) => reply_to === undefined);
  await pooler.restart("session");
  await service.logged(({ msg }) => msg === "changes of the directory are heard at once again");
});

test("[SUB3] in transaction mode the start is refused with what to do", async () => {
  await pooler.restart("transaction");
  const storage = createPostgresStorage({ url: pooler.url, queryTimeoutMs: 2_000 });
  await expect(storage.start()).rejects.toThrow(/does not come round.*PgBouncer: pool_mode = session.*storage\.url/);
});
