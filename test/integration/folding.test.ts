/** Proves that a client that folds as the protocol says ends as the log is, whatever comes beside its snapshots, on both engines [REC3] [MSG2]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Fold } from "../../src/client/conversations/fold.ts";
import type { LoggedEvent } from "../../src/client/conversations/message.ts";
import type { OutboxEntry } from "../../src/client/core.ts";
import { migrateStorage } from "../../src/storage/migrate.ts";
import type { Client } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.stop());

interface Heard {
  userId: string;
  topic: string;
  /** Ids of `mark.read`. */
  reads?: ReadonlySet<string>;
}

/** Goes through all that has come, as a client does that hears it: events, and the answers to `subscribe` and to marks. */
function fold({ received }: Client, { userId, topic, reads }: Heard): Fold {
  const folded = new Fold({ userId });
  for (const message of received) {
    const { type, payload, reply_to } = message;
    if (message.topic === topic) folded.take(message as LoggedEvent);
    if (type === "ack" && payload.unread !== undefined) {
      const mark = reads?.has(reply_to!) ? "mark.read" : "mark.delivered";
      folded.takeOwn({ type: mark, payload } as OutboxEntry, payload);
    }
    if (type !== "subscribed") continue;
    for (const it of payload.topics) if (it.topic === topic) folded.stand(it.snapshot);
  }
  return folded;
}

describe.each(["SQLite", "PostgreSQL"] as const)("on %s", (engine) => {
  let service: Service;
  beforeAll(async () => {
    const url = engine === "SQLite" ? null : await postgres.newDatabase();
    if (url !== null) await migrateStorage({ url, lockTimeoutMs: 5_000 });
    service = await startService({ settings: url === null ? {} : { STORAGE__URL: url } });
  });
  afterAll(() => service.stop());
  const { connect, gather } = createPeople(() => service.url);

  test("[REC3] [MSG2] a snapshot says as of which number it is: what was sent before it and is above comes on top of it", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const [anna, ben] = (await gather(c, [fresh("anna"), fresh("ben")])) as [Client, Client];
    const annaId = (await anna.next("connected")).payload.user_id;
    const witness = await connect(annaId, { device_id: "witness" });
    const reads = new Set<string>();
    for (let round = 0; round < 60; round++) {
      const said = (text: string) =>
        ben.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content: text });
      const { message_id, seq } = await said(`secret ${round}`);
      const type = round % 2 === 0 ? "message.delete" : "message.edit";
      const changed = ben.ask(type, { conversation_id: c, message_id, content: `open ${round}` });
      const asked = [anna.ask("subscribe", { topics: [topic] }), anna.ask("subscribe", { topics: [topic] })];
      if (round % 5 === 0) asked.push(anna.ask("mark.delivered", { conversation_id: c, up_to_seq: round }));
      if (round % 20 === 10) {
        // Reads up to a message that is deleted or edited in this moment, or just past it.
        const id = anna.send("mark.read", { conversation_id: c, up_to_seq: seq + (round % 4) });
        reads.add(id);
        asked.push(anna.find(({ reply_to }) => reply_to === id));
      }
      await Promise.all([changed, ...asked]);
      const told = type === "message.delete" ? "message.deleted" : "message.edited";
      await anna.next(told, (payload) => payload.message_id === message_id);
      const held = fold(anna, { userId: annaId, topic, reads });
      const { topics } = await witness.ask("subscribe", { topics: [topic] });
      const { unread, last_message } = topics[0].snapshot;
      expect([round, held.unread, held.last!.content]).toEqual([round, unread, last_message.payload.content]);
    }
  });

  test("[REC3] who cannot know whether what was deleted is counted asks by a mark that moves nothing", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const [ben] = (await gather(c, [fresh("ben")])) as [Client];
    const sent = [];
    const anna = fresh("anna");
    await (await connect(anna)).ask("subscribe", { topics: [topic] });
    for (const content of ["one", "two", "three"])
      sent.push(await ben.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content }));
    const page = await connect(anna);
    await page.ask("subscribe", { topics: [topic] });
    expect(fold(page, { userId: anna, topic }).unread).toBe(3);
    await ben.ask("message.delete", { conversation_id: c, message_id: sent[1]!.message_id });
    await page.next("message.deleted");
    expect(fold(page, { userId: anna, topic }).unread).toBeNull();
    const asked = await page.ask("mark.delivered", { conversation_id: c, up_to_seq: 0 });
    expect(asked).toMatchObject({ unread: 2, as_of_seq: 4 });
    expect(fold(page, { userId: anna, topic }).unread).toBe(2);
  });
});
