/** Holds the client's session to its order: what is held, what was had, what is own, and what comes back with which place. */
import { describe, expect, test } from "bun:test";
import type { News } from "../../src/client/core.ts";
import { catchUp } from "../../src/client/tabs/catch-up.ts";
import { handSession } from "../support/hand-sockets.ts";

const sub = (topic: string, rest: object = {}) => ({ topic, ...rest });

/** Live on the user's own topic and on a conversation whose last event is 10. */
async function live(given: Parameters<typeof handSession>[0] = {}) {
  const it = handSession(given);
  it.session.follow({ topics: ["conversation:c1"] });
  it.session.start();
  await it.settled();
  it.socket.greet();
  it.subscribed([sub("user:anna", { seq: 3 }), sub("conversation:c1", { seq: 10 })], { cursor: "e.10" });
  expect(it.session.state).toEqual({ status: "live" });
  return it;
}

/** Breaks the line and has the next one greet. */
async function back(it: Awaited<ReturnType<typeof live>>) {
  it.socket.end(1006);
  await it.clock.pass(30_000);
  it.socket.greet();
  return it.socket.asked("subscribe");
}

describe("[LOG4] coming back", () => {
  test("names all that is followed with the same cursor, and what moved since; it is live once all are back", async () => {
    const it = await live();
    it.socket.event("conversation:c1", 11);
    const asked = await back(it);
    expect(asked.payload).toEqual({
      topics: ["user", "conversation:c1"],
      since: { cursor: "e.10", seen: { "conversation:c1": 11 } },
    });
    expect(it.session.state.status).toBe("connecting");
    it.subscribed([
      sub("user:anna", { seq: 3, recovered: true }),
      sub("conversation:c1", { seq: 11, recovered: true }),
    ]);
    expect(it.session.state.status).toBe("live");
  });

  test("asks for more than 1,000 names in portions, all from the same place, and takes the cursor once all are answered", async () => {
    const it = await live();
    const names = Array.from({ length: 1_500 }, (_, index) => `conversation:x${index}`);
    const { ready } = it.session.follow({ topics: names });
    await it.settled();
    for (const asked of it.socket.all("subscribe").slice(1)) {
      const topics = asked.payload.topics.map((topic: string) => sub(topic, { seq: 0 }));
      it.socket.reply("subscribed", { topics, rejected: [], cursor: "e.20" }, asked);
    }
    expect((await ready).topics.length).toBe(1_500);
    await back(it);
    const portions = it.socket.all("subscribe");
    expect(portions.map(({ payload }) => payload.topics.length)).toEqual([1_000, 502]);
    expect(portions.map(({ payload }) => payload.since.cursor)).toEqual(["e.20", "e.20"]);
    it.socket.reply("subscribed", { topics: [], rejected: [], cursor: "e.30" }, portions[0]);
    expect(it.session.state.status).toBe("connecting");
    it.socket.say("subscribed", { topics: [], rejected: [], cursor: "e.31" });
    expect(it.session.place.cursor).toBe("e.20");
    it.socket.reply("subscribed", { topics: [], rejected: [], cursor: "e.32" }, portions[1]);
    expect(it.session.place.cursor).toBe("e.32");
  });

  test("keeps its place where a subscribe is refused for a moment, and asks again when it may", async () => {
    const it = await live();
    const asked = await back(it);
    const refused = { code: "unavailable", message: "later", retryable: true, retry_after_ms: 700 };
    it.socket.event("conversation:c1", 11);
    it.socket.reply("error", refused, asked);
    await it.clock.pass(699);
    expect(it.socket.all("subscribe").length).toBe(1);
    await it.clock.pass(1);
    // That of the replay which has come is told, and not asked for again.
    expect(it.events()).toEqual([11]);
    const { topics, since } = asked.payload;
    expect(it.socket.asked("subscribe").payload).toEqual({
      topics,
      since: { cursor: since.cursor, seen: { "conversation:c1": 11 } },
    });
    it.subscribed([sub("conversation:c1", { seq: 10, recovered: true })], { cursor: "e.12" });
    expect(it.session.state.status).toBe("live");
    expect(it.session.place.cursor).toBe("e.12");
  });

  test("waits longer each time where what it is told to wait is no time", async () => {
    for (const wait of [0, -1, "x", null, 1e12]) {
      const it = await live();
      await back(it);
      const refused = { code: "unavailable", message: "later", retryable: true, retry_after_ms: wait };
      for (let times = 0; times < 12; times++) {
        it.socket.reply("error", refused, it.socket.all("subscribe").at(-1)!);
        await it.clock.pass(250);
      }
      expect(it.socket.all("subscribe").length).toBeWithin(2, 7);
    }
  });

  test("[LOG6] where nothing is kept goes on from what was acknowledged, and takes what comes again", async () => {
    let from: "place" | "acked" = "place";
    const it = await live({ resumesFrom: () => from });
    it.socket.event("conversation:c1", 11);
    from = "acked";
    const asked = await back(it);
    expect(it.socket.url.searchParams.get("since")).toBe("acked");
    expect(asked.payload).toEqual({ topics: ["user", "conversation:c1"], since: "acked" });
    it.socket.event("conversation:c1", 11);
    it.subscribed([sub("conversation:c1", { seq: 11, recovered: true })]);
    expect(it.events()).toEqual([11, 11]);
  });

  test("[LOG6] until all is back that comes after what was acknowledged it goes on from there, whatever is asked", async () => {
    let from: "place" | "acked" = "place";
    const it = await live({ resumesFrom: () => from });
    for (const seq of [11, 12, 13]) it.socket.event("conversation:c1", seq);
    it.socket.reply("pong", { cursor: "e.13" }, { id: "~9" });
    from = "acked";
    await back(it);
    from = "place";
    it.socket.event("conversation:c1", 11);
    const asked = await back(it);
    // Told once more is 11 alone: behind the cursor of before nobody would be told the two after it.
    expect([it.events(), it.session.cursor, it.session.isFromAcked]).toEqual([[11, 12, 13, 11], null, true]);
    expect([asked.payload.since, it.socket.url.searchParams.get("since")]).toEqual(["acked", "acked"]);
    for (const seq of [11, 12, 13]) it.socket.event("conversation:c1", seq);
    it.subscribed([sub("conversation:c1", { seq: 13, recovered: true })], { cursor: "e.14" });
    expect([it.events().slice(3), it.session.isFromAcked]).toEqual([[11, 12, 13], false]);
    it.socket.end(1006);
    await it.clock.pass(30_000);
    expect(it.socket.url.searchParams.get("since")).toBe("e.14");
  });

  test("begins at the head with what the cursor does not speak for", async () => {
    const it = await live();
    it.socket.end(1006);
    it.session.follow({ topics: ["conversation:c2"] });
    await it.clock.pass(500);
    it.socket.greet();
    const [known, fresh] = it.socket.all("subscribe");
    expect(known.payload.topics).toEqual(["user", "conversation:c1"]);
    expect(fresh.payload).toEqual({ topics: ["conversation:c2"] });
  });

  test("tells what did not come back", async () => {
    const it = await live();
    await back(it);
    it.subscribed([sub("user:anna", { seq: 3, recovered: true })], {
      rejected: [{ topic: "conversation:c1", code: "forbidden" }],
    });
    expect(it.news.at(-1)).toEqual({ kind: "unsubscribed", topics: ["conversation:c1"], reason: "access_revoked" });
  });
});

