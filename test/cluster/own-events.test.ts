/** Proves what clients send as events of the application's own: to whom it comes, what is kept of it, and who may not [MSG4]. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import { Client } from "../support/client.ts";
import { grounds, standFor } from "../support/grounds.ts";
import { contentsOf, fresh, sendAll } from "../support/people.ts";
import { startService } from "../support/service.ts";

setDefaultTimeout(60_000);

const settings = { DIRECTORY__MODE: "managed", EVENTS: "poll.vote=logged,poll.closed=logged,recording=passing" };

describe.each(grounds)("%s", (_, stand) => {
  const { connect, sql } = standFor(stand, settings);
  const protobuf = { protocols: [subprotocols.protobuf] };

  async function scene() {
    const c = fresh("c");
    const [anna, ben, eve] = [fresh("anna"), fresh("ben"), fresh("eve")];
    await sql(`INSERT INTO {users} (user_id) VALUES ('${anna}'), ('${ben}'), ('${eve}');
      INSERT INTO {members} (conversation_id, user_id) VALUES ('${c}', '${anna}'), ('${c}', '${ben}')`);
    const clients = [
      await connect(anna),
      await connect(anna, {}, protobuf),
      await connect(ben),
      await connect(ben, {}, protobuf),
    ];
    for (const client of clients) await client.ask("subscribe", { topics: [`conversation:${c}`] });
    const [phone, laptop, other, otherLaptop] = clients as [Client, Client, Client, Client];
    return { c, anna, ben, eve, phone, laptop, other, otherLaptop };
  }

  const odd = { text: 'Zoë 🙂 "quoted"', list: [1, "two", [], {}, null, -1.5e-7], yes: true, nested: { "": 0 } };

  test("[MSG4] one that is logged comes to everybody but the connection that sent it, is replayed and stands in history", async () => {
    const { c, anna, ben, phone, laptop, other, otherLaptop } = await scene();
    const since = { cursor: (await other.ask("ping")).cursor };
    const event = { conversation_id: c, type: "poll.vote", payload: odd };
    const acks = [await phone.ask("event.send", event), await laptop.ask("event.send", event)];
    for (const [index, ack] of acks.entries())
      expect(ack).toEqual({
        topic: `conversation:${c}`,
        seq: index + 1,
        position: expect.any(Number),
        created_at: expect.any(String),
        duplicate: false,
      });
    const payload = { conversation_id: c, user_id: anna, data: odd };
    for (const client of [other, otherLaptop]) {
      const votes = [await client.next("poll.vote"), await client.next("poll.vote", (_, { seq }) => seq === 2)];
      expect(votes).toMatchObject([
        { topic: `conversation:${c}`, seq: 1, position: acks[0].position, payload },
        { topic: `conversation:${c}`, seq: 2, payload },
      ]);
    }
    expect((await phone.next("poll.vote")).seq).toBe(2);
    expect((await laptop.next("poll.vote")).seq).toBe(1);
    const history = await other.ask("history", { topic: `conversation:${c}` });
    expect(history.events).toMatchObject([
      { type: "poll.vote", seq: 1, payload },
      { type: "poll.vote", seq: 2, payload },
    ]);
    const back = await connect(ben);
    const { topics } = await back.ask("subscribe", { topics: [`conversation:${c}`], since });
    expect(topics).toMatchObject([{ seq: 2, recovered: true, replayed: 2, snapshot: { unread: 0 } }]);
    expect(back.all("poll.vote").map((it) => it.payload)).toEqual([payload, payload]);
  });

  test("[MSG4] one that is not logged comes to who is there, and nothing is kept", async () => {
    const { c, anna, phone, laptop, other, otherLaptop } = await scene();
    expect(
      await phone.ask("event.send", { conversation_id: c, type: "recording", payload: odd, client_event_id: "r1" }),
    ).toEqual({});
    for (const client of [laptop, other, otherLaptop]) {
      const { payload, topic, seq, position } = await client.next("recording");
      expect(payload).toEqual({ conversation_id: c, user_id: anna, client_event_id: "r1", data: odd });
      expect([topic, seq, position]).toEqual([undefined, undefined, undefined]);
    }
    await phone.settled();
    expect(phone.all("recording")).toEqual([]);
    expect((await other.ask("history", { topic: `conversation:${c}` })).events).toEqual([]);
  });

  test("[MSG4] [LOG2] under one client_event_id it is appended once, whichever connection sends it; something else is conflict", async () => {
    const { c, phone, laptop, other } = await scene();
    const key = fresh("v");
    const vote = { conversation_id: c, type: "poll.vote", payload: { a: 1, b: [2] }, client_event_id: key };
    const { duplicate: _, ...first } = await phone.ask("event.send", vote);
    expect(await phone.ask("event.send", vote)).toEqual({ ...first, duplicate: true });
    expect(await laptop.ask("event.send", { ...vote, payload: { b: [2], a: 1 } })).toEqual({
      ...first,
      duplicate: true,
    });
    for (const change of [{ payload: {} }, { type: "poll.closed" }])
      expect((await laptop.request("event.send", { ...vote, ...change })).payload).toMatchObject({
        code: "conflict",
        field: "payload.client_event_id",
      });
    // Another user's, and a message's, are others.
    expect(await other.ask("event.send", vote)).toMatchObject({ duplicate: false, seq: 2 });
    expect(
      await phone.ask("message.send", { conversation_id: c, client_message_id: key, content: "hello" }),
    ).toMatchObject({ duplicate: false, seq: 3 });
    const without = { ...vote, client_event_id: undefined };
    for (const seq of [4, 5]) expect(await phone.ask("event.send", without)).toMatchObject({ duplicate: false, seq });
    expect((await other.next("poll.vote")).payload.client_event_id).toBe(key);
  });

  test("[MSG4] only members send them, and only types that are configured", async () => {
    const { c, eve, phone, other } = await scene();
    const event = { conversation_id: c, type: "poll.vote", payload: {} };
    const stranger = await connect(eve);
    for (const type of ["poll.vote", "recording"])
      expect((await stranger.request("event.send", { ...event, type })).payload).toMatchObject({
        code: "forbidden",
        field: "payload.conversation_id",
      });
    const ours = ["message.new", "typing.start", "call.incoming", "member.updated", "ack", "publish", "admin.stats"];
    for (const type of [...ours, "poll", "poll.vote2", "constructor", "to_string", "unheard.of"])
      expect((await phone.request("event.send", { ...event, type })).payload).toMatchObject({
        code: "forbidden",
        field: "payload.type",
      });
    await Promise.all([phone.settled(), other.settled()]);
    expect(other.received.filter(({ topic }) => topic === `conversation:${c}`)).toEqual([]);
  });

  test("[MSG4] a role adds nothing: a backend that is no member publishes", async () => {
    const { c, eve, other } = await scene();
    const backend = await connect(eve, { roles: "service" });
    const event = { conversation_id: c, type: "poll.vote", payload: {} };
    expect((await backend.request("event.send", event)).payload.code).toBe("forbidden");
    await backend.ask("publish", event);
    expect((await other.next("poll.vote")).payload).toEqual({});
  });

  test("[MSG4] [ENV7] events and messages that are sent without waiting keep their order", async () => {
    const { c, phone, other } = await scene();
    const sent: string[] = [];
    for (let count = 0; count < 40; count++) {
      const id = fresh("x");
      sent.push(id);
      if (count % 3 === 0) phone.send("message.send", { conversation_id: c, client_message_id: id, content: id });
      else
        phone.send("event.send", {
          conversation_id: c,
          type: count % 3 === 1 ? "poll.vote" : "recording",
          payload: { id },
        });
    }
    const last = sent.at(-1)!;
    await other.find(({ payload }) => payload.content === last || payload.data?.id === last);
    const seen = other.received.flatMap(({ type, payload }) =>
      type === "message.new" ? [payload.content] : (payload.data?.id ?? []),
    );
    // On the sender's node all of them are in its order; over the bus only what is logged is sure to be.
    const logged = sent.filter((_, index) => index % 3 !== 2);
    expect(seen.filter((id) => logged.includes(id))).toEqual(logged);
    await phone.settled();
    const replies = phone.received.filter(({ reply_to }) => reply_to !== undefined).slice(-41, -1);
    expect(replies.map(({ type }) => type)).toEqual(sent.map(() => "ack"));
  });

  test("[MSG4] [ENV6] whatever is wrong with one is said, and at most 64 KiB are taken", async () => {
    const { c, phone, other } = await scene();
    const event = { conversation_id: c, type: "poll.vote", payload: {} };
    const wrong: [field: string, value: unknown][] = [
      ["conversation_id", undefined],
      ["conversation_id", "a b"],
      ["conversation_id", "x".repeat(129)],
      ["type", "Poll"],
      ["type", "x".repeat(65)],
      ["type", 7],
      ["payload", []],
      ["payload", "text"],
      ["payload", null],
      ["client_event_id", ""],
      ["client_event_id", "x".repeat(60_000)],
      ["client_event_id", {}],
    ];
    for (const [index, [field, value]] of wrong.entries()) {
      // Ten bad messages close a connection.
      const client = index % 2 === 0 ? phone : other;
      expect((await client.request("event.send", { ...event, [field]: value })).payload).toMatchObject({
        code: "invalid_payload",
        field: `payload.${field}`,
      });
    }
    await phone.ask("event.send", { ...event, payload: { text: "x".repeat(65_000) } });
    expect(
      (await phone.request("event.send", { ...event, payload: { text: "x".repeat(66_000) } })).payload,
    ).toMatchObject({
      code: "message_too_large",
    });
    expect((await other.next("poll.vote")).payload.data.text).toHaveLength(65_000);
    // Names that mean something elsewhere mean nothing here.
    const strange = { sender_id: "eve", message_id: "m", user_id: "eve", conversation_id: "other" };
    await phone.ask("event.send", { ...event, payload: strange });
    expect((await other.next("poll.vote", ({ data }) => data.user_id === "eve")).payload).toMatchObject({
      conversation_id: c,
      data: strange,
    });
    expect((await other.ask("subscribe", { topics: [`conversation:${c}`] })).topics[0].snapshot.unread).toBe(0);
  });

  test("[MSG4] [SUB3] who was removed sends none", async () => {
    const { c, ben, phone, other } = await scene();
    await sql(`DELETE FROM {members} WHERE conversation_id = '${c}' AND user_id = '${ben}'`);
    await other.next("unsubscribed");
    const event = { conversation_id: c, type: "recording", payload: {} };
    expect((await other.request("event.send", event)).payload.code).toBe("forbidden");
    await sendAll(phone, c, ["on"]);
    await phone.settled();
    expect([contentsOf(other), phone.all("recording")]).toEqual([[], []]);
  });
});

describe("limits and settings", () => {
  const rates = { RATE_LIMITS__ENABLED: "true", RATE_LIMITS__EVENT__BURST: "3", RATE_LIMITS__EVENT__PER_MINUTE: "1" };

  test("[LIM] events have a rate of their own, and their bytes count", async () => {
    const service = await startService({
      settings: {
        ...settings,
        DIRECTORY__MODE: "open",
        ...rates,
        RATE_LIMITS__BYTES__BURST: "100KiB",
        RATE_LIMITS__BYTES__PER_MINUTE: "100KiB",
      },
    });
    const [anna, ben] = [
      await Client.connect(service.url, { query: { user_id: "anna" } }),
      await Client.connect(service.url, { query: { user_id: "ben" } }),
    ];
    const event = { conversation_id: "c1", type: "recording", payload: {} };
    for (let count = 0; count < 3; count++) await anna.ask("event.send", event);
    expect((await anna.request("event.send", event)).payload).toMatchObject({
      code: "rate_limited",
      retry_after_ms: expect.any(Number),
    });
    // Everything else that it sends goes on.
    await anna.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hello" });
    const large = { ...event, payload: { text: "x".repeat(60_000) } };
    await ben.ask("event.send", large);
    expect((await ben.request("event.send", large)).payload.code).toBe("rate_limited");
    expect(
      (
        await ben.request("message.send", {
          conversation_id: "c1",
          client_message_id: "m2",
          content: "x".repeat(60_000),
        })
      ).payload.code,
    ).toBe("rate_limited");
    await Promise.all([anna.close(), ben.close()]);
    await service.stop();
  });

  test("[MSG4] without a setting clients send none", async () => {
    const service = await startService();
    const anna = await Client.connect(service.url, { query: { user_id: "anna" } });
    expect(
      (await anna.request("event.send", { conversation_id: "c1", type: "poll.vote", payload: {} })).payload,
    ).toMatchObject({
      code: "forbidden",
      field: "payload.type",
    });
    await anna.close();
    await service.stop();
  });
});
