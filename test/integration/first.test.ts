/** The first exchange: two devices of two users talk. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Client } from "../support/client.ts";
import { type Service, startService } from "../support/service.ts";

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());

test("[MSG1] [SUB6] a message reaches the other member once, its sender gets the ack", async () => {
  const [anna, ben] = await Promise.all(
    ["anna", "ben"].map((user_id) => Client.connect(service.url, { query: { user_id } })),
  );
  await anna!.ask("subscribe", { topics: ["conversation"], filters: { conversation_id: "c1" } });
  await ben!.ask("subscribe", { topics: ["conversation"], filters: { conversation_id: "c1" } });
  const ack = await anna!.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hello" });
  const message = await ben!.next("message.new");
  expect(message).toMatchObject({ topic: "conversation:c1", seq: ack.seq, position: ack.position, id: ack.message_id });
  expect(message.payload).toMatchObject({ sender_id: "anna", content: "hello", client_message_id: "m1" });
  await anna!.settled();
  expect(anna!.all("message.new")).toEqual([]);
});