describe("[LOG3] each event once", () => {
  test("drops what was had before, also where it comes again behind a newer cursor", async () => {
    const it = await live();
    it.socket.event("conversation:c1", 11);
    it.socket.event("conversation:c1", 12);
    it.socket.event("conversation:c1", 12);
    await back(it);
    it.socket.event("conversation:c1", 11);
    it.socket.event("conversation:c1", 12);
    it.socket.event("conversation:c1", 13);
    it.subscribed([sub("conversation:c1", { seq: 13, recovered: true })]);
    expect(it.events()).toEqual([11, 12, 13]);
  });

  test("[SUB6] what this device has sent itself is not told when it is replayed, what others said before it is", async () => {
    const it = await live();
    const ack = it.session.ask("message.send", { conversation_id: "c1", content: "mine" });
    const second = it.session.ask("publish", { conversation_id: "c1", type: "x", payload: {} });
    it.socket.reply("ack", { topic: "conversation:c1", seq: 12 }, it.socket.asked("message.send"));
    const published = [{ topic: "conversation:c1", seq: 13 }];
    it.socket.reply("ack", { published }, it.socket.asked("publish"));
    await Promise.all([ack, second]);
    const asked = await back(it);
    expect(asked.payload.since.seen).toEqual({});
    for (const seq of [11, 12, 13, 14]) it.socket.event("conversation:c1", seq);
    it.subscribed([sub("conversation:c1", { seq: 14, recovered: true })]);
    expect(it.events()).toEqual([11, 14]);
  });

  test("[SUB6] what it has sent counts as had where nothing of others is between; a duplicate was there before", async () => {
    const it = await live();
    const ask = (seq: number, duplicate = false) => {
      void it.session.ask("message.send", { conversation_id: "c1", content: String(seq) });
      it.socket.reply("ack", { topic: "conversation:c1", seq, duplicate }, it.socket.asked("message.send"));
    };
    ask(11);
    ask(12);
    ask(13, true);
    const asked = await back(it);
    expect(asked.payload.since.seen).toEqual({ "conversation:c1": 12 });
    it.socket.event("conversation:c1", 13);
    it.subscribed([sub("conversation:c1", { seq: 13, recovered: true })]);
    expect(it.events()).toEqual([13]);
  });

  test("goes on from what was kept of it", async () => {
    const it = await live();
    it.socket.event("conversation:c1", 11);
    void it.session.ask("message.send", { conversation_id: "c1", content: "mine" });
    it.socket.reply("ack", { topic: "conversation:c1", seq: 13 }, it.socket.asked("message.send"));
    const { place, covered } = JSON.parse(JSON.stringify({ place: it.session.place, covered: it.session.covered }));
    const next = handSession();
    next.session.restore(place, covered);
    next.session.follow({ topics: ["conversation:c1"] });
    next.session.start();
    await next.settled();
    expect(next.socket.url.searchParams.get("since")).toBe("e.10");
    next.socket.greet();
    expect(next.socket.asked("subscribe").payload.since).toEqual({ cursor: "e.10", seen: { "conversation:c1": 11 } });
    for (const seq of [11, 12, 13, 14]) next.socket.event("conversation:c1", seq);
    next.subscribed([sub("conversation:c1", { seq: 14, recovered: true })]);
    expect(next.events()).toEqual([12, 14]);
  });
});

