/** Proves that what one connection sends without waiting takes effect and is answered in its order, on both engines, whatever happens meanwhile. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client, type Received } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type Service, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

type Sent = [type: string, payload: object];
const message = (conversation_id: string, client_message_id: string, content = "hello"): Sent => [
  "message.send",
  { conversation_id, client_message_id, content },
];
const counted = (conversation_id: string, n: number, more: object = {}): Sent => [
  "publish",
  { conversation_id, type: "counted", payload: { n }, ...more },
];

/** Sends all of them without waiting. @returns their replies, which have come in their order */
async function pipeline(client: Client, requests: Sent[]): Promise<Received[]> {
  const ids = requests.map(([type, payload]) => client.send(type, payload));
  await client.find(({ reply_to }) => reply_to === ids.at(-1));
  const replies = client.received.filter(({ reply_to }) => reply_to !== undefined && ids.includes(reply_to));
  expect(replies.map(({ reply_to }) => reply_to)).toEqual(ids);
  return replies;
}
const said = ({ type, payload }: Received) => (type === "error" ? payload.code : type);
const numbersIn = (events: Received[]) =>
  events.filter(({ type }) => type === "counted").map(({ payload }) => payload.n);
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

let postgres: PostgresServer;
let postgresUrl: string;
beforeAll(async () => {
  postgres = await startPostgres();
  postgresUrl = await postgres.newDatabase();
  await migrateStorage({ url: postgresUrl, lockTimeoutMs: 10_000 });
});
afterAll(() => postgres.stop());

