/** Proves that erasing a user leaves nothing but what the page for operators says, on both engines, whatever happens meanwhile [BAK4]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type Service, startService } from "../support/service.ts";
import { type Stored, storedInPostgres, storedInSqlite } from "../support/stored.ts";
import { tracesOf } from "../support/traces.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

const settings = {
  WEBSOCKET__CLEANUP_INTERVAL: "100ms",
  PRESENCE__OFFLINE_GRACE: "0s",
  PUSH__AFTER: "50ms",
  STORAGE__QUERY_TIMEOUT: "1s",
  CALLS__ALLOWED_BETWEEN: "everyone",
  CALLS__RING_TIMEOUT: "100ms",
  EVENTS: "poll.vote=logged",
};
const topicOf = (conversation: string) => `conversation:${conversation}`;
/** All that is stored, once nothing of it is secret: SQLite cleans its file soon after. */
const withoutSecrets = (stored: Stored) =>
  eventually(
    () => stored.copy(),
    (copy) => !copy.includes("secret"),
  );
const historyOf = async (client: Client, conversation: string): Promise<any[]> =>
  (await client.ask("history", { topic: topicOf(conversation), limit: 200 })).events;

for (const engine of ["SQLite", "PostgreSQL"] as const) {
  describe(engine, () => {
    let stored: Stored;
    let service: Service;
    beforeAll(async () => {
      stored = engine === "SQLite" ? storedInSqlite() : await storedInPostgres(server);
      service = await startService({ settings: { ...settings, STORAGE__URL: stored.url } });
    });
    afterAll(async () => {
      await service?.stop();
      await stored?.close();
    });
    const { connect, gather, backend } = createPeople(() => service.url);
    const operator = () => connect(fresh("root"), { roles: "admin" });
    const finished = (admin: Client, user_id: string) =>
      eventually(
        () => admin.ask("admin.users.erasure", { user_id }),
        ({ state }) => state === "finished",
      );

    test("[BAK4] [MSG2] [MSG3] everything of a user goes, but for what is documented to stay, and others see deleted messages", async () => {
      const [zoe, ben, c, root] = ["zoe@example.com:7", fresh("ben"), fresh("c"), await operator()];
      const push = await backend();
      await push.ask("subscribe", { topics: ["missed"] });
      await root.ask("admin.users.upsert", { user_ids: [zoe, ben] });
      await root.ask("admin.members.add", { conversation_id: c, user_ids: [zoe, ben] });
      await push.ask("publish", {
        topic: `user:${zoe}`,
        type: "profile.changed",
        payload: { secret: 1 },
        event_key: "k1",
      });
      await push.ask("publish", { user_ids: [zoe], type: "notification", payload: { title: "secret" } });
      await push.next("delivery.missed", ({ user_ids }) => user_ids.includes(zoe));
      const [hers, his] = (await gather(c, [zoe, ben])) as [Client, Client];
      const sent = await sendAll(hers, c, ["secret one", "secret two", "secret three"]);
      const [of_ben] = await sendAll(his, c, ["kept, though it names zoe"]);
      const of = (ack: any) => ({ conversation_id: c, message_id: ack.message_id });
      await hers.ask("message.edit", { ...of(sent[0]), content: "secret four" });
      await hers.ask("message.delete", of(sent[2]));
      for (const reaction of ["👍", "🔒secret"]) await hers.ask("reaction.add", { ...of(of_ben), reaction });
      await his.ask("reaction.add", { ...of(of_ben), reaction: "👍" });
      await his.ask("reaction.add", { ...of(sent[1]), reaction: "👀" });
      await hers.ask("mark.read", { conversation_id: c, up_to_seq: 4 });
      await his.next("message.read", ({ user_id }) => user_id === zoe);
      await hers.ask("presence.update", { status: "busy", text: "secret status" });
      const vote = { conversation_id: c, type: "poll.vote", payload: { choice: "secret" }, client_event_id: "v1" };
      await hers.ask("event.send", vote);
      const away = fresh("away");
      await root.ask("admin.users.upsert", { user_ids: [away] });
      const call = { call_id: Bun.randomUUIDv7(), to_user_id: away, media: "audio", sdp: "v=0" };
      await hers.ask("call.offer", call);
      await push.next("call.unreached", ({ from_user_id }) => from_user_id === zoe);
      await push.next("delivery.missed", ({ type, user_ids }) => type === "call.ended" && user_ids[0] === away);
      await hers.ask("ping");
      await hers.ask("ack", { cursor: hers.all("pong").at(-1)!.payload.cursor });
      await his.close();
      await sendAll(hers, c, ["secret five"]);
      await push.next("delivery.missed", ({ sender_id }) => sender_id === zoe);
      const back = await connect(ben);
      await back.ask("subscribe", { topics: [topicOf(c)] });

      expect(await root.ask("admin.users.erase", { user_id: zoe })).toEqual({});
      expect((await hers.closed).code).toBe(4011);
      await expect(connect(zoe)).rejects.toThrow();
      await back.find(() => back.all("message.deleted").length === 3);
      const told = back.all("message.deleted");
      expect(new Set(told.map(({ payload }) => payload.message_id)).size).toBe(3);
      expect(told[0]!.payload.deleted_by).toBe((await root.next("connected")).payload.user_id);
      expect(await finished(root, zoe)).toMatchObject({
        user_id: zoe,
        messages: 3,
        percent: 100,
        finished_at: expect.any(String),
      });

      const events = await historyOf(back, c);
      const messages = events.filter(({ type }) => type === "message.new").map(({ payload }) => payload);
      expect(messages.map(({ content }) => content)).toEqual([null, null, null, "kept, though it names zoe", null]);
      expect(messages[3].reactions).toEqual([{ reaction: "👍", count: 1, user_ids: [ben] }]);
      expect(events.some(({ type }) => type === "message.read" || type === "message.edited")).toBe(false);
      const place = (await back.ask("subscribe", { topics: [topicOf(c)] })).topics[0];
      expect(place.snapshot).toMatchObject({ unread: 0 });
      expect((await sendAll(back, c, ["goes on"]))[0].seq).toBeGreaterThan(events.at(-1).seq);

      // That the user has deleted one before is told as it was.
      const traces = { "events.payload": ["message.deleted", "message.new"], "topics.name": [null] };
      const copy = await withoutSecrets(stored);
      expect(await tracesOf(stored, engine, zoe)).toEqual(traces);
      // As a whole it stands nowhere else either: not in an index, nor in a page that was in use before.
      const befores = [...copy.toString("latin1").matchAll(/zoe@example\.com:7/g)].map(({ index }) =>
        copy.toString("latin1", Math.max(0, index - 14), index),
      );
      expect(befores.filter((it) => !/(sender_id":"|deleted_by":"|user:|notifications:)$/.test(it))).toEqual([]);
    });

    test("[BAK4] [MSG2] [MSG3] what is left of messages that are gone goes as well: the last edit of one, and reactions to another", async () => {
      const [zoe, ben, c, root] = [fresh("zoe"), fresh("ben"), fresh("c"), await operator()];
      const [hers, his] = (await gather(c, [zoe, ben])) as [Client, Client];
      const of = (ack: any) => ({ conversation_id: c, message_id: ack.message_id });
      const [sent] = await sendAll(hers, c, ["one"]);
      await hers.ask("message.edit", { ...of(sent), content: "secret edit" });
      // As retention does, which looks at the age of each.
      await stored.run(`DELETE FROM ws.events WHERE id = '${sent.message_id}'`);
      const [of_ben] = await sendAll(his, c, ["two"]);
      await hers.ask("reaction.add", { ...of(of_ben), reaction: "🔒secret" });
      await his.ask("message.delete", of(of_ben));

      await root.ask("admin.users.erase", { user_id: zoe });
      await finished(root, zoe);
      expect(
        (await his.next("message.deleted", ({ message_id }) => message_id === sent.message_id)).payload,
      ).toMatchObject({
        deleted_by: (await root.next("connected")).payload.user_id,
      });
      await withoutSecrets(stored);
      expect((await tracesOf(stored, engine, zoe))["events.payload"]).toBeUndefined();
    });

    test("[BAK4] erasing twice is one erasure, who is not known is erased as well, and who comes again begins anew", async () => {
      const [zoe, nobody, c, root] = [fresh("zoe"), fresh("nobody"), fresh("c"), await operator()];
      const none = { state: "none", messages: 0, percent: 0, requested_at: null, started_at: null, finished_at: null };
      for (const user_id of [zoe, nobody])
        expect(await root.ask("admin.users.erasure", { user_id })).toEqual({ user_id, ...none });
      const hers = await connect(zoe);
      await sendAll(hers, c, ["one", "two"]);
      await Promise.all([1, 2, 3].map(() => root.ask("admin.users.erase", { user_id: zoe })));
      const running = await root.ask("admin.users.erasure", { user_id: zoe });
      expect(running).toMatchObject({ state: "running", finished_at: null });
      await root.ask("admin.users.erase", { user_id: zoe });
      await root.ask("admin.users.erase", { user_id: nobody });
      const first = await finished(root, zoe);
      expect(first).toMatchObject({ messages: 2, requested_at: running.requested_at });
      expect(await finished(root, nobody)).toMatchObject({ messages: 0, percent: 100 });
      const again = await connect(zoe);
      const { topics } = await again.ask("subscribe", { topics: [topicOf(c)], since: "acked" });
      expect(topics[0].snapshot).toMatchObject({ read_seq: 4, unread: 0 });
      await sendAll(again, c, ["three"]);
      await root.ask("admin.users.erase", { user_id: zoe });
      expect((await again.closed).code).toBe(4011);
      expect(await finished(root, zoe)).toMatchObject({ messages: 1 });
      const other = await connect(fresh("ben"));
      const contents = (await historyOf(other, c))
        .filter(({ type }) => type === "message.new")
        .map(({ payload }) => payload.content);
      expect(contents).toEqual([null, null, null]);
      expect((await stored.run("SELECT * FROM ws.erasures WHERE user_id IS NOT NULL")).length).toBe(0);
    });

    test("[BAK4] [PUB3] who is being erased is not added meanwhile: conflict, not an ack of what goes again; SQL is refused as well", async () => {
      const [zoe, ben, c, root] = [fresh("zoe"), fresh("ben"), fresh("c"), await operator()];
      await root.ask("admin.users.erase", { user_id: zoe });
      const user_ids = [ben, zoe];
      const refusals = [
        ["user_ids", await root.request("admin.users.upsert", { user_ids })],
        ["user_ids", await root.request("admin.members.add", { conversation_id: c, user_ids })],
      ] as const;
      for (const [field, { type, payload }] of refusals) {
        expect(type).toBe("error");
        expect(payload).toMatchObject({ code: "conflict", field: `payload.${field}` });
      }
      const add = `INSERT INTO ws.members (conversation_id, user_id) VALUES ('${c}', '${zoe}')`;
      expect(String(await stored.run(add).catch((error) => error))).toContain("is being erased");
      await root.ask("admin.users.upsert", { user_ids: [ben] });
      await finished(root, zoe);
      await root.ask("admin.members.add", { conversation_id: c, user_ids });
      expect(await stored.run(`SELECT user_id FROM ws.members WHERE conversation_id = '${c}'`)).toHaveLength(2);
    });

    test("[BAK4] [CALL5] a call with somebody who is erased ends at once for the other one", async () => {
      const [zoe, root, ben] = [fresh("zoe"), await operator(), await connect(fresh("ben"))];
      const hers = await connect(zoe);
      const call_id = Bun.randomUUIDv7();
      await ben.ask("call.offer", { call_id, to_user_id: zoe, media: "audio", sdp: "v=0" });
      await hers.ask("call.answer", { call_id, sdp: "v=0" });
      await root.ask("admin.users.erase", { user_id: zoe });
      expect((await ben.next("call.ended")).payload).toMatchObject({ call_id, reason: "connection_lost" });
    });

    test("[BAK4] what the user sends while it is erased goes as well, or is not taken", async () => {
      const [zoe, c, root] = [fresh("zoe"), fresh("c"), await operator()];
      const [hers, other] = [await connect(zoe), await connect(zoe)];
      for (const client of [hers, other]) {
        for (let at = 0; at < 300; at++)
          client.send("message.send", { conversation_id: c, client_message_id: fresh("m"), content: "secret" });
      }
      await hers.next("ack");
      await root.ask("admin.users.erase", { user_id: zoe });
      await Promise.all([hers.closed, other.closed]);
      const { messages } = await finished(root, zoe);
      const ben = await connect(fresh("ben"));
      let before: number | undefined;
      let seen = 0;
      for (let more = true; more; ) {
        const page = await ben.ask("history", {
          topic: topicOf(c),
          limit: 200,
          ...(before === undefined ? {} : { before_seq: before }),
        });
        const kinds = page.events.filter(({ type }: any) => type === "message.new");
        expect(kinds.every(({ payload }: any) => payload.content === null)).toBe(true);
        seen += kinds.length;
        before = page.events[0]?.seq;
        more = page.has_more;
      }
      expect(seen).toBe(messages);
      expect(seen).toBeGreaterThan(0);
      expect((await stored.run(`SELECT 1 FROM ws.idempotency_keys WHERE key LIKE 'sent:${zoe}:%'`)).length).toBe(0);
    });

    test("[BAK4] [ADM1] only administrators erase, and what is no user is refused with its field", async () => {
      for (const roles of [undefined, "service"]) {
        const client = await connect(fresh("anna"), roles === undefined ? {} : { roles });
        for (const type of ["admin.users.erase", "admin.users.erasure"])
          expect((await client.request(type, { user_id: "ben" })).payload).toMatchObject({ code: "forbidden" });
      }
      for (const user_id of [
        "",
        "two words",
        "x".repeat(129),
        "é",
        "x".repeat(60_000),
        7,
        null,
        true,
        [],
        {},
        undefined,
      ]) {
        for (const type of ["admin.users.erase", "admin.users.erasure"]) {
          const root = await operator();
          expect((await root.request(type, { user_id })).payload).toMatchObject({
            code: "invalid_payload",
            field: "payload.user_id",
          });
        }
      }
    });

    test("[BAK4] killed in the middle, it is gone on with, and each message is deleted once", async () => {
      const [zoe, c, count] = [fresh("zoe"), fresh("c"), 1_500];
      const own = engine === "SQLite" ? storedInSqlite() : await storedInPostgres(server);
      const start = () => startService({ settings: { ...settings, STORAGE__URL: own.url } });
      let node = await start();
      const url = () => node.url;
      const as = (user_id: string, roles = "") =>
        Client.connect(url(), { query: { user_id, ...(roles && { roles }) } });
      const hers = await as(zoe);
      for (let at = 0; at < count; at += 500) await sendAll(hers, c, Array(500).fill("secret"));
      let root = await as("root", "admin");
      await root.ask("admin.users.erase", { user_id: zoe });
      await eventually(
        () => root.ask("admin.users.erasure", { user_id: zoe }),
        ({ messages }) => messages >= 200,
      );
      await node.kill();
      node = await start();
      root = await as("root", "admin");
      expect(await root.ask("admin.users.erasure", { user_id: zoe })).toMatchObject({ state: "running" });
      const { messages } = await finished(root, zoe);
      expect(messages).toBeLessThanOrEqual(count);
      const types = await own.run(
        `SELECT type, sender_id, count(*) AS events FROM ws.events GROUP BY type, sender_id ORDER BY type`,
      );
      expect(types.map(({ type, sender_id, events }) => [type, sender_id, Number(events)])).toEqual([
        ["message.deleted", null, count],
        ["message.new", "", count],
      ]);
      await withoutSecrets(own);
      await node.stop();
      await own.close();
    });
  });
}
