/** History: a page of messages of which many were edited, deleted and reacted to beside a page of plain ones [MSG2] [MSG3]. */
import { join } from "node:path";
import { migrateStorage } from "../src/storage/migrate.ts";
import { Client } from "../test/support/client.ts";
import { runSql, startPostgres } from "../test/support/postgres.ts";
import { readOptions } from "./support/command-line.ts";
import { type MeasuredProcess, present, startMeasured } from "./support/measured.ts";
import { cpuSecondsOf } from "./support/process-cpu.ts";
import { median } from "./support/statistics.ts";
import { temporaryFolder } from "./support/temporary.ts";

readOptions({});

const pageEvents = 50;
const rounds = 30;
const pagesARound = 100;
/** Of what a page of plain messages costs. */
const aim = 1.2;

/** `edited`: all of them are. `mixed`: as people do, a third edited, a third reacted to by one to five, a tenth deleted. */
const kinds = ["plain", "edited", "mixed"] as const;
type Kind = (typeof kinds)[number];

const postgres = await startPostgres();
const folder = temporaryFolder("ws-history");
try {
  const url = await postgres.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 5_000 });
  const onSqlite = await measure("SQLite", `sqlite:${join(folder, "service.db")}`);
  const onPostgres = await measure("PostgreSQL", url);
  present("history", [...onSqlite, ...onPostgres]);
} finally {
  await postgres.stop();
}

async function measure(engine: string, url: string): Promise<Record<string, string | number>[]> {
  const service = await startMeasured("service.ts", { WS__STORAGE__URL: url });
  const anna = await Client.connect(`ws://127.0.0.1:${service.port}/ws`, {
    query: { user_id: "anna", roles: "service" },
  });
  for (const kind of kinds) await fill(anna, kind);
  const measured = new Map(kinds.map((kind) => [kind, [] as { p50Ms: number; cpu: number; bytes: number }[]]));
  for (const kind of kinds) await ask(anna, kind);
  // In turns, so that a noisy neighbour meets all of them.
  for (let round = 0; round < rounds; round++) {
    for (const kind of kinds) {
      const before = await cpuOf(service, url);
      const { tookMs, bytes } = await ask(anna, kind);
      const cpu = ((await cpuOf(service, url)) - before) / pagesARound;
      measured.get(kind)!.push({ p50Ms: median(tookMs), cpu: cpu * 1e6, bytes });
    }
  }
  await anna.close();
  await service.stop();
  const plain = measured.get("plain")!;
  return kinds.map((kind) => {
    const own = measured.get(kind)!;
    // The quietest round of each: what others do on the machine only adds.
    const least = (of: typeof own, value: (one: (typeof own)[number]) => number) => Math.min(...of.map(value));
    const ratio = (value: (one: (typeof own)[number]) => number) => least(own, value) / least(plain, value);
    return {
      engine,
      page: kind,
      bytes: own[0]!.bytes,
      "p50 ms": least(own, ({ p50Ms }) => p50Ms).toFixed(2),
      "CPU µs/page": Math.round(least(own, ({ cpu }) => cpu)),
      "p50 to plain": ratio(({ p50Ms }) => p50Ms).toFixed(2),
      "CPU to plain": ratio(({ cpu }) => cpu).toFixed(2),
      [`at most ${aim}`]: ratio(({ cpu }) => cpu) <= aim && ratio(({ p50Ms }) => p50Ms) <= aim ? "yes" : "no",
    };
  });
}

/** Of the service, and of PostgreSQL where it is that. */
async function cpuOf(service: MeasuredProcess, url: string): Promise<number> {
  const { cpuSeconds } = await service.report("cpu");
  if (url.startsWith("sqlite:")) return cpuSeconds;
  const backends = await runSql(
    url,
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
  );
  return backends.reduce((sum, { pid }) => sum + cpuSecondsOf(Number(pid)), cpuSeconds);
}

/** Messages first, so that a page of them has nothing else, whatever was done to them later. */
async function fill(client: Client, kind: Kind): Promise<void> {
  const of = (message_id: string) => ({ conversation_id: kind, message_id });
  const content = "A message as people write them, of some eighty-five characters in all, like this one is.";
  const ids: string[] = [];
  for (let at = 0; at < pageEvents; at++) {
    const sent = await client.ask("message.send", {
      conversation_id: kind,
      client_message_id: `m${at}`,
      // One character beyond Latin-1 makes the whole page twice as large in memory; people write one now and then.
      content: at % 10 === 0 ? `${content} 🙂` : content,
    });
    ids.push(sent.message_id);
  }
  for (const [at, id] of ids.entries()) {
    if (kind === "edited" || (kind === "mixed" && at % 3 === 0))
      await client.ask("message.edit", { ...of(id), content: `${content.slice(0, -1)}!` });
    for (let user = 0; kind === "mixed" && at % 3 === 1 && user <= at % 5; user++)
      await client.ask("publish", {
        conversation_id: kind,
        type: "message.reaction",
        payload: { message_id: id, user_id: `user-${user}`, reaction: user === 3 ? "🎉" : "👍", added: true },
      });
    if (kind === "mixed" && at % 10 === 9) await client.ask("message.delete", of(id));
  }
}

async function ask(client: Client, kind: Kind): Promise<{ tookMs: number[]; bytes: number }> {
  const tookMs: number[] = [];
  let bytes = 0;
  for (let page = 0; page < pagesARound; page++) {
    const startedAt = performance.now();
    const answer = await client.ask("history", {
      topic: `conversation:${kind}`,
      before_seq: pageEvents + 1,
      limit: pageEvents,
    });
    tookMs.push(performance.now() - startedAt);
    if (answer.events.length !== pageEvents) throw new Error(`a page has ${answer.events.length} events`);
    bytes = Buffer.byteLength(JSON.stringify(answer));
  }
  return { tookMs, bytes };
}
