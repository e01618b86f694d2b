/** Weighs the usual messages in each wire format, and times the server's side of them; nothing goes over a socket. */
import { type Codec, jsonCodec } from "../src/protocol/codec.ts";
import type { OutgoingMessage } from "../src/protocol/envelope.ts";
import { protobufCodec, protobufPeer } from "../src/protocol/protobuf/codec.ts";
import { readOptions } from "./support/command-line.ts";
import { present } from "./support/measured.ts";
import { encodeThin, thinCodec } from "./support/thin-envelope.ts";

readOptions({});

type Request = { id: string; type: string; payload: object };

/** The server's codec of a format, and how a client writes its frames. */
const formats: Record<string, { codec: Codec; request: (request: Request) => string | Uint8Array }> = {
  json: { codec: jsonCodec, request: (request) => JSON.stringify(request) },
  protobuf: { codec: protobufCodec, request: protobufPeer.encode },
  thin: { codec: thinCodec, request: encodeThin },
};

const at = 1_795_390_008_194;
const moment = new Date(at).toISOString();
const uuid = (n: number) => `01a20595-6b82-7663-b8fd-${String(n).padStart(12, "0")}`;
const listOf = <Item>(count: number, item: (n: number) => Item) => Array.from({ length: count }, (_, n) => item(n));
const text = "Hello! Shall we meet at the station at six, as the last time? I am bringing the book.";
const cursor = "k7m2x9qd.3mv";
const [user_id, conversation_id, call_id] = ["user-4711", "conversation-815", uuid(7)];
const topic = `conversation:${conversation_id}`;
const sdp = listOf(60, (n) => `a=rtpmap:${96 + n} VP8/90000\r\n`).join("");
const message = (content: unknown) => ({
  message_id: uuid(1),
  client_message_id: uuid(2),
  conversation_id,
  sender_id: user_id,
  content,
  created_at: moment,
});

const outgoing = (type: string, payload: object, more: Partial<OutgoingMessage> = {}): OutgoingMessage => ({
  id: uuid(1),
  type,
  payload: JSON.stringify(payload),
  at,
  ...more,
});
const logged = { topic, seq: 1_300, position: 4_711_000 };
const reply = { replyTo: "42" };

const events = listOf(50, (n) => ({
  id: uuid(n),
  type: "message.new",
  topic,
  seq: 1_300 + n,
  position: 4_711_000 + n,
  timestamp: moment,
  payload: message({ text, lang: "en" }),
}));
const topics = listOf(30, (n) => ({
  topic: `conversation:conversation-${n}`,
  seq: 100 * n,
  snapshot: { read_seq: 100 * n, delivered_seq: 100 * n, unread: 0 },
}));

const sent: OutgoingMessage[] = [
  outgoing("message.new", message(text), logged),
  outgoing(
    "message.new",
    message({ text, lang: "en", marks: [{ from: 0, to: 6, bold: true }], reply_to: uuid(9) }),
    logged,
  ),
  outgoing("message.read", { conversation_id, user_id, message_ids: [uuid(1)], up_to_seq: 1_300, at: moment }, logged),
  outgoing("typing.start", { user_id, conversation_id, expires_at: moment }),
  outgoing("presence.online", { user_id, status: "online", at: moment }),
  outgoing("notification", { title: "Anna has sent you a picture", link: "/c/815", unread: 4 }, logged),
  outgoing("ack", { message_id: uuid(1), ...logged, created_at: moment, duplicate: false }, reply),
  outgoing("subscribed", { topics, rejected: [], cursor }, reply),
  outgoing("history", { topic, events, has_more: true }, reply),
];
const received: Request[] = [
  { id: "42", type: "ping", payload: {} },
  { id: "42", type: "message.send", payload: { conversation_id, client_message_id: uuid(2), content: text } },
  {
    id: "42",
    type: "message.send",
    payload: { conversation_id, client_message_id: uuid(2), content: { text, lang: "en" } },
  },
  { id: "42", type: "mark.read", payload: { conversation_id, up_to_seq: 1_300 } },
  { id: "42", type: "typing.start", payload: { conversation_id } },
  { id: "42", type: "subscribe", payload: { topics: ["conversation", "typing", "presence"], since: { cursor } } },
  { id: "42", type: "call.offer", payload: { call_id, to_user_id: user_id, media: "video", sdp } },
];

const rounds = 60;
const rowsOf = (what: string, frames: Record<string, { bytes: number; run: () => unknown }>) => ({
  frame: what,
  ...Object.fromEntries(Object.entries(frames).map(([format, { bytes }]) => [`${format} B`, bytes])),
  ...Object.fromEntries(quietest(Object.entries(frames).map(([format, { run }]) => [`${format} ns`, run]))),
});

/** The least time of many short rounds, of all formats in turn: what else the machine does only adds to it. */
function quietest(runs: [name: string, run: () => unknown][]): [name: string, ns: number][] {
  const least = runs.map(() => Infinity);
  for (let round = 0; round < rounds; round++) {
    for (const [index, [, run]] of runs.entries()) {
      const count = round < 3 ? 2_000 : Math.max(20, Math.ceil(1_000_000 / least[index]!));
      const startedAt = Bun.nanoseconds();
      for (let n = 0; n < count; n++) run();
      const ns = (Bun.nanoseconds() - startedAt) / count;
      if (ns < least[index]!) least[index] = ns;
    }
  }
  return runs.map(([name], index) => [name, Math.round(least[index]!)]);
}

const sizeOf = (frame: string | Uint8Array) => Buffer.byteLength(frame);
const mapFormats = <To>(map: (format: (typeof formats)[string]) => To) =>
  Object.fromEntries(Object.entries(formats).map(([name, format]) => [name, map(format)]));

present("wire-formats", [
  ...sent.map((it) =>
    rowsOf(
      `encode ${it.type}`,
      mapFormats(({ codec }) => ({ bytes: sizeOf(codec.encode(it)), run: () => codec.encode(it) })),
    ),
  ),
  ...received.map((it) =>
    rowsOf(
      `decode ${it.type}`,
      mapFormats(({ codec, request }) => {
        const frame = request(it);
        return { bytes: sizeOf(frame), run: () => codec.decode(frame) };
      }),
    ),
  ),
]);