describe("[LOG4] [LOG5] gaps", () => {
  test("are told before what comes after them: a replay is held until it is known", async () => {
    const it = await live();
    it.socket.event("conversation:c1", 11);
    await back(it);
    it.socket.event("conversation:c1", 40);
    it.socket.event("user:anna", 4);
    it.socket.say("typing.start", { user_id: "ben" });
    expect(it.events()).toEqual([11, undefined]);
    it.subscribed([
      sub("user:anna", { seq: 4, recovered: true }),
      sub("conversation:c1", { seq: 40, recovered: false }),
    ]);
    expect(it.news.slice(-4).map((news) => (news.kind === "event" ? news.event.seq : news.kind))).toEqual([
      "gap",
      40,
      4,
      "subscribed",
    ]);
    expect(it.news.at(-4)).toEqual({ kind: "gap", topics: ["conversation:c1"] });
  });

  test("under a live connection begin the numbers anew, also lower ones, with another cursor", async () => {
    const it = await live();
    it.socket.event("conversation:c1", 11);
    it.socket.say("subscribed", {
      topics: [sub("conversation:c1", { seq: 5, recovered: false })],
      rejected: [],
      cursor: "f.1",
    });
    it.socket.event("conversation:c1", 5);
    it.socket.event("conversation:c1", 6);
    expect(it.events()).toEqual([11, 6]);
    expect(it.session.place).toEqual({ cursor: "f.1", seen: { "conversation:c1": 6 }, own: {} });
  });

  test("are seen where a topic begins behind what was told of it, on a line that broke before there was a cursor", async () => {
    const it = handSession();
    it.session.follow({ topics: ["conversation:c1"] });
    it.session.start();
    await it.settled();
    it.socket.greet();
    it.subscribed([sub("conversation:c1", { seq: 10 })]);
    it.socket.end(1006);
    await it.clock.pass(500);
    it.socket.greet();
    it.subscribed([sub("conversation:c1", { seq: 12 })]);
    expect(it.news.filter(({ kind }) => kind === "gap")).toEqual([{ kind: "gap", topics: ["conversation:c1"] }]);
  });

  test("of a line that breaks in a replay: it goes on behind what was told", async () => {
    const it = await live();
    await back(it);
    it.socket.event("conversation:c1", 11);
    it.socket.event("conversation:c1", 12);
    expect(it.events()).toEqual([]);
    const asked = await back(it);
    expect(it.events()).toEqual([11, 12]);
    expect(asked.payload.since).toEqual({ cursor: "e.10", seen: { "conversation:c1": 12 } });
  });

  test("of a line that is ended by whoever is told of what it held: what was not told then comes again", async () => {
    for (const [told, seq] of [
      ["event", 11],
      ["subscribed", 12],
    ] as const) {
      let ends = (_: News) => {};
      const it = await live({ onNews: (news) => ends(news) });
      await back(it);
      ends = ({ kind }) => void (kind === told && it.session.stop());
      for (const seq of [11, 12]) it.socket.event("conversation:c1", seq);
      it.subscribed([sub("conversation:c1", { seq: 12, recovered: true })], { cursor: "e.20" });
      expect(it.session.place).toEqual({ cursor: "e.10", seen: { "conversation:c1": seq }, own: {} });
    }
  });

  test("a pong says nothing of the place while something is on its way back", async () => {
    const it = await live();
    await back(it);
    it.socket.reply("pong", { cursor: "e.99" }, { id: "~9" });
    expect(it.session.place.cursor).toBe("e.10");
    it.subscribed([sub("conversation:c1", { seq: 10, recovered: true })], { cursor: "e.100" });
    it.socket.reply("pong", { cursor: "e.101" }, { id: "~9" });
    expect(it.session.place.cursor).toBe("e.101");
  });
});

