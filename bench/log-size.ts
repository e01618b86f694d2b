/** Measures what an event of the log takes on the disk of PostgreSQL: as the first release kept it, the same after the upgrade, and as it is kept now. */
import postgres from "postgres";
import type { NewEvent } from "../src/storage/ports.ts";
import { appendParameters, appendStatement } from "../src/storage/postgres/event-log-append.ts";
import { migrate } from "../src/storage/postgres/migrate.ts";
import { firstAppendParameters, firstAppendStatement, firstSchema } from "../test/support/first-release.ts";
import { runSql, startPostgres } from "../test/support/postgres.ts";
import { newMessage } from "./support/bare-append.ts";
import { count, readOptions } from "./support/command-line.ts";
import { drawConversations } from "./support/conversations.ts";
import { present } from "./support/measured.ts";

const { events, conversations } = readOptions({ events: count(200_000), conversations: count(10_000) });
const batch = 100;

const server = await startPostgres({ settings: ["fsync=off", "max_wal_size=4GB"] });
try {
  const sizes: Record<string, Map<string, number>> = {};
  const first = await server.newDatabase();
  await runSql(first, firstSchema("ws"));
  await fill(first, { statement: firstAppendStatement("ws"), parametersOf: firstAppendParameters });
  sizes["0.1"] = await sizesOf(first);
  const startedAt = performance.now();
  await migrate({ url: first, lockTimeoutMs: 5_000 });
  const migratedMs = Math.round(performance.now() - startedAt);
  sizes["0.1, migrated"] = await sizesOf(first);
  const fresh = await server.newDatabase();
  await migrate({ url: fresh, lockTimeoutMs: 5_000 });
  await fill(fresh, { statement: appendStatement("ws"), parametersOf: appendParameters });
  sizes.now = await sizesOf(fresh);
  console.log(
    `${events} events of ${conversations} conversations, ${payloadBytes()} bytes of payload each; bytes for each event`,
  );
  console.log(`migrated in ${migratedMs} ms`);
  const names = new Set(Object.values(sizes).flatMap((of) => [...of.keys()]));
  present(
    "log-size",
    [...names].map((relation) => ({
      relation,
      ...Object.fromEntries(Object.entries(sizes).map(([log, of]) => [log, of.get(relation) ?? 0])),
    })),
  );
} finally {
  await server.stop();
}

interface Way {
  statement: string;
  parametersOf: (events: NewEvent[]) => (string | null)[];
}

async function fill(url: string, { statement, parametersOf }: Way): Promise<void> {
  const sql = postgres(url, { max: 1, fetch_types: false, onnotice: () => {} });
  const nextConversation = drawConversations({ count: conversations, zipf: true });
  for (let appended = 0; appended < events; appended += batch) {
    const messages = Array.from({ length: batch }, (_, index) =>
      newMessage({ sender: `user-${index}`, conversation: nextConversation() }),
    );
    await sql.unsafe(statement, parametersOf(messages), { prepare: true });
  }
  await sql.end();
}

/** Bytes of each relation for each event, the large ones by name. */
async function sizesOf(url: string): Promise<Map<string, number>> {
  // As autovacuum would have left it, but for the moment at which it comes.
  await runSql(url, "VACUUM ANALYZE");
  const found = await runSql(
    url,
    `SELECT c.relname AS name, pg_relation_size(c.oid)::float AS bytes FROM pg_class AS c
      WHERE c.relnamespace = 'ws'::regnamespace AND c.relkind IN ('r', 'i') ORDER BY 1`,
  );
  const each = (bytes: number) => Math.round((bytes / events) * 10) / 10;
  const large = found.filter(({ bytes }) => Number(bytes) >= events);
  return new Map([
    ["all", each(found.reduce((sum, { bytes }) => sum + Number(bytes), 0))],
    ...large.map(({ name, bytes }) => [String(name), each(Number(bytes))] as const),
  ]);
}

function payloadBytes(): number {
  return newMessage({ sender: "user-1", conversation: "c1" }).payload.length;
}