for (const engine of ["SQLite", "PostgreSQL"]) {
  describe(engine, () => {
    let service: Service;
    let folder: string;
    /** A node on the log of that name, which on PostgreSQL is one for all: a file is opened by one at a time. */
    const start = (name: string, settings: Record<string, string> = {}) =>
      startService({
        settings: {
          ...settings,
          STORAGE__URL: engine === "SQLite" ? `sqlite:${join(folder, name)}` : postgresUrl,
        },
      });
    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), "ws-pipelined-"));
      service = await start("log.db");
    });
    afterAll(async () => {
      await service.stop();
      rmSync(folder, { recursive: true, force: true });
    });
    const { connect, gather, backend } = createPeople(() => service.url);
    const logOf = async (client: Client, conversationId: string) => {
      const events: Received[] = [];
      for (;;) {
        const after_seq = events.at(-1)?.seq ?? 0;
        const page = await client.ask("history", { topic: `conversation:${conversationId}`, after_seq, limit: 200 });
        events.push(...page.events);
        if (!page.has_more) return events;
      }
    };

    test("[ENV7] [LOG2] duplicates, conflicts and what makes no sense are answered in their place, and the rest takes effect in order", async () => {
      const [c, other] = [fresh("c"), fresh("c")];
      const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
      const replies = await pipeline(anna!, [
        message(c, "m1"),
        message(c, "m2"),
        message(c, "m1"),
        message(c, "m2", "something else"),
        message("undefined", "m3"),
        ["message.send", { conversation_id: c, client_message_id: "m3" }],
        message(c, "m3"),
        ["no.such", {}],
        message(other, "m4"),
        message(c, "m5"),
        ["ping", {}],
      ]);
      const codes = "ack ack ack conflict forbidden invalid_payload ack unknown_type ack ack pong";
      expect(replies.map(said)).toEqual(codes.split(" "));
      const acks = replies.filter(({ type }) => type === "ack").map(({ payload }) => payload);
      expect(acks.map(({ seq, duplicate }) => [seq, duplicate])).toEqual([
        [1, false],
        [2, false],
        [1, true],
        [3, false],
        [1, false],
        [4, false],
      ]);
      const positions = acks.filter(({ duplicate }) => !duplicate).map(({ position }) => position);
      expect(positions).toEqual(positions.toSorted((a, b) => a - b));
      await ben!.find(({ seq }) => seq === 4);
      expect(ben!.all("message.new").map(({ payload }) => payload.client_message_id)).toEqual(["m1", "m2", "m3", "m5"]);
    });

    test("[ENV7] one who is not known as a member yet does not come in behind one who is", async () => {
      const [known, ...unknown] = [fresh("c"), fresh("c"), fresh("c"), fresh("c")];
      const anna = await connect(fresh("anna"));
      await pipeline(anna, [message(known!, "first")]);
      const order = unknown.flatMap((c) => [c, known!]);
      const replies = await pipeline(
        anna,
        order.map((c, n) => message(c, `m${n}`)),
      );
      const positions = replies.map(({ payload }) => payload.position);
      expect(replies.map(({ payload }) => payload.topic)).toEqual(order.map((c) => `conversation:${c}`));
      expect(positions).toEqual(positions.toSorted((a, b) => a - b));
    });

    test("[ENV7] [REC1] what is not pipelined sees everything before it, and nothing after it", async () => {
      const c = fresh("c");
      const topics = [`conversation:${c}`];
      const bot = await backend();
      await pipeline(bot, [message(c, "m0")]);
      const { cursor } = (await bot.request("ping")).payload;
      const fromOther = (n: number): Sent => [
        "publish",
        {
          conversation_id: c,
          type: "message.new",
          payload: { sender_id: "carl", client_message_id: `m${n}`, content: `${n}` },
        },
      ];
      const [, , read, , page, , subscribed, , unsubscribed, , again] = await pipeline(bot, [
        fromOther(2),
        fromOther(3),
        ["mark.read", { conversation_id: c, up_to_seq: 3 }],
        fromOther(4),
        ["history", { topic: topics[0], after_seq: 0 }],
        fromOther(5),
        ["subscribe", { topics, since: { cursor } }],
        fromOther(6),
        ["unsubscribe", { topics }],
        fromOther(7),
        ["subscribe", { topics }],
      ]);
      expect(read!.payload).toMatchObject({ up_to_seq: 3, unread: 0 });
      expect(page!.payload.events.map(({ seq }: Received) => seq)).toEqual([1, 2, 3, 4]);
      expect(subscribed!.payload.topics[0]).toMatchObject({ topic: topics[0], seq: 5, replayed: 4 });
      expect(unsubscribed!.payload).toEqual({ topics });
      expect(again!.payload.topics[0]).toMatchObject({ seq: 7, snapshot: { read_seq: 3, unread: 4 } });
    });

    test("[ENV7] [PUB1] what is not logged keeps its place among what is", async () => {
      const c = fresh("c");
      const [ben] = await gather(c, [fresh("ben")]);
      const bot = await backend();
      const count = 60;
      const replies = await pipeline(
        bot,
        numbers(count).map((n) => counted(c, n, n % 4 === 3 ? { logged: false } : {})),
      );
      expect(new Set(replies.map(said))).toEqual(new Set(["ack"]));
      await ben!.next("counted", ({ n }) => n === count - 1);
      expect(numbersIn(ben!.received)).toEqual(numbers(count));
    });

    test("[ENV7] [PUB1] to many users each, far more than may be unanswered at once, everything in order", async () => {
      const users = Array.from({ length: 100 }, () => fresh("u"));
      const [first, bot] = [await connect(users[0]!), await backend()];
      const event = { user_ids: users, type: "counted" };
      const replies = await pipeline(
        bot,
        numbers(30).map((n): Sent => ["publish", { ...event, payload: { n } }]),
      );
      expect(replies.map(({ payload }) => payload.published.map(({ seq }: Received) => seq))).toEqual(
        numbers(30).map((n) => users.map(() => n + 1)),
      );
      await first.next("counted", ({ n }) => n === 29);
      expect(numbersIn(first.received)).toEqual(numbers(30));
    });

    test("[ENV7] a connection that ends in the middle: what was read before takes effect, in order and without a hole", async () => {
      const count = 400;
      const reader = await backend();
      for (const end of ["close", "terminate"] as const) {
        const c = fresh("c");
        const bot = await backend();
        for (const n of numbers(count)) bot.send(...counted(c, n));
        bot.socket[end]();
        await bot.closed;
        if (end === "close")
          await eventually(
            () => logOf(reader, c),
            (events) => events.length === count,
          );
        // Asks once more: by the time that a later request is answered, whatever of the other one has come in is in the log.
        await pipeline(reader, [counted(fresh("c"), 0)]);
        const logged = numbersIn(await logOf(reader, c));
        expect(logged).toEqual(numbers(logged.length));
      }
    });

    test("[ENV7] [DRN] a drain in the middle answers everything that takes effect, in order", async () => {
      const c = fresh("c");
      const ending = await start("drained.db", { SERVER__DRAIN_WINDOW: "1ms" });
      const bot = await createPeople(() => ending.url).backend();
      const ids: string[] = [];
      for (let n = 0; n < 300; n++) ids.push(bot.send(...counted(c, n)));
      await bot.find(({ reply_to }) => reply_to === ids[0]);
      ending.signal("SIGTERM");
      await bot.next("draining");
      for (let n = 300; n < 600 && bot.socket.readyState === WebSocket.OPEN; n++) ids.push(bot.send(...counted(c, n)));
      expect((await bot.closed).code).toBe(1012);
      await ending.exited;
      const acks = bot.all("ack").map(({ reply_to }) => reply_to);
      expect(acks).toEqual(ids.slice(0, acks.length));
      const after = engine === "SQLite" ? await start("drained.db") : service;
      const reader = await Client.connect(after.url, { query: { user_id: "reader", roles: "service" } });
      expect(numbersIn(await logOf(reader, c))).toEqual(numbers(acks.length));
      await reader.close();
      await ending.stop();
      if (after !== service) await after.stop();
    });

    if (engine === "SQLite") return;
    test.skipIf(process.env.TEST_DATABASE_URL !== undefined)(
      "[ENV7] [ENV4] PostgreSQL that goes in the middle: answered in order, and sent again each takes effect once",
      async () => {
        const [c, bot] = [fresh("c"), await backend()];
        const count = 300;
        const requests = numbers(count).map((n) => counted(c, n, { event_key: `k${n}` }));
        const ids = requests.slice(0, 100).map(([type, payload]) => bot.send(type, payload));
        await bot.find(({ reply_to }) => reply_to === ids[0]);
        const halted = postgres.halt();
        for (const [type, payload] of requests.slice(100)) ids.push(bot.send(type, payload));
        const pinged = bot.send("ping");
        await bot.find(({ reply_to }) => reply_to === pinged);
        await halted;
        const replies = bot.received.filter(({ reply_to }) => ids.includes(reply_to!));
        expect(replies.map(({ reply_to }) => reply_to)).toEqual(ids);
        expect(replies.map(said).filter((code) => code !== "ack" && code !== "unavailable")).toEqual([]);
        expect(said(await bot.request(...requests.at(-1)!))).toBe("unavailable");

        await postgres.resume();
        const answered = await eventually(
          () => pipeline(bot, requests),
          (again) => again.every(({ type }) => type === "ack"),
        );
        // A sender that was told that it is durable has said nothing new the second time.
        for (const [n, { type }] of replies.entries())
          if (type === "ack") expect(answered[n]!.payload.published[0].duplicate).toBe(true);
        const { events } = await bot.ask("history", { topic: `conversation:${c}`, limit: 200, after_seq: count - 200 });
        expect(events.at(-1).seq).toBe(count);
      },
    );
  });
}

test("[ENV7] however little may wait for the log, pipelining alone is never refused", async () => {
  const small = await startService({ settings: { WEBSOCKET__BROADCAST_BUFFER: "4" } });
  const people = createPeople(() => small.url);
  const bots = await Promise.all(numbers(3).map(() => people.backend()));
  const replies = await Promise.all(
    bots.map((bot) =>
      pipeline(
        bot,
        numbers(100).map((n) => counted(fresh("c"), n)),
      ),
    ),
  );
  expect(new Set(replies.flat().map(said))).toEqual(new Set(["ack"]));
  for (const bot of bots) await bot.close();
  await small.stop();
});