describe("[ENV3] requests", () => {
  test("wait for the connection and go in their order; over a broken line go again what may, and fail what may not", async () => {
    const it = handSession();
    const send = it.session.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "x" });
    const call = it.session.ask("call.hangup", { call_id: "1" });
    const lost = call.catch((error) => error.code);
    it.session.start();
    await it.settled();
    it.socket.greet();
    expect(it.socket.sent.map(({ type }) => type)).toEqual(["subscribe"]);
    it.subscribed([]);
    expect(it.socket.sent.map(({ type }) => type)).toEqual(["subscribe", "message.send", "call.hangup"]);
    it.socket.end(1006);
    expect(await lost).toBe("connection_lost");
    await it.clock.pass(500);
    it.socket.greet();
    it.subscribed([]);
    expect(it.socket.sent.map(({ type }) => type)).toEqual(["subscribe", "message.send"]);
    it.socket.reply("ack", { message_id: "1" }, it.socket.asked("message.send"));
    expect(await send).toEqual({ message_id: "1" });
  });

  test("end in time, by their signal, or with the client", async () => {
    const it = await live();
    const late = it.session
      .ask("history", { topic: "conversation:c1" }, { timeoutMs: 2_000 })
      .catch(({ code }) => code);
    await it.clock.pass(2_000);
    expect(await late).toBe("timeout");
    const aborting = new AbortController();
    const aborted = it.session.ask("history", {}, { signal: aborting.signal }).catch((error) => error);
    aborting.abort("enough");
    expect(await aborted).toBe("enough");
    expect(await it.session.ask("history", {}, { signal: aborting.signal }).catch((error) => error)).toBe("enough");
    const open = it.session.ask("history", {}).catch(({ code }) => code);
    it.socket.end(4011);
    expect(await open).toBe("stopped");
    expect(await it.session.ask("ping", {}).catch(({ code }) => code)).toBe("stopped");
  });

  test("[ENV4] tell what the server answers, and the field", async () => {
    const it = await live();
    const answer = it.session.ask("history", {}).catch((error) => error);
    const error = { code: "invalid_payload", message: "no topic", retryable: false, field: "payload.topic" };
    it.socket.reply("error", error, it.socket.asked("history"));
    expect(await answer).toMatchObject({
      name: "ServerError",
      code: "invalid_payload",
      field: "payload.topic",
      retryable: false,
    });
  });

  test("[ENV6] that are too large are not sent; after 1009 the largest fails and the others go again", async () => {
    const it = await live();
    const ask = (content: string, type = "message.send") =>
      it.session.ask(type, { conversation_id: "c1", content }).then(
        () => "sent",
        ({ code, field }) => `${code} ${field}`,
      );
    expect(await ask("x".repeat(100_000))).toBe("too_large content");
    expect(await ask("€".repeat(30_000), "event.send")).toBe("too_large content");
    const largest = ask("x".repeat(50_000));
    const other = ask("small");
    it.socket.end(1009);
    expect(await largest).toBe("too_large content");
    await it.clock.pass(500);
    it.socket.greet();
    it.subscribed([]);
    expect(it.socket.all("message.send").length).toBe(1);
    it.socket.reply("ack", {}, it.socket.asked("message.send"));
    expect(await other).toBe("sent");
  });

  test("are bounded", async () => {
    const it = handSession();
    for (let index = 0; index < 1_000; index++) void it.session.ask("ping", {}).catch(() => {});
    expect(await it.session.ask("ping", {}).catch(({ code }) => code)).toBe("too_many_requests");
  });
});

