/** Proves how typed lines become requests, and what is remembered of them. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import { ClientError, ServerError } from "../../src/client/errors.ts";
import { type Input, inputHelp, parseInput } from "../../src/commands/connect-input.ts";
import { lineFor, paintFor } from "../../src/commands/connect-print.ts";
import { type Message, TypedRequests } from "../../src/commands/connect-session.ts";
import { type ClientMessageType, clientPayloads } from "../../src/protocol/client.ts";
import { visible } from "../../src/telemetry/visible.ts";

function terminal() {
  const sent: Message[] = [];
  const answers: PromiseWithResolvers<Message>[] = [];
  const lost: object[] = [];
  const typed = new TypedRequests({
    session: {
      ask(_type, _payload, options) {
        sent.push(options!.message!);
        answers.push(Promise.withResolvers());
        return answers.at(-1)!.promise;
      },
      post: (message) => void sent.push(message),
    },
    newId: () => "new",
    onLost: (request) => lost.push(request),
  });
  return { typed, sent, answers, lost };
}

/** The message that goes out for a typed one. */
function completed(typed: Message): any {
  const at = terminal();
  at.typed.send(typed);
  return at.sent[0];
}

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
    const message = completed({ type: input.type, payload: input.payload });
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
    expect(completed({ id: "mine", type: "ping" }).id).toBe("mine");
    expect(completed({ type: "ping" }).id).toBe("r1");
    const typed = { type: "message.send", payload: { client_message_id: "mine", content: "a" } };
    expect(completed(typed).payload).toEqual(typed.payload);
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

describe("what was typed", () => {
  test("[ENV3] is done once each has its answer; an error, a line that was none or an id that no answer can name fails it", async () => {
    const at = terminal();
    expect(at.typed.hasSucceeded).toBe(true);
    at.typed.send({ type: "ping" });
    at.typed.send({ id: "mine", type: "history", payload: { topic: "user:u1" } });
    expect(at.typed.hasSucceeded).toBe(false);
    at.answers[0]!.resolve({});
    at.answers[1]!.resolve({});
    await at.typed.settled();
    expect(at.typed.hasSucceeded).toBe(true);
    at.typed.send({ type: "ping" });
    at.answers[2]!.reject(new ServerError({ code: "forbidden", message: "no", retryable: false }));
    await at.typed.settled();
    expect(at.typed.hasSucceeded).toBe(false);
    const other = terminal();
    other.typed.send({ id: 7, type: "ping" });
    expect([other.sent, other.typed.hasSucceeded]).toEqual([[{ id: 7, type: "ping" }], false]);
  });

  test("[LOG2] is told of where it may have happened or not", async () => {
    const at = terminal();
    at.typed.send({ type: "publish", payload: {} });
    at.answers[0]!.reject(new ClientError("connection_lost"));
    await at.typed.settled();
    expect(at.lost).toEqual([{ id: "r1", type: "publish" }]);
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
