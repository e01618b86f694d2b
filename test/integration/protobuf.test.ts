/** Proves the protobuf subprotocol on a running service, beside JSON clients. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import { protobufPeer } from "../../src/protocol/protobuf/codec.ts";
import { Client } from "../support/client.ts";
import { type Service, startService } from "../support/service.ts";

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());

type Message = Record<string, unknown> & { payload: Record<string, unknown> };

/** A client that speaks protobuf only; a text frame from the server fails what waits. */
async function connect(userId: string) {
  const socket = new WebSocket(`${service.url}?user_id=${userId}`, [subprotocols.protobuf]);
  socket.binaryType = "arraybuffer";
  const received: Message[] = [];
  const watchers = new Set<() => void>();
  const notify = () => {
    for (const watcher of [...watchers]) watcher();
  };
  let failure: Error | null = null;
  socket.addEventListener("message", ({ data }) => {
    if (typeof data === "string") failure = new Error(`a text frame: ${data}`);
    else received.push(protobufPeer.decode(new Uint8Array(data)) as Message);
    notify();
  });
  socket.addEventListener("close", ({ code }) => {
    failure ??= new Error(`closed with ${code}`);
    notify();
  });
  const until = (matches: (message: Message) => boolean) =>
    new Promise<Message>((resolve, reject) => {
      const look = () => {
        const found = received.find(matches);
        if (found === undefined && failure === null) return;
        watchers.delete(look);
        if (found !== undefined) resolve(found);
        else reject(failure);
      };
      watchers.add(look);
      look();
    });
  await until(({ type }) => type === "connected");
  return {
    socket,
    until,
    ask(id: string, type: string, payload: Record<string, unknown>) {
      socket.send(protobufPeer.encode({ id, type, payload }));
      return until(({ reply_to }) => reply_to === id);
    },
  };
}

test("[CON4] protobuf and JSON clients talk to each other and see the same", async () => {
  const anna = await connect("anna");
  expect(anna.socket.protocol).toBe(subprotocols.protobuf);
  const ben = await Client.connect(service.url, { query: { user_id: "ben" } });
  const subscribed = await anna.ask("r1", "subscribe", { topics: ["conversation:c1"] });
  expect(subscribed.payload.topics).toEqual([expect.objectContaining({ topic: "conversation:c1" })]);
  await ben.ask("subscribe", { topics: ["conversation:c1"] });
  const content = { text: "hello", marks: [1, null, { bold: true }] };
  const ack = await anna.ask("r2", "message.send", { conversation_id: "c1", client_message_id: "m1", content });
  const seen = await ben.next("message.new");
  expect(seen.payload.content).toEqual(content);
  expect(ack.payload).toMatchObject({ message_id: seen.id, seq: seen.seq, position: seen.position, duplicate: false });
  await ben.ask("message.send", { conversation_id: "c1", client_message_id: "m2", content: "hi" });
  const answer = await anna.until(({ type }) => type === "message.new");
  expect(answer).toMatchObject({ topic: "conversation:c1", seq: 2, payload: { sender_id: "ben", content: "hi" } });
  const history = await anna.ask("r3", "history", { topic: "conversation:c1" });
  expect(history.payload.events).toMatchObject([{ payload: { content } }, { payload: { content: "hi" } }]);
});

test("[CON4] [ENV3] [ENV4] what is no ClientFrame is answered with an error, in protobuf, and the connection stays", async () => {
  const anna = await connect("anna2");
  anna.socket.send(new Uint8Array([255, 255, 255]));
  const error = await anna.until(({ type }) => type === "error");
  expect(error.payload).toMatchObject({ code: "invalid_message", retryable: false });
  expect(await anna.ask("r1", "ping", {})).toMatchObject({ type: "pong" });
  const unknown = await anna.ask("r2", "no.such.type", {});
  expect(unknown.payload).toMatchObject({ code: "unknown_type" });
  const invalid = await anna.ask("r3", "ack", { cursor: 4711 });
  expect(invalid.payload).toMatchObject({ code: "invalid_payload", field: "payload.cursor" });
  // A payload of another type: whoever waits by the id is answered all the same.
  const frame = protobufPeer.encode({ id: "r4", type: "history", payload: { topic: "conversation:c1" } });
  const text = Buffer.from(frame).toString("latin1").replace("history", "typing.");
  anna.socket.send(new Uint8Array(Buffer.from(text, "latin1")));
  const refused = await anna.until(({ reply_to }) => reply_to === "r4");
  expect(refused.payload).toMatchObject({ code: "invalid_message" });
});
