/** Proves that what was said in a deleted message is nowhere in the storage: the file, its log of writes, or what pg_dump gives [MSG2]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { contentDigest } from "../../src/broadcast/idempotency-key.ts";
import type { Client } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type Service, startService } from "../support/service.ts";
import { type Stored, storedInPostgres, storedInSqlite } from "../support/stored.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

let words = 0;
/** A text that stands nowhere else, and where it stands is found. */
const secret = (length = 0) => `secret-${++words}-${crypto.randomUUID()}-${"x".repeat(length)}`;

/** Looks for texts in all that is stored. @returns those that are there */
async function found(stored: Stored, texts: string[]): Promise<string[]> {
  const copy = await stored.copy();
  return texts.filter((text) => copy.includes(text.slice(0, 50)));
}

async function send(client: Client, conversation_id: string, content: string): Promise<string> {
  const { message_id } = await client.ask("message.send", { conversation_id, client_message_id: fresh("m"), content });
  return message_id;
}

/** Says much in a conversation and takes all of it back but one message. @returns what was said and is taken back */
async function sayAndDelete(anna: Client, ben: Client, c: string): Promise<{ gone: string[]; kept: string[] }> {
  const gone: string[] = [];
  const kept = [secret(), secret()];
  const say = (text: string) => {
    gone.push(text);
    return text;
  };
  const ids: string[] = [];
  for (let at = 0; at < 60; at++) ids.push(await send(anna, c, say(secret([0, 300, 2_000, 9_000][at % 4]))));
  const keptId = await send(anna, c, kept[0]!);
  for (const [at, message_id] of ids.entries()) {
    for (let edits = at % 3; edits > 0; edits--)
      await anna.ask("message.edit", { conversation_id: c, message_id, content: say(secret(at * 40)) });
    if (at % 4 === 0) await ben.ask("reaction.add", { conversation_id: c, message_id, reaction: "👍" });
    if (at % 5 === 0) await ben.ask("mark.read", { conversation_id: c, message_ids: [message_id] });
  }
  await anna.ask("message.edit", { conversation_id: c, message_id: keptId, content: kept[1] });
  gone.push(kept.shift()!);
  for (const message_id of ids) await anna.ask("message.delete", { conversation_id: c, message_id });
  return { gone, kept };
}