describe("[SUB1] following", () => {
  test("is counted: the last one to let go leaves, a moment later", async () => {
    const it = await live();
    const one = it.session.follow({ topics: ["typing"], filters: { conversation_id: "c1" } });
    const other = it.session.follow({ topics: ["typing:c1"] });
    await it.settled();
    expect(it.socket.asked("subscribe").payload).toEqual({ topics: ["typing:c1"] });
    const snapshot = { typing: [] };
    it.subscribed([sub("typing:c1", { snapshot })]);
    expect((await one.ready).topics).toEqual([{ topic: "typing:c1", snapshot }]);
    expect((await other.ready).topics).toEqual([{ topic: "typing:c1", snapshot }]);
    one.stop();
    one.stop();
    await it.clock.pass(2_000);
    expect(it.socket.all("unsubscribe")).toEqual([]);
    other.stop();
    await it.clock.pass(999);
    expect(it.socket.all("unsubscribe")).toEqual([]);
    await it.clock.pass(1);
    expect(it.socket.asked("unsubscribe").payload).toEqual({ topics: ["typing:c1"] });
    it.socket.reply("unsubscribed", { topics: ["typing:c1"] }, it.socket.asked("unsubscribe"));
    expect(it.news.at(-1)).toEqual({ kind: "unsubscribed", topics: ["typing:c1"] });
  });

  test("that is taken up again at once is not left", async () => {
    const it = await live();
    const one = it.session.follow({ topics: ["typing:c1"] });
    one.stop();
    const other = it.session.follow({ topics: ["typing:c1"] });
    await it.clock.pass(1_000);
    expect(it.socket.all("unsubscribe")).toEqual([]);
    it.subscribed([sub("typing:c1")]);
    expect((await other.ready).topics.length).toBe(1);
  });

  test("what is let go of while it comes back is left once it is there, and no place speaks for it any more", async () => {
    const it = await live();
    const other = it.session.follow({ topics: ["conversation:c2"] });
    await it.settled();
    it.subscribed([sub("conversation:c2", { seq: 5 })]);
    await back(it);
    other.stop();
    await it.clock.pass(1_000);
    it.subscribed([sub("conversation:c1", { seq: 10, recovered: true }), sub("conversation:c2", { seq: 5 })]);
    await it.clock.pass(1_000);
    expect(it.socket.asked("unsubscribe").payload).toEqual({ topics: ["conversation:c2"] });
    it.socket.end(1006);
    it.session.follow({ topics: ["conversation:c2"] });
    await it.clock.pass(30_000);
    it.socket.greet();
    const [known, fresh] = it.socket.all("subscribe");
    expect(known.payload.topics).toEqual(["user", "conversation:c1"]);
    expect(fresh.payload).toEqual({ topics: ["conversation:c2"] });
  });

  test("what is let go of before its answer is not taken for followed by it", async () => {
    const it = await live();
    const other = it.session.follow({ topics: ["conversation:c2"] });
    await it.settled();
    const asked = it.socket.asked("subscribe");
    other.stop();
    await it.clock.pass(1_000);
    it.socket.reply(
      "subscribed",
      { topics: [sub("conversation:c2", { seq: 5 })], rejected: [], cursor: "e.11" },
      asked,
    );
    it.socket.reply("unsubscribed", { topics: ["conversation:c2"] }, it.socket.asked("unsubscribe"));
    it.socket.end(1006);
    it.session.follow({ topics: ["conversation:c2"] });
    await it.clock.pass(30_000);
    it.socket.greet();
    expect(it.socket.all("subscribe").map(({ payload }) => payload.topics)).toEqual([
      ["user", "conversation:c1"],
      ["conversation:c2"],
    ]);
  });

  test("is one request for all that is asked for in one turn; members' presence goes by the conversation", async () => {
    const it = await live();
    const filters = { conversation_ids: ["c1", "c2"], user_ids: ["ben"] };
    it.session.follow({ topics: ["presence", "conversation"], filters });
    it.session.follow({ topics: ["notifications"] });
    await it.settled();
    expect(
      it.socket
        .all("subscribe")
        .slice(1)
        .map(({ payload }) => payload),
    ).toEqual([
      { topics: ["presence:ben", "conversation:c1", "conversation:c2", "notifications"] },
      { topics: ["presence"], filters: { conversation_ids: ["c1", "c2"] } },
    ]);
  });

  test("of all of one's own, let go of, keeps what is followed by name, from the same place", async () => {
    const it = await live();
    const all = it.session.follow({ topics: ["conversation"] });
    await it.settled();
    it.subscribed([sub("conversation:c1", { seq: 10 }), sub("conversation:c2", { seq: 2 })], { cursor: "e.11" });
    all.stop();
    await it.clock.pass(1_000);
    expect(it.socket.asked("unsubscribe").payload).toEqual({ topics: ["conversation"] });
    expect(it.socket.asked("subscribe").payload).toMatchObject({
      topics: ["conversation:c1"],
      since: { cursor: "e.11" },
    });
    const topics = ["conversation:c1", "conversation:c2"];
    it.socket.reply("unsubscribed", { topics }, it.socket.asked("unsubscribe"));
    expect(it.news.at(-1)).toEqual({ kind: "unsubscribed", topics: ["conversation:c2"] });
    it.socket.event("conversation:c1", 11);
    it.subscribed([sub("conversation:c1", { seq: 11, recovered: true })]);
    expect(it.events()).toEqual([11]);
  });

  test("what no name can be is told at once, what the server does not take at its answer, and not asked for again", async () => {
    const it = await live();
    expect(await it.session.follow({ topics: ["ok", "a b"] }).ready.catch(({ field }) => field)).toBe("topics.1");
    const { ready } = it.session.follow({ topics: ["conversation:"] });
    await it.settled();
    const error = { code: "invalid_payload", message: "no", retryable: false };
    it.socket.reply("error", error, it.socket.asked("subscribe"));
    expect(await ready.catch(({ code }) => code)).toBe("invalid_payload");
    const asked = await back(it);
    expect(asked.payload.topics).toEqual(["user", "conversation:c1"]);
  });

  test("by a request of the application's own comes back until it is unsubscribed", async () => {
    const it = await live();
    void it.session.ask("subscribe", { topics: ["conversation:c2", "conversation:c3"] });
    it.subscribed([sub("conversation:c2", { seq: 1 })], {
      rejected: [{ topic: "conversation:c3", code: "forbidden" }],
    });
    expect((await back(it)).payload.topics).toEqual(["user", "conversation:c1", "conversation:c2"]);
    it.subscribed([sub("conversation:c2", { seq: 1, recovered: true })]);
    void it.session.ask("unsubscribe", { topics: ["conversation:c2"] });
    it.socket.reply("unsubscribed", { topics: ["conversation:c2"] }, it.socket.asked("unsubscribe"));
    expect((await back(it)).payload.topics).toEqual(["user", "conversation:c1"]);
  });

  test("[BAK2] of the whole log names nothing beside it, and holds nothing back", async () => {
    const it = handSession();
    it.session.follow({ topics: ["log"] });
    it.session.start();
    await it.settled();
    it.socket.greet();
    expect(it.socket.all("subscribe").map(({ payload }) => payload)).toEqual([{ topics: ["log"] }]);
    it.subscribed([sub("log")]);
    it.socket.event("conversation:c1", 1);
    it.socket.event("conversation:c2", 1);
    const asked = await back(it as never);
    expect(asked.payload).toEqual({ topics: ["log"], since: { cursor: "e.1" } });
    it.socket.event("conversation:c1", 2);
    expect(it.events()).toEqual([1, 1, 2]);
    it.subscribed([sub("log", { recovered: false })]);
    it.socket.event("conversation:c2", 1);
    expect(it.events()).toEqual([1, 1, 2, 1]);
  });
});

