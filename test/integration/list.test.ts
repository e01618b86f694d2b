/** Proves that a list of conversations is drawn from one request, in both formats and on both engines [REC3] [LOG8]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { pages } from "../../src/ground/pages.ts";
import { subprotocols } from "../../src/protocol/limits.ts";
import { serverPayloads } from "../../src/protocol/server.ts";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { lastMessageBytesMax } from "../../src/storage/overview-store.ts";
import { lookedAtMax, type Storage } from "../../src/storage/ports.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import type { Client } from "../support/client.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.stop());

const userOf = async (client: Client): Promise<string> => (await client.next("connected")).payload.user_id;

/** Stores what is there before the service starts, for it takes long to send: a conversation with rare events, and many with large ones. */
async function fill(storage: Storage): Promise<void> {
  await storage.start();
  const append = async (type: string, count: number) => {
    for (const page of pages(newEvents("conversation:rare", count, { type, payload: "{}" }), 1_000))
      await storage.log.append(page);
  };
  await append("rare", 2);
  await append("usual", usualBefore);
  await append("rare", 1);
  await append("usual", usualAfter);
  await append("other.rare", 1);
  await append("usual", 10);
  await storage.directory.addMemberships("heavy", largeIds);
  const payload = JSON.stringify({ content: "x".repeat(largeLength) });
  for (const page of pages(largeIds, 20))
    await storage.log.append(page.map((id) => newEvent(`conversation:${id}`, { senderId: "ben", payload })));
  await storage.stop();
}

const [usualBefore, usualAfter] = [2 * lookedAtMax + 500, lookedAtMax + 100];
const largeIds = Array.from({ length: 400 }, (_, index) => `large${index}`);
const largeLength = 60_000;