describe("SQLite", () => {
  const stored = storedInSqlite();
  let service: Service;
  beforeAll(async () => {
    service = await startService({ settings: { STORAGE__URL: stored.url } });
  });
  afterAll(async () => {
    await service?.stop();
    await stored.close();
  });
  const { gather } = createPeople(() => service.url);

  test("[MSG2] soon after a deletion its texts are neither in the file nor in its log of writes, while the service runs", async () => {
    const c = fresh("c");
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    const { gone, kept } = await sayAndDelete(anna!, ben!, c);
    await until(async () => (await stored.run("SELECT 1 FROM log_state WHERE deletions > cleaned")).length === 0);
    expect(await found(stored, gone)).toEqual([]);
    expect(await found(stored, kept)).toEqual(kept);
    const digests = await stored.run(
      "SELECT count(*) AS count FROM idempotency_keys WHERE key LIKE 'sent:%' AND digest IS NOT NULL",
    );
    expect(digests).toEqual([{ count: 1 }]);
    expect(await stored.run("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
    // The service goes on with the file.
    const message_id = await send(anna!, c, "and on");
    expect((await ben!.next("message.new", (payload) => payload.message_id === message_id)).payload.content).toBe(
      "and on",
    );
  });

  test("[MSG2] what a service that was killed had deleted is cleaned by the next one", async () => {
    const c = fresh("c");
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    const { gone } = await sayAndDelete(anna!, ben!, c);
    await service.kill();
    service = await startService({ settings: { STORAGE__URL: stored.url } });
    await until(async () => (await stored.run("SELECT 1 FROM log_state WHERE deletions > cleaned")).length === 0);
    expect(await found(stored, gone)).toEqual([]);
    expect(await stored.run("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
  });
});

describe("PostgreSQL", () => {
  let server: PostgresServer;
  let stored: Stored;
  let service: Service;
  beforeAll(async () => {
    server = await startPostgres();
    stored = await storedInPostgres(server);
    service = await startService({ settings: { STORAGE__URL: stored.url } });
  });
  afterAll(async () => {
    await service?.stop();
    await stored?.close();
    await server?.stop();
  });
  const { gather, backend } = createPeople(() => service.url);
  const emptied = () => until(async () => (await stored.run("SELECT 1 FROM ws.outbox LIMIT 1")).length === 0);
  const publish = (c: string, type: string, payload: object, key = "NULL") =>
    stored.run(`SELECT ws.publish('conversation:${c}', '${type}', '${JSON.stringify(payload)}', ${key})`);

  test("[MSG2] after a deletion its texts and their digests are not in what pg_dump gives", async () => {
    const c = fresh("c");
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    const { gone, kept } = await sayAndDelete(anna!, ben!, c);
    expect(await found(stored, gone)).toEqual([]);
    // Of the one that is left only its sender's key knows what it was: sent again it is the same.
    const digests = gone.map((text) => contentDigest(text));
    expect(await found(stored, digests)).toEqual([digests.at(-1)!]);
    expect(await found(stored, kept)).toEqual(kept);
  });

  test("[MSG2] [PUB2] nor is what came by the outbox, what was put aside of it, or what is put aside later", async () => {
    const c = fresh("c");
    const [anna] = await gather(c, [fresh("anna")]);
    const [message_id, shop] = [fresh("order"), await backend()];
    const texts = Array.from({ length: 6 }, () => secret());
    const message = (content: string) => ({ message_id, sender_id: "shop", content });
    await publish(c, "message.new", message(texts[0]!), "'k1'");
    await publish(c, "message.new", message(texts[1]!), "'k1'");
    await publish(c, "message.edited", { message_id, content: texts[2] }, "'k2'");
    await publish(c, "message.edited", { message_id, content: texts[3] }, "'k2'");
    await emptied();
    await anna!.next("message.edited");
    expect(await found(stored, texts)).toEqual([texts[1]!, texts[2]!, texts[3]!]);
    await publish(c, "message.deleted", { message_id });
    await publish(c, "message.edited", { message_id, content: texts[4] });
    await emptied();
    await anna!.next("message.deleted");
    const refused = await shop.request("publish", {
      conversation_id: c,
      type: "message.edited",
      payload: { message_id, content: texts[5] },
    });
    expect(refused.payload.code).toBe("conflict");
    expect(await found(stored, texts)).toEqual([]);
    expect(
      await stored.run(
        `SELECT payload, reason FROM ws.outbox_rejected WHERE topic = 'conversation:${c}' ORDER BY created_at`,
      ),
    ).toEqual([
      { payload: { message_id }, reason: expect.stringContaining("event_key") },
      { payload: { message_id }, reason: expect.stringContaining("event_key") },
      { payload: { message_id }, reason: "payload.message_id: This message is deleted." },
    ]);
    expect(
      await stored.run(`SELECT 1 FROM ws.idempotency_keys WHERE topic = 'conversation:${c}' AND digest IS NOT NULL`),
    ).toEqual([]);
  });

  test("[MSG2] [MSG3] [PUB2] the outbox changes messages in the order in which it was written, once, and says what it cannot", async () => {
    const c = fresh("c");
    const [anna] = await gather(c, [fresh("anna")]);
    const message_id = fresh("order");
    const reaction = { message_id, user_id: "bot", reaction: "👍", added: true };
    // One transaction: the message and what is done to it.
    await stored.run(`SELECT ws.publish('conversation:${c}', type, payload::jsonb) FROM (VALUES
      ('message.new', '${JSON.stringify({ message_id, sender_id: "shop", content: "one" })}'),
      ('message.edited', '${JSON.stringify({ message_id, content: "two" })}'),
      ('message.reaction', '${JSON.stringify(reaction)}'),
      ('message.edited', '${JSON.stringify({ message_id: "unknown", content: "three" })}'),
      ('message.edited', '${JSON.stringify({ message_id, content: "two" })}')) AS it (type, payload)`);
    await emptied();
    await anna!.next("message.reaction");
    const { events } = await anna!.ask("history", { topic: `conversation:${c}` });
    expect(events.map(({ seq, type }: { seq: number; type: string }) => [seq, type])).toEqual([
      [1, "message.new"],
      [2, "message.edited"],
      [3, "message.reaction"],
    ]);
    expect(events[0].payload).toMatchObject({ content: "two", reactions: [{ reaction: "👍", user_ids: ["bot"] }] });
    const [rejected] = await stored.run(
      `SELECT payload, reason FROM ws.outbox_rejected WHERE topic = 'conversation:${c}'`,
    );
    expect(rejected).toMatchObject({
      reason: expect.stringContaining("no such message"),
      payload: { content: "three" },
    });
  });
});
