/** Proves how typed lines become requests, what the session remembers, and when `connect` comes back. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import { type Input, inputHelp, parseInput } from "../../src/commands/connect-input.ts";
import { reconnectDelayMs } from "../../src/commands/connect-link.ts";
import { lineFor, paintFor } from "../../src/commands/connect-print.ts";
import { ConnectSession, type Message } from "../../src/commands/connect-session.ts";
import { type ClientMessageType, clientPayloads } from "../../src/protocol/client.ts";
import { visible } from "../../src/telemetry/visible.ts";

const session = () => new ConnectSession({ newId: () => "new", deviceId: null, token: null });
const event = (topic: string, seq: number, position: number): Message => ({
  id: `e${position}`,
  type: "message.new",
  topic,
  seq,
  position,
  payload: {},
});
const subscribed = (names: string[], cursor: string, reply_to?: string, place: object = {}): Message => ({
  type: "subscribed",
  reply_to,
  payload: { topics: names.map((topic) => ({ topic, ...place })), rejected: [], cursor },
});

describe("short forms", () => {
  const forms: [string, string, Record<string, unknown>][] = [
    ["/sub conversation c1", "subscribe", { topics: ["conversation:c1"] }],
    ["/sub typing c1 c2", "subscribe", { topics: ["typing:c1", "typing:c2"] }],
    ["/sub conversation", "subscribe", { topics: ["conversation"] }],
    ["/sub conversation:c1 typing:c1", "subscribe", { topics: ["conversation:c1", "typing:c1"] }],
    ["/unsub typing c1", "unsubscribe", { topics: ["typing:c1"] }],
    ["/typing c1", "typing.start", { conversation_id: "c1" }],
    ["/read c1 12", "mark.read", { conversation_id: "c1", up_to_seq: 12 }],
    ["/presence away lunch at  noon", "presence.update", { status: "away", status_text: "lunch at  noon" }],
    ["/presence online", "presence.update", { status: "online" }],
    ["/who u1 u2", "presence.query", { user_ids: ["u1", "u2"] }],
    ["/history conversation:c1", "history", { topic: "conversation:c1" }],
    ["/history conversation:c1 5", "history", { topic: "conversation:c1", limit: 5 }],
    ["  /ping ", "ping", {}],
  ];
  for (const [line, type, payload] of forms) {
    test(`[SUB1] ${line.trim()} is ${type}`, () => {
      expect(parseInput(line)).toEqual({ kind: "request", type, payload });
      v.parse(clientPayloads[type as ClientMessageType] as v.GenericSchema, payload);
    });
  }

  test("[MSG1] /send keeps the text as it is typed and gets a client_message_id", () => {
    const input = parseInput("/send c1  hello   there /you  ") as Extract<Input, { kind: "request" }>;
    expect(input.payload).toEqual({ conversation_id: "c1", content: "hello   there /you" });
    const message = session().request({ type: input.type, payload: input.payload });
    expect(message).toEqual({
      id: "r1",
      type: "message.send",
      payload: { client_message_id: "new", conversation_id: "c1", content: "hello   there /you" },
    });
  });

  test("[ENV1] a JSON message goes as it is; a missing id is filled in, a given one stays", () => {
    expect(parseInput('{"id":"mine","type":"ping"}')).toEqual({
      kind: "message",
      message: { id: "mine", type: "ping" },
    });
    expect(session().request({ id: "mine", type: "ping" }).id).toBe("mine");
    expect(session().request({ type: "ping" }).id).toBe("r1");
    const typed = { type: "message.send", payload: { client_message_id: "mine", content: "a" } };
    expect(session().request(typed).payload).toEqual(typed.payload);
  });

  test("[ENV4] what cannot be read is answered with a sentence, and nothing throws", () => {
    for (const line of [
      "hello",
      "/nothing",
      "/toString",
      "/send c1",
      "/read c1 x",
      "/read c1 1 2",
      "/presence gone",
      "/who",
      "/sub",
      "/history",
      "/typing",
      "{",
      "[1]",
      "/",
    ])
      expect([line, parseInput(line).kind]).toEqual([line, "fault"]);
    expect(parseInput("  ")).toEqual({ kind: "nothing" });
    expect(parseInput("/quit")).toEqual({ kind: "quit" });
    expect(parseInput("/help")).toEqual({ kind: "help" });
    fc.assert(fc.property(fc.string(), (line) => void parseInput(line)));
    fc.assert(fc.property(fc.string(), (line) => void parseInput(`/${line}`)));
    expect(inputHelp()).toContain("/presence away lunch");
  });
});

describe("coming back", () => {
  test("[LOG4] subscriptions come back with the cursor and what was seen after it", () => {
    const at = session();
    at.request({ type: "subscribe", payload: { topics: ["conversation"] } });
    at.receive(subscribed(["conversation:c1", "conversation:c2"], "e.a", "r1"));
    at.receive(event("conversation:c1", 4, 11));
    at.receive({ type: "pong", payload: { cursor: "e.b" } });
    at.receive(event("conversation:c2", 9, 12));
    at.disconnected();
    let isBack = false;
    const requests = at.resume(() => {
      isBack = true;
    });
    expect(requests.map(({ payload }) => payload)).toEqual([
      {
        topics: ["conversation", "conversation:c1", "conversation:c2"],
        since: { cursor: "e.b", seen: { "conversation:c2": 9 } },
      },
    ]);
    // The service's own subscriptions speak of a newer cursor before ours are back: it does not count yet.
    at.receive(subscribed(["user:u1"], "e.k"));
    expect([isBack, at.cursor]).toEqual([false, "e.b"]);
    at.receive(subscribed(["conversation:c1", "conversation:c2"], "e.l", requests[0]!.id as string));
    expect([isBack, at.cursor]).toEqual([true, "e.l"]);
    // Counts what is typed on its own: a script knows the ids of its answers.
    expect(at.request({ type: "ping" }).id).toBe("r2");
  });

  test("[LOG3] an event that was seen before the disconnect is not shown again", () => {
    const at = session();
    expect(at.receive(event("user:u1", 1, 5))).toBe(true);
    expect(at.receive(event("user:u1", 1, 5))).toBe(false);
    // Nor one that was seen before the cursor came which does not speak for it yet.
    at.receive({ type: "pong", payload: { cursor: "e.4" } });
    expect(at.receive(event("user:u1", 1, 5))).toBe(false);
    expect(at.receive(event("user:u1", 2, 6))).toBe(true);
  });

  test("[LOG4] in a log that has gone back numbers begin anew, and its events are shown", () => {
    const at = session();
    // Live before it is said: what came in between is above what is said.
    expect(at.receive(event("user:u1", 8, 50))).toBe(true);
    at.receive(subscribed(["user:u1"], "e.5", undefined, { seq: 7 }));
    expect(at.receive(event("user:u1", 8, 50))).toBe(false);
    at.receive(subscribed(["user:u1", "log"], "f.2", undefined, { recovered: false }));
    expect(at.receive(event("user:u1", 4, 20))).toBe(true);
    expect(at.receive(event("user:u1", 4, 20))).toBe(false);
    expect(at.resume(() => {})[0]!.payload).toMatchObject({ since: { cursor: "f.2" }, topics: ["user:u1", "log"] });
  });

  test("[SUB3] what was given up or taken away is not asked for again", () => {
    const at = session();
    at.request({ type: "subscribe", payload: { topics: ["typing", "conversation:c1"] } });
    at.receive(subscribed(["typing:c1", "conversation:c1"], "e.1", "r1"));
    at.request({ type: "unsubscribe", payload: { topics: ["typing"] } });
    at.receive({ type: "unsubscribed", reply_to: "r2", payload: { topics: ["typing:c1"] } });
    at.receive({ type: "unsubscribed", payload: { topics: ["conversation:c1"], reason: "access_revoked" } });
    expect(at.resume(() => {})).toEqual([]);
  });

  test("[LOG2] requests without an answer go again where that is harmless", () => {
    const at = session();
    at.request({ type: "message.send", payload: { conversation_id: "c1", content: "a" } });
    at.request({ type: "publish", payload: { all: true, type: "x", payload: {} } });
    at.request({ type: "publish", payload: { all: true, type: "x", payload: {}, event_key: "k" } });
    at.request({ type: "ping" });
    at.receive({ type: "pong", reply_to: "r4", payload: {} });
    const { again, lost } = at.disconnected();
    expect([again.map(({ id }) => id), lost.map(({ id }) => id)]).toEqual([["r1", "r3"], ["r2"]]);
  });

  test("[LOG4] the session's own pings are not shown, and one without an answer says that the server is gone", () => {
    const at = session();
    const ping = at.upkeepPing()!;
    expect(at.upkeepPing()).toBeNull();
    expect(at.receive({ type: "pong", reply_to: ping.id, payload: { cursor: "e.3" } })).toBe(false);
    expect([at.cursor, at.upkeepPing()?.type]).toEqual(["e.3", "ping"]);
  });

  test("[ENV5] the range of a close code says whether to come back", () => {
    const delay = (code: number, attempt = 0, announcedMs: number | null = null) =>
      reconnectDelayMs({ code, attempt, announcedMs }, () => 1);
    for (const code of [1000, 4001, 4003, 4004, 4005, 4006, 4010, 4011, 4012, 4099, 4104])
      expect(delay(code)).toBeNull();
    for (const code of [1001, 1006, 1009, 1012, 4100, 4101, 4102]) expect(delay(code)).toBe(500);
    for (const code of [4103, 4105]) expect(delay(code)).toBe(5_500);
    expect([1, 2, 3, 10, 19].map((attempt) => delay(1006, attempt))).toEqual([1_000, 2_000, 4_000, 30_000, 30_000]);
    expect(delay(1006, 20)).toBeNull();
    expect(delay(1012, 0, 1_234)).toBe(1_234);
    expect(reconnectDelayMs({ code: 1006, attempt: 0, announcedMs: null }, () => 0)).toBe(250);
  });
});

describe("lines", () => {
  test("[ENV2] a message is one line that cannot steer the terminal", () => {
    const paint = paintFor({ isTTY: false }, {});
    const line = lineFor(
      { type: "message.new", topic: "conversation:c1", seq: 3, payload: { content: "a\x1b[2J\u009b1m\u202eb 👩‍🚀" } },
      paint,
    );
    expect(line).toBe('message.new conversation:c1 #3 {"content":"a\\u001b[2J\\u009b1m\\u202eb 👩‍🚀"}\n');
    expect(lineFor({ type: "ack", reply_to: "r1", payload: {} }, paint)).toBe("ack (r1) {}\n");
    expect(visible("a\nb")).toBe("a\\u000ab");
  });

  test("[ENV2] everything that is not seen is spelled out, and the text says the same within JSON", () => {
    const codes = [
      0, 7, 10, 13, 27, 127, 128, 0x9b, 0xad, 0x61c, 0x200b, 0x200c, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029,
    ];
    codes.push(0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2060, 0x2066, 0x2067, 0x2068, 0x2069, 0xfeff, 0xe0041, 0xd800);
    for (const code of codes) {
      const text = `a${String.fromCodePoint(code)}b`;
      expect(visible(text)).toMatch(/^a(\\u[0-9a-f]{4}){1,2}b$/);
      expect(JSON.parse(visible(JSON.stringify({ [text]: text })))).toEqual({ [text]: text });
    }
    for (const text of ["plain text", "Grüße, мир, 世界, مرحبا", "👩‍🚀 👨‍👩‍👧 ❤️‍🔥 👩🏽‍💻", "e\u0301"])
      expect(visible(text)).toBe(text);
  });

  test("[ENV2] colours only where there is a terminal and NO_COLOR is not set", () => {
    expect(paintFor({ isTTY: true }, {})("error", "x")).toBe("\x1b[31mx\x1b[0m");
    expect(paintFor({ isTTY: true }, { NO_COLOR: "1" })("error", "x")).toBe("x");
    expect(paintFor({}, {})("error", "x")).toBe("x");
  });
});