describe.each(["SQLite", "PostgreSQL"] as const)("on %s", (engine) => {
  let service: Service;
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "ws-list-"));
    const path = join(folder, "list.db");
    const url = engine === "SQLite" ? `sqlite:${path}` : await postgres.newDatabase();
    await migrateStorage({ url, lockTimeoutMs: 5_000 });
    await fill(engine === "SQLite" ? createSqliteStorage({ path }) : createPostgresStorage({ url }));
    service = await startService({ settings: { MESSAGES__RECEIPTS_MAX_MEMBERS: "4", STORAGE__URL: url } });
  });
  afterAll(async () => {
    await service.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const { connect, gather } = createPeople(() => service.url);

  /** Asks what the client is told of one conversation; it is checked as a whole against the protocol. */
  async function shownTo(client: Client, conversationId: string) {
    const name = `conversation:${conversationId}`;
    await client.ask("unsubscribe", { topics: [name] });
    const answer = await client.ask("subscribe", { topics: [name] });
    expect(v.safeParse(serverPayloads.subscribed, answer).issues).toBeUndefined();
    return answer.topics[0].snapshot;
  }
  const lastIn = async (client: Client, conversationId: string) => {
    const query = { topic: `conversation:${conversationId}`, types: ["message.new"], limit: 1 };
    return (await client.ask("history", query)).events[0];
  };

  test.each(["json", "protobuf"] as const)(
    "[REC3] %s: one subscribe has the last message as history shows it, and how far everybody is",
    async (format) => {
      const [empty, talk] = [fresh("c"), fresh("c")];
      const [anna, ben, carl] = (await gather(talk, [fresh("anna"), fresh("ben"), fresh("carl")])) as Client[];
      await anna!.ask("subscribe", { topics: [`conversation:${empty}`] });
      await sendAll(anna!, talk, ["one", "two"]);
      const content = { text: "très \u2028 drôle\u0000", list: [1, null, { deep: true }] };
      await anna!.ask("message.send", { conversation_id: talk, client_message_id: fresh("m"), content });
      await ben!.ask("mark.read", { conversation_id: talk, up_to_seq: 2 });
      await anna!.next("message.read");
      await carl!.ask("mark.delivered", { conversation_id: talk, up_to_seq: 3 });
      await anna!.next("message.delivered");
      await carl!.ask("mark.read", { conversation_id: talk, up_to_seq: 3, private: true });
      const [benId, carlId] = [await userOf(ben!), await userOf(carl!)];
      const device = await connect(await userOf(anna!), {}, { protocols: [subprotocols[format]] });
      const answer = await device.ask("subscribe", { topics: ["conversation"] });
      expect(v.safeParse(serverPayloads.subscribed, answer).issues).toBeUndefined();
      const snapshots = new Map(answer.topics.map((it: any) => [it.topic, it.snapshot]));
      const last = await lastIn(device, talk);
      expect(last).toMatchObject({ seq: 3, type: "message.new", payload: { content } });
      expect(snapshots).toEqual(
        new Map([
          [
            `conversation:${empty}`,
            { as_of_seq: 0, read_seq: 0, delivered_seq: 0, unread: 0, last_message: null, receipts: [] },
          ],
          [
            `conversation:${talk}`,
            {
              as_of_seq: 5,
              read_seq: 0,
              delivered_seq: 0,
              unread: 0,
              last_message: last,
              receipts: [
                { user_id: carlId, read_seq: 0, delivered_seq: 3 },
                { user_id: benId, read_seq: 2, delivered_seq: 2 },
              ],
            },
          ],
        ]),
      );
      expect(await shownTo(carl!, talk)).toMatchObject({ read_seq: 3, delivered_seq: 3, unread: 0 });
    },
  );

  test("[REC3] who joins later has read what was there, sees the last message of it, and gets it unasked as well", async () => {
    const c = fresh("c");
    const [anna] = await gather(c, [fresh("anna")]);
    await sendAll(anna!, c, ["one", "two"]);
    const late = await connect(fresh("late"));
    await late.ask("subscribe", { topics: ["conversation"] });
    const admin = await connect(fresh("admin"), { roles: "admin" });
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: [await userOf(late)] });
    const told = await late.next(
      "subscribed",
      ({ topics }, { reply_to }) => reply_to === undefined && topics[0]?.topic === `conversation:${c}`,
    );
    const last_message = await lastIn(late, c);
    const snapshot = { as_of_seq: 2, read_seq: 2, delivered_seq: 2, unread: 0, last_message, receipts: [] };
    expect(told.payload.topics).toEqual([{ topic: `conversation:${c}`, seq: 2, snapshot }]);
    await sendAll(anna!, c, ["three"]);
    expect(await late.ask("mark.delivered", { conversation_id: c, up_to_seq: 3 })).toEqual({
      up_to_seq: 3,
      unread: 1,
      as_of_seq: 3,
    });
  });

  test("[REC3] a message that is too large for a list is left out, and history has it", async () => {
    const c = fresh("c");
    const [anna, ben] = (await gather(c, [fresh("anna"), fresh("ben")])) as [Client, Client];
    await sendAll(anna, c, ["x".repeat(lastMessageBytesMax)]);
    expect(await shownTo(ben, c)).toEqual({ as_of_seq: 1, read_seq: 0, delivered_seq: 0, unread: 1, receipts: [] });
    expect((await lastIn(ben, c)).payload.content).toHaveLength(lastMessageBytesMax);
    await sendAll(anna, c, ["short"]);
    expect((await shownTo(ben, c)).last_message.payload.content).toBe("short");
  });

  test("[REC3] above the most members nobody else is told of receipts, which go on counting for oneself", async () => {
    const c = fresh("c");
    const users = Array.from({ length: 5 }, () => fresh("user"));
    const [anna, ben, carl] = (await gather(c, users)) as [Client, Client, Client];
    await sendAll(anna, c, ["one", "two", "three"]);
    const laptop = await connect(users[1]!);
    expect(await ben.ask("mark.delivered", { conversation_id: c, up_to_seq: 1 })).toEqual({
      up_to_seq: 1,
      unread: 3,
      as_of_seq: 3,
    });
    expect(await ben.ask("mark.read", { conversation_id: c, up_to_seq: 2 })).toEqual({
      up_to_seq: 2,
      unread: 1,
      as_of_seq: 3,
    });
    // One's other devices hear of it as of a private read.
    const { topic, payload } = await laptop.next("message.read");
    expect([topic, payload.private, payload.up_to_seq]).toEqual([`user:${users[1]}`, true, 2]);
    const { last_message, ...rest } = await shownTo(carl, c);
    expect([last_message.seq, rest]).toEqual([3, { as_of_seq: 3, read_seq: 0, delivered_seq: 0, unread: 3 }]);
    expect(await shownTo(ben, c)).toMatchObject({ read_seq: 2, delivered_seq: 2, unread: 1 });
    // With one less everybody is told again, of what is newly read.
    const admin = await connect(fresh("admin"), { roles: "admin" });
    await admin.ask("admin.members.remove", { conversation_id: c, user_ids: [users[4]] });
    await ben.ask("mark.read", { conversation_id: c, up_to_seq: 3 });
    const told = await carl.next("message.read");
    expect(told.payload).toMatchObject({ user_id: users[1], up_to_seq: 3 });
    expect(told.payload.message_ids).toHaveLength(1);
    expect((await shownTo(carl, c)).receipts).toEqual([{ user_id: users[1], read_seq: 3, delivered_seq: 3 }]);
    for (const other of [anna, carl]) expect(other.all("message.delivered")).toEqual([]);
    expect(anna.all("message.read")).toHaveLength(1);
  });

  test("[REC2] [REC3] a receipt names the newest 50 messages, and covers all", async () => {
    const c = fresh("c");
    const [anna, ben] = (await gather(c, [fresh("anna"), fresh("ben")])) as [Client, Client];
    const acks = await sendAll(anna, c, Array(60).fill("hello"));
    await ben.ask("mark.read", { conversation_id: c, up_to_seq: 60 });
    const { payload } = await anna.next("message.read");
    expect(payload.up_to_seq).toBe(60);
    expect(payload.message_ids).toEqual(acks.slice(10).map(({ message_id }) => message_id));
  });

  test("[LOG8] history of a rare type, in both directions, is never empty while there is more", async () => {
    const topic = "conversation:rare";
    const [anna] = (await gather("rare", [fresh("anna")])) as [Client];
    const read = async (types: string[], limit: number, next: (seqs: number[]) => object) => {
      const seqs: number[] = [];
      const pages: number[] = [];
      for (let more = true; more; ) {
        const page = await anna.ask("history", { topic, types, limit, ...next(seqs) });
        pages.push(page.events.length);
        if (page.has_more) expect(page.events.length).toBeGreaterThan(0);
        expect(page.events.every(({ type }: { type: string }) => types.includes(type))).toBe(true);
        seqs.push(...page.events.map(({ seq }: { seq: number }) => seq));
        seqs.sort((one, other) => one - other);
        more = page.has_more;
      }
      return { seqs, pages };
    };
    const forth = (seqs: number[]) => ({ after_seq: seqs.at(-1) ?? 0 });
    const back = (seqs: number[]) => (seqs.length === 0 ? {} : { before_seq: seqs[0] });
    const [third, last] = [3 + usualBefore, 4 + usualBefore + usualAfter];
    for (const next of [forth, back]) {
      expect(await read(["rare"], 1, next)).toEqual({ seqs: [1, 2, third], pages: [1, 1, 1] });
      expect(await read(["rare", "other.rare"], 3, next)).toEqual({ seqs: [1, 2, third, last], pages: [3, 1] });
      expect(await read(["rare"], 50, next)).toEqual({ seqs: [1, 2, third], pages: [3] });
      expect(await read(["never"], 50, next)).toEqual({ seqs: [], pages: [0] });
    }
    const all = await read(["usual"], 200, back);
    expect(all.seqs).toHaveLength(usualBefore + usualAfter + 10);
    expect(new Set(all.pages.slice(0, -1))).toEqual(new Set([200]));
  });

  test("[LOG8] types that are no types are refused, and the field is named", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const [anna] = (await gather(c, [fresh("anna")])) as [Client];
    const refused = async (types: unknown) => {
      // A connection of its own: ten such messages end one.
      const client = await connect(await userOf(anna), { device_id: "other" });
      const { payload } = await client.request("history", { topic, types });
      return [payload.code, payload.field];
    };
    for (const types of ["message.new", [], {}, null, 5, Array(21).fill("a"), "x".repeat(60_000)])
      expect(await refused(types)).toEqual(["invalid_payload", "payload.types"]);
    for (const type of ["", "A", "message.new ", "é", "a".repeat(65), 7, null, {}, "'; DROP TABLE ws.events; --"]) {
      expect(await refused(["message.new", type])).toEqual(["invalid_payload", "payload.types.1"]);
    }
    expect((await anna.ask("history", { topic, types: Array(20).fill("message.new") })).events).toEqual([]);
    const elsewhere = await anna.request("history", { topic: "user:somebody", types: ["message.new"] });
    expect(elsewhere.payload.code).toBe("forbidden");
  });

  test("[CON7] [REC3] of thousands of large last messages as many come as a client can take, and all places", async () => {
    for (const [format, most] of [
      ["json", 8],
      ["protobuf", 2],
    ] as const) {
      const device = await connect("heavy", { device_id: format }, { protocols: [subprotocols[format]] });
      const { topics } = await device.ask("subscribe", { topics: ["conversation"] });
      expect(topics).toHaveLength(400);
      expect(topics.every(({ snapshot }: any) => snapshot.unread === 1)).toBe(true);
      const shown = topics.filter(({ snapshot }: any) => snapshot.last_message !== undefined);
      expect(shown.length).toBeGreaterThan(10 * most);
      expect(shown.length * largeLength).toBeLessThan(most * 1024 * 1024);
      await device.settled();
    }
  });
});