test("what was told in another tab is not told again, and what follows is after it", async () => {
  const it = await live();
  const { place, covered } = it.session;
  it.socket.event("conversation:c1", 11);
  void it.session.ask("message.send", { conversation_id: "c1", content: "mine" });
  const told: News[] = [
    ...it.news.filter(({ kind }) => kind === "event"),
    { kind: "sent", entry: {} as never, ack: { topic: "conversation:c1", seq: 13 } },
    { kind: "subscribed", topics: [sub("conversation:c2", { seq: 5 })] },
  ];
  const next = handSession();
  next.session.restore(place, covered);
  next.session.catchUp((had) => catchUp(had, told, []));
  next.session.follow({ topics: ["conversation:c1", "conversation:c2"] });
  next.session.start();
  await next.settled();
  next.socket.greet();
  const [known, fresh] = next.socket.all("subscribe");
  expect(known.payload.since.seen).toEqual({ "conversation:c1": 11 });
  for (const seq of [12, 13, 14]) next.socket.event("conversation:c1", seq);
  const topics = [sub("conversation:c1", { seq: 14, recovered: true })];
  next.socket.reply("subscribed", { topics, rejected: [], cursor: "e.20" }, known);
  next.socket.reply(
    "subscribed",
    { topics: [sub("conversation:c2", { seq: 6 })], rejected: [], cursor: "e.20" },
    fresh,
  );
  expect(next.events()).toEqual([12, 14]);
  expect(next.news.filter(({ kind }) => kind === "gap")).toEqual([{ kind: "gap", topics: ["conversation:c2"] }]);
});
