/** Proves that a user with very many messages is erased page by page while others go on, on both engines [BAK4]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { Client } from "../support/client.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { startService } from "../support/service.ts";
import { type Stored, storedInPostgres, storedInSqlite } from "../support/stored.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(300_000);

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

const messages = 2_000;
const conversations = 200;
const perBatch = 1_000;

/** Has the user have sent so many, and somebody else one in ten as many. */
async function fill({ url }: Stored, userId: string): Promise<void> {
  const storage = url.startsWith("sqlite:")
    ? createSqliteStorage({ path: url.slice("sqlite:".length) })
    : createPostgresStorage({ url, queryTimeoutMs: 30_000 });
  await storage.start();
  const begun = Date.now() - 600_000;
  const message = (at: number, sender_id: string) => {
    const createdAt = begun + at;
    const said = sender_id === userId ? "secret" : "kept";
    const [conversation_id, message_id] = [`c${at % conversations}`, `${sender_id}-${at}`];
    const payload = { message_id, client_message_id: `m${at}`, conversation_id, sender_id, content: `${said} ${at}` };
    return {
      id: message_id,
      topic: `conversation:${conversation_id}`,
      type: "message.new",
      payload: JSON.stringify({ ...payload, created_at: new Date(createdAt).toISOString() }),
      createdAt,
      senderId: sender_id,
      once: { keys: [`sent:${sender_id}:${conversation_id}:m${at}`], digest: "d" },
    };
  };
  for (let from = 0; from < messages; from += perBatch) {
    const batch = Array.from({ length: perBatch }, (_, at) => message(from + at, userId));
    const others = Array.from({ length: perBatch / 10 }, (_, at) => message(from / 10 + at, "ben"));
    await storage.log.append([...batch, ...others]);
  }
  await storage.stop();
}

for (const engine of ["SQLite", "PostgreSQL"] as const) {
  test(`[BAK4] ${messages} messages of one user are deleted, each once, while others send and are heard: ${engine}`, async () => {
    const stored = engine === "SQLite" ? storedInSqlite() : await storedInPostgres(server);
    await fill(stored, "zoe");
    const service = await startService({
      settings: {
        STORAGE__URL: stored.url,
        PRESENCE__OFFLINE_GRACE: "0s",
        WEBSOCKET__CLEANUP_INTERVAL: "500ms",
        STORAGE__QUERY_TIMEOUT: "3s",
      },
    });
    const as = (user_id: string, roles = "") =>
      Client.connect(service.url, { query: { user_id, ...(roles === "" ? {} : { roles }) } });
    const [root, ben] = [await as("root", "admin"), await as("ben")];
    await root.ask("admin.users.erase", { user_id: "zoe" });
    let sent = 0;
    await eventually(
      async () => {
        await ben.ask("message.send", { conversation_id: "c0", client_message_id: `now${sent++}`, content: "kept" });
        return root.ask("admin.users.erasure", { user_id: "zoe" });
      },
      ({ state }) => state === "finished",
    );
    const kinds = await stored.run(`SELECT type, sender_id, count(*) AS events FROM ws.events
      GROUP BY type, sender_id ORDER BY type, sender_id`);
    expect(kinds.map(({ type, sender_id, events }) => [type, sender_id, Number(events)])).toEqual([
      ["message.deleted", null, messages],
      ["message.new", "", messages],
      ["message.new", "ben", messages / 10 + sent],
    ]);
    // SQLite cleans its file soon after.
    const copy = await eventually(
      () => stored.copy(),
      (copy) => !copy.includes("secret"),
    );
    expect(copy.includes("kept")).toBe(true);
    await service.stop();
    await stored.close();
  });
}
