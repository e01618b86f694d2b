/** Proves the durable order of events and coming back by a cursor, over real sockets and real crashes. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import { Client, type Received } from "../support/client.ts";
import { cursorAt, partsOf, positionOf } from "../support/cursors.ts";
import { contentsOf, createPeople, fresh, sendAll } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

const numbered = (count: number, prefix = "m") => Array.from({ length: count }, (_, n) => `${prefix}${n + 1}`);
const upTo = (count: number) => Array.from({ length: count }, (_, n) => n + 1);
const seqsOf = (client: Client, topic: string) =>
  client.received.filter((message) => message.topic === topic).map(({ seq }) => seq);
const isReplyTo = (id: string) => (message: Received) => message.reply_to === id;

describe("one service", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService();
  });
  afterAll(() => service.stop());
  const { connect, gather, backend } = createPeople(() => service.url);

  test("[LOG1] seq counts within the topic, position over all topics, the id stays", async () => {
    const [c1, c2] = [fresh("c"), fresh("c")];
    const [anna, ben] = await gather(c1, [fresh("anna"), fresh("ben")]);
    await ben!.ask("subscribe", { topics: [`conversation:${c2}`] });
    const { cursor } = await ben!.ask("ping");
    const acks: any[] = [];
    for (const c of [c1, c2, c1, c2, c1]) acks.push(...(await sendAll(anna!, c, ["x"])));
    expect(acks.map(({ seq }) => seq)).toEqual([1, 1, 2, 2, 3]);
    const positions = acks.map(({ position }) => position);
    expect(positions).toEqual([...positions].sort((one, other) => one - other));
    expect(new Set(positions).size).toBe(5);
    await ben!.settled();
    const live = ben!.all("message.new");
    expect(live.map(({ position }) => position)).toEqual(positions);
    const back = await connect(fresh("carl"));
    await back.ask("subscribe", { topics: [`conversation:${c1}`, `conversation:${c2}`], since: { cursor } });
    expect(back.all("message.new")).toEqual(live);
    const { events } = await back.ask("history", { topic: `conversation:${c1}` });
    expect(events).toEqual(live.filter(({ topic }) => topic === `conversation:${c1}`));
  });

  test("[LOG2] the same client_message_id appends once and answers as the first time", async () => {
    const c = fresh("c");
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    const message = { conversation_id: c, client_message_id: "same", content: "first" };
    const [first, ...again] = await Promise.all([
      anna!.ask("message.send", message),
      anna!.ask("message.send", message),
    ]);
    expect(first.duplicate).toBe(false);
    for (const answer of again) expect(answer).toEqual({ ...first, duplicate: true });
    // From another device of the same user, too; another user's key is its own.
    const laptop = await connect((await anna!.next("connected")).payload.user_id);
    expect(await laptop.ask("message.send", message)).toEqual({ ...first, duplicate: true });
    expect(await ben!.ask("message.send", message)).toMatchObject({ duplicate: false, seq: 2 });
    await ben!.settled();
    expect(contentsOf(ben!)).toEqual(["first"]);
  });

  test("[LOG3] events arrive in order, none missing, none twice, also where a replay meets what is being sent", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const senders = await gather(c, [fresh("anna"), fresh("ben"), fresh("carl")]);
    const { cursor: start } = await senders[0]!.ask("ping");
    const each = 400;
    await sendAll(senders[0]!, c, numbered(each));
    const sending = Promise.all(senders.map((sender) => sendAll(sender, c, numbered(each))));
    const total = 4 * each;
    // They come in one after the other while it goes on, each from another place in the log.
    const readers: [Client, from: number][] = [];
    for (let n = 0; n < 8; n++) {
      const reader = await connect(fresh("reader"));
      const { events } = await reader.ask("history", { topic, after_seq: n * 40, limit: 1 });
      const { position, seq } = events[0];
      await reader.ask("subscribe", { topics: [topic], since: { cursor: cursorAt(start, position) } });
      readers.push([reader, seq]);
    }
    await sending;
    for (const [reader, from] of readers) {
      await reader.settled();
      expect(seqsOf(reader, topic)).toEqual(upTo(total).slice(from));
    }
  });

  test("[LOG3] a subscription without since joins the stream at some place, and from there nothing is missing", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const [anna] = await gather(c, [fresh("anna")]);
    const sending = sendAll(anna!, c, numbered(400));
    const readers = await Promise.all(numbered(6).map(() => connect(fresh("reader"))));
    const starts: number[] = [];
    for (const reader of readers) starts.push((await reader.ask("subscribe", { topics: [topic] })).topics[0].seq);
    await sending;
    for (const [index, reader] of readers.entries()) {
      await reader.settled();
      expect(seqsOf(reader, topic)).toEqual(upTo(400).slice(starts[index]));
    }
  });

  test("[LOG3] whoever follows all and joins with since gets the past before the present, once", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const [anna] = await gather(c, [fresh("anna")]);
    await sendAll(anna!, c, numbered(600));
    const ben = await connect(fresh("ben"));
    await ben.ask("subscribe", { topics: ["conversation"] });
    // Becoming a member by the request itself makes the service want to add the topic, too.
    const id = ben.send("subscribe", { topics: [topic], since: "acked" });
    await sendAll(anna!, c, numbered(300));
    await ben.find(isReplyTo(id));
    await ben.settled();
    expect(seqsOf(ben, topic)).toEqual(upTo(900));
  });

  test("[LOG4] one cursor brings back any number of topics; seen removes the overlap", async () => {
    const ids = numbered(20).map(() => fresh("c"));
    const topics = ids.map((id) => `conversation:${id}`);
    const [anna, ben] = [await connect(fresh("anna")), fresh("ben")];
    const first = await connect(ben);
    await first.ask("subscribe", { topics });
    for (const id of ids) await sendAll(anna, id, ["before"]);
    const { cursor } = await first.ask("ping");
    expect(contentsOf(first)).toHaveLength(20);
    for (const id of ids.slice(0, 5)) await sendAll(anna, id, ["overlap"]);
    await first.settled();
    const seen = Object.fromEntries(ids.slice(0, 5).map((id) => [`conversation:${id}`, 2]));
    await first.close();
    for (const id of ids.slice(3, 10)) await sendAll(anna, id, ["missed"]);

    const back = await connect(ben);
    // The same since for every subscribe, and the new cursor once all are back.
    for (const part of [topics.slice(0, 8), topics.slice(8)]) {
      await back.ask("subscribe", { topics: part, since: { cursor, seen } });
    }
    expect(contentsOf(back)).toEqual(Array(7).fill("missed"));
    const renewed = (await back.ask("ping")).cursor;
    expect(positionOf(renewed)).toBeGreaterThan(positionOf(cursor));
    const third = await connect(ben);
    await third.ask("subscribe", { topics, since: { cursor: renewed } });
    expect(contentsOf(third)).toEqual([]);
    const all = await connect(ben);
    const { topics: places } = await all.ask("subscribe", { topics, since: { cursor } });
    expect(contentsOf(all)).toHaveLength(12);
    expect(places.map(({ replayed }: any) => replayed)).toEqual([1, 1, 1, 2, 2, 1, 1, 1, 1, 1, ...Array(10).fill(0)]);
  });

  test("[LOG4] subscribed, pong and the ack of ack carry the cursor; without since a subscription starts at the head", async () => {
    const c = fresh("c");
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    const [{ position }] = await sendAll(anna!, c, ["old"]);
    const { cursor: pong } = await ben!.ask("ping");
    expect(positionOf(pong)).toBeGreaterThanOrEqual(position);
    const newcomer = await connect(fresh("carl"));
    const { topics, cursor } = await newcomer.ask("subscribe", { topics: [`conversation:${c}`] });
    expect(positionOf(cursor)).toBeGreaterThanOrEqual(position);
    expect(topics).toEqual([{ topic: `conversation:${c}`, seq: 1, snapshot: expect.any(Object) }]);
    expect(contentsOf(newcomer)).toEqual([]);
    expect(await newcomer.ask("ack", { cursor })).toEqual({ cursor });
  });

  test("[LOG5] replay comes in pages, oldest first, before subscribed says that it is live", async () => {
    const [c1, c2] = [fresh("c"), fresh("c")];
    const anna = await connect(fresh("anna"));
    await Promise.all([sendAll(anna, c1, numbered(450)), sendAll(anna, c2, numbered(450))]);
    const reader = await connect(fresh("ben"));
    const id = reader.send("subscribe", {
      topics: [`conversation:${c1}`, `conversation:${c2}`],
      since: "acked",
    });
    const answer = await reader.find(isReplyTo(id));
    const before = reader.received.slice(0, reader.received.indexOf(answer)).filter(({ seq }) => seq !== undefined);
    expect(before).toHaveLength(900);
    const positions = before.map(({ position }) => position!);
    expect(positions).toEqual([...positions].sort((one, other) => one - other));
    for (const c of [c1, c2]) expect(seqsOf(reader, `conversation:${c}`)).toEqual(upTo(450));
    expect(answer.payload.topics).toEqual(
      [c1, c2].map((c) =>
        expect.objectContaining({ topic: `conversation:${c}`, seq: 450, replayed: 450, recovered: true }),
      ),
    );
    await sendAll(anna, c1, ["live"]);
    await reader.settled();
    expect(seqsOf(reader, `conversation:${c1}`)).toEqual(upTo(451));
  });

  test("[LOG6] a device's ack goes forward only, per device, and not above what was sent", async () => {
    const c = fresh("c");
    const user = fresh("ben");
    const anna = await connect(fresh("anna"));
    await sendAll(anna, c, ["one"]);
    const phone = await connect(user, { device_id: "phone" });
    const { cursor } = await phone.ask("subscribe", { topics: [`conversation:${c}`], since: "acked" });
    expect(contentsOf(phone)).toEqual(["one"]);
    expect(await phone.ask("ack", { cursor })).toEqual({ cursor });
    const position = positionOf(cursor);
    expect(await phone.ask("ack", { cursor: cursorAt(cursor, position - 1) })).toEqual({ cursor });
    const another = `${partsOf(cursor).epoch.split("").reverse().join("")}.1`;
    for (const other of [cursorAt(cursor, position + 1_000_000), another, String(position), "~"]) {
      const refusal = await phone.request("ack", { cursor: other });
      expect(refusal).toMatchObject({ type: "error", payload: { code: "invalid_payload", field: "payload.cursor" } });
    }
    await phone.close();
    await sendAll(anna, c, ["two"]);
    const back = await connect(user, { device_id: "phone" });
    await back.ask("subscribe", { topics: [`conversation:${c}`], since: "acked" });
    expect(contentsOf(back)).toEqual(["two"]);
    // The other device has acknowledged nothing: all of it is its due.
    const laptop = await connect(user, { device_id: "laptop" });
    await laptop.ask("subscribe", { topics: [`conversation:${c}`], since: "acked" });
    expect(contentsOf(laptop)).toEqual(["one", "two"]);
  });

  test("[LOG8] history is paged both ways and moves no cursor", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    await sendAll(anna!, c, numbered(250));
    await ben!.settled();
    const live = ben!.all("message.new");
    const page = async (query: object) => {
      const { events, has_more, topic: of } = await ben!.ask("history", { topic, ...query });
      expect(of).toBe(topic);
      return { seqs: events.map(({ seq }: Received) => seq), has_more, events };
    };
    const newest = await page({});
    expect(newest).toMatchObject({ seqs: upTo(250).slice(200), has_more: true });
    expect(newest.events).toEqual(live.slice(200));
    expect(await page({ before_seq: 51, limit: 50 })).toMatchObject({ seqs: upTo(50), has_more: false });
    expect(await page({ before_seq: 1 })).toMatchObject({ seqs: [], has_more: false });
    expect(await page({ after_seq: 0, limit: 200 })).toMatchObject({ seqs: upTo(200), has_more: true });
    expect(await page({ after_seq: 200, limit: 200 })).toMatchObject({ seqs: upTo(250).slice(200), has_more: false });
    expect(await page({ after_seq: 250 })).toMatchObject({ seqs: [], has_more: false });
    // Back to the beginning, page by page.
    const walked: number[] = [];
    for (let before = 251, more = true; more; before = walked[0]!) {
      const { seqs, has_more } = await page({ before_seq: before, limit: 60 });
      walked.unshift(...seqs);
      more = has_more;
    }
    expect(walked).toEqual(upTo(250));
    expect(ben!.all("message.new")).toHaveLength(250);
    for (const wrong of [{ limit: 201 }, { limit: 0 }, { before_seq: 1, after_seq: 1 }, { before_seq: -1 }]) {
      expect((await ben!.request("history", { topic, ...wrong })).payload.code).toBe("invalid_payload");
    }
  });

  test("[LOG8] only what one may subscribe to, and what is logged, has a history", async () => {
    const [anna, ben] = [await connect(fresh("anna")), fresh("ben")];
    await (await backend()).ask("publish", { user_ids: [ben], type: "notification", payload: { text: "private" } });
    for (const topic of [`notifications:${ben}`, `user:${ben}`, "typing:c1", `presence:${ben}`, "nonsense", "user"]) {
      const refused = await anna.request("history", { topic });
      expect(refused.payload).toMatchObject({ code: "forbidden", field: "payload.topic" });
    }
    const own = await (await connect(ben)).ask("history", { topic: `notifications:${ben}` });
    expect(own.events).toMatchObject([{ type: "notification", seq: 1, payload: { text: "private" } }]);
  });

  test("[LOG3] [CON4] JSON and protobuf clients see the same events in the same order, live and replayed", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const binary = { protocols: [subprotocols.protobuf] };
    const anna = await connect(fresh("anna"));
    const carl = await connect(fresh("carl"), {}, binary);
    const json = await connect(fresh("json"));
    const protobuf = await connect(fresh("protobuf"), {}, binary);
    for (const client of [json, protobuf]) await client.ask("subscribe", { topics: [topic, `typing:${c}`] });
    await Promise.all([sendAll(anna, c, numbered(50)), sendAll(carl, c, numbered(50))]);
    await carl.ask("typing.start", { conversation_id: c });
    await carl.ask("typing.stop", { conversation_id: c });
    const payload = { any: [1, "two", null, { deep: true }], number: 1.5 };
    await (await backend()).ask("publish", { conversation_id: c, type: "app.note", payload });
    await Promise.all([json.settled(), protobuf.settled()]);
    const events = (client: Client) => client.received.filter(({ type }) => /^(message|typing|app)/.test(type));
    expect(events(json)).toHaveLength(103);
    expect(events(protobuf)).toEqual(events(json));
    const replayed = await Promise.all(
      [{}, binary].map(async (options) => {
        const client = await connect(fresh("later"), {}, options);
        await client.ask("subscribe", { topics: [topic], since: "acked" });
        return events(client);
      }),
    );
    expect(replayed[0]).toEqual(events(json).filter((message) => message.topic === topic));
    expect(replayed[1]).toEqual(replayed[0]!);
  });
});

describe("a service that is killed and comes back", () => {
  test("[LOG1] [LOG2] [LOG3] [LOG6] what was acknowledged is there, once, in order; keys, cursors and ids survive", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const first = await startService();
    let second: Service | undefined;
    try {
      const [anna, ben] = await Promise.all(
        ["anna", "ben"].map((user_id) => Client.connect(first.url, { query: { user_id, device_id: user_id } })),
      );
      await ben!.ask("subscribe", { topics: [topic] });
      const sent = numbered(20).map((client_message_id) => ({ conversation_id: c, client_message_id, content: "" }));
      for (const message of sent.slice(0, 10)) await anna!.ask("message.send", message);
      const { cursor } = await ben!.ask("ping");
      await ben!.ask("ack", { cursor });
      for (const message of sent.slice(10)) anna!.send("message.send", message);
      const ack = (await anna!.next("ack", ({ seq }) => seq === 12)).payload;
      await first.kill();
      await Promise.all([anna!.closed, ben!.closed]);
      const acked = anna!.all("ack").map(({ payload }) => payload);

      second = await startService({ folder: first.folder });
      const url = second.url;
      const back = await Client.connect(url, { query: { user_id: "ben", device_id: "ben" } });
      const { topics } = await back.ask("subscribe", { topics: [topic], since: "acked" });
      expect(topics[0]).toMatchObject({ topic, recovered: true });
      // Everybody who sent something without an answer sends it again with the same key.
      const sender = await Client.connect(url, { query: { user_id: "anna" } });
      const answers: any[] = [];
      for (const message of sent) answers.push(await sender.ask("message.send", message));
      expect(answers.map(({ seq }) => seq)).toEqual(upTo(20));
      expect(answers.slice(0, acked.length)).toEqual(acked.map((answer) => ({ ...answer, duplicate: true })));
      expect(answers[11].message_id).toBe(ack.message_id);
      await back.settled();
      expect(seqsOf(back, topic)).toEqual(upTo(20).slice(10));
      const ids = new Map([...ben!.all("message.new"), ...back.all("message.new")].map(({ seq, id }) => [seq, id]));
      expect(upTo(20).map((seq) => ids.get(seq))).toEqual(answers.map(({ message_id }) => message_id));
      for (const live of ben!.all("message.new").filter(({ seq }) => seq! > 10)) {
        expect(back.all("message.new")).toContainEqual(live);
      }
    } finally {
      await (second ?? first).stop();
    }
  });

  test("[LOG4] a cursor from beyond the log's end recovers nothing, and says so", async () => {
    const service = await startService();
    try {
      const anna = await Client.connect(service.url, { query: { user_id: "anna" } });
      await sendAll(anna, "c1", ["one"]);
      const { cursor } = await anna.ask("ping");
      const since = { cursor: cursorAt(cursor, 1_000_000) };
      const answer = await anna.ask("subscribe", { topics: ["conversation:c1"], since });
      expect(answer.topics[0]).toMatchObject({ seq: 1, recovered: false, replayed: 0 });
      expect(answer.cursor).toBe(cursor);
    } finally {
      await service.stop();
    }
  });
});

describe("short retention", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      settings: { LOG__EVENTS_PER_TOPIC: "5", WEBSOCKET__CLEANUP_INTERVAL: "30ms", LOG__RETENTION: "1s" },
    });
  });
  afterAll(() => service.stop());
  const { connect, gather } = createPeople(() => service.url);

  test("[LOG5] [LOG7] what retention has removed is gone: recovered is false, with what is still there", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const [anna] = await gather(c, [fresh("anna")]);
    const before = (await anna!.ask("ping")).cursor;
    const acks = await sendAll(anna!, c, numbered(12));
    const history = () => anna!.ask("history", { topic });
    const { events } = await eventually(history, (page) => page.events.length <= 5);
    expect(events.map(({ seq }: Received) => seq)).toEqual([8, 9, 10, 11, 12]);
    const late = await connect(fresh("ben"));
    const lost = await late.ask("subscribe", { topics: [topic], since: { cursor: before } });
    expect(lost.topics[0]).toMatchObject({ seq: 12, recovered: false, replayed: 5 });
    expect(seqsOf(late, topic)).toEqual([8, 9, 10, 11, 12]);
    const early = await connect(fresh("carl"));
    const kept = await early.ask("subscribe", {
      topics: [topic],
      since: { cursor: cursorAt(before, acks[8].position) },
    });
    expect(kept.topics[0]).toMatchObject({ recovered: true, replayed: 3 });
  });

  test("[LOG2] [LOG7] old events go, and so do their keys; seq goes on", async () => {
    const c = fresh("c");
    const [anna] = await gather(c, [fresh("anna")]);
    const message = { conversation_id: c, client_message_id: "again", content: "" };
    await anna!.ask("message.send", message);
    await eventually(
      () => anna!.ask("history", { topic: `conversation:${c}` }),
      (page) => page.events.length === 0,
    );
    const again = await eventually(
      () => anna!.ask("message.send", message),
      ({ duplicate }) => !duplicate,
    );
    expect(again.seq).toBe(2);
  });
});

describe("receipts in the log", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({ settings: { MESSAGES__RECEIPT_WINDOW: "0s" } });
  });
  afterAll(() => service.stop());
  const { connect, gather } = createPeople(() => service.url);

  test("[LOG7] only the newest receipt per conversation, user and kind is kept", async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const [anna, ben, carl] = await gather(c, [fresh("anna"), fresh("ben"), fresh("carl")]);
    const acks = await sendAll(anna!, c, numbered(10));
    for (const [type, reader] of [
      ["delivered", ben!],
      ["read", ben!],
      ["read", carl!],
    ] as const) {
      const { user_id } = (await reader.next("connected")).payload;
      for (const { seq } of acks) {
        await reader.ask(`mark.${type}`, { conversation_id: c, up_to_seq: seq });
        await anna!.next(`message.${type}`, (it) => it.user_id === user_id && it.up_to_seq === seq);
      }
    }
    expect(anna!.all("message.delivered")).toHaveLength(10);
    expect(anna!.all("message.read")).toHaveLength(20);
    // Live there was no hole; a replay has the newest only.
    expect(seqsOf(anna!, topic)).toEqual(upTo(40).slice(10));
    const back = await connect(fresh("dora"));
    const { topics } = await back.ask("subscribe", { topics: [topic], since: "acked" });
    expect(seqsOf(back, topic)).toEqual([...upTo(10), 20, 30, 40]);
    expect(topics[0]).toMatchObject({ seq: 40, recovered: true, replayed: 13 });
    const { events } = await back.ask("history", { topic });
    expect(events.map(({ seq }: Received) => seq)).toEqual([...upTo(10), 20, 30, 40]);
  });
});
