/** Proves on the real service that what goes through the client's outbox is there once, in order, through limits, broken lines and reloads [LOG2] [LIM]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { DurableOutbox } from "../../src/client/connection/outbox.ts";
import type { OutboxType, Store } from "../../src/client/core.ts";
import { ClientError, ServerError } from "../../src/client/errors.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";
import type { Client } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  const settings = {
    RATE_LIMITS__ENABLED: "true",
    RATE_LIMITS__DEFAULT__PER_MINUTE: "1200",
    RATE_LIMITS__DEFAULT__BURST: "10",
  };
  service = await startService({ settings });
});
afterAll(() => service?.stop());
const people = createPeople(() => service.url);

const clock = {
  now: () => Date.now(),
  after: (delayMs: number, run: () => void) => {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};

/** An outbox on a line of its own, which a test may take from it. */
function outboxOf({ store }: { store: Store }) {
  let line: Client | null = null;
  let refused = 0;
  let isDeaf = false;
  const answered = Promise.withResolvers<void>();
  const acks: any[] = [];
  let heard = () => {};
  const outbox = new DurableOutbox({
    store,
    clock,
    random: Math.random,
    async send(type: OutboxType, payload: object) {
      const reply = await line!.request(type, payload).catch((error) => {
        throw new ClientError("connection_lost", { message: String(error) });
      });
      answered.resolve();
      if (isDeaf) throw new ClientError("timeout");
      if (reply.type === "ack") return reply.payload;
      refused++;
      throw new ServerError(reply.payload);
    },
    onSent: (entry, ack) => {
      acks.push({ id: entry.id, ...ack });
      heard();
    },
    onError: (error) => expect(error).toBeNull(),
  });
  outbox.onChange(() => heard());
  return {
    outbox,
    acks,
    refused: () => refused,
    connect(client: Client) {
      line = client;
      outbox.resume();
    },
    /** Hears nothing of what is answered from now on. */
    deafen: () => (isDeaf = true),
    async break() {
      outbox.suspend();
      await line!.close(4000);
    },
    async untilEmpty() {
      while (outbox.entries.some(({ state }) => state === "pending")) await new Promise<void>((go) => (heard = go));
    },
    untilAnswered: () => answered.promise,
  };
}

const eventsOf = async (client: Client, conversationId: string) => {
  const { events } = await client.ask("history", { topic: `conversation:${conversationId}`, limit: 200 });
  return events as any[];
};
const contentsOf = (events: any[]) =>
  events.filter(({ type }) => type === "message.new").map((it) => it.payload.content);

test("[LOG2] [LIM] 80 messages in four conversations against a limit of 10 at once: all there, once, in order, and the line is never closed", async () => {
  const userId = fresh("anna");
  const conversations = ["a", "b", "c", "d"].map(fresh);
  const { outbox, connect, untilEmpty, refused } = outboxOf({ store: new MemoryStore() });
  const client = await people.connect(userId);
  const sent = new Map<string, string[]>(conversations.map((id) => [id, []]));
  for (let n = 0; n < 80; n++) {
    const conversation_id = conversations[n % 4]!;
    sent.get(conversation_id)!.push(`${n}`);
    await outbox.add("message.send", { conversation_id, client_message_id: fresh("m"), content: `${n}` });
  }
  connect(client);
  await untilEmpty();
  expect(outbox.entries).toEqual([]);
  expect(refused()).toBeGreaterThan(0);
  for (const id of conversations) expect(contentsOf(await eventsOf(client, id))).toEqual(sent.get(id)!);
});

test("[LOG2] [MSG2] [MSG3] the server has it, the line breaks before it is heard, the page is reloaded: it goes again and is there once", async () => {
  const userId = fresh("anna");
  const conversation_id = fresh("c");
  const reader = await people.connect(userId);
  const send = { conversation_id, client_message_id: fresh("m"), content: "first" };
  const { message_id } = await reader.ask("message.send", send);
  const of = { conversation_id, message_id };
  const attempts: [OutboxType, any][] = [
    ["message.send", { conversation_id, client_message_id: fresh("m"), content: "second" }],
    ["message.edit", { ...of, content: "edited" }],
    ["reaction.add", { ...of, reaction: "+1" }],
    ["reaction.remove", { ...of, reaction: "+1" }],
    ["message.delete", of],
  ];
  for (const [type, payload] of attempts) {
    const store = new MemoryStore();
    const before = outboxOf({ store });
    before.deafen();
    await before.outbox.add(type, payload);
    before.connect(await people.connect(userId));
    await before.untilAnswered();
    await before.break();
    const events = await eventsOf(reader, conversation_id);

    const after = outboxOf({ store });
    await after.outbox.load();
    expect(after.outbox.entries).toMatchObject([{ type, payload, state: "pending" }]);
    after.connect(await people.connect(userId));
    await after.untilEmpty();
    expect(after.acks).toMatchObject([{ duplicate: true }]);
    expect(await eventsOf(reader, conversation_id)).toEqual(events);
    expect(await store.read("")).toEqual([]);
  }
});
