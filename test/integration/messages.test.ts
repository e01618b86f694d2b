/** Proves sending messages over real sockets. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

describe("sending", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService();
  });
  afterAll(() => service.stop());
  const { connect, gather } = createPeople(() => service.url);

  test("[MSG1] what is sent is what members get, and the ack says where it is", async () => {
    const c = fresh("c");
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    for (const content of [
      "text",
      "",
      "ü 👋 \u0000 \u2028",
      { blocks: [{ kind: "image", size: [1, 2.5] }], extra: null },
    ]) {
      const client_message_id = fresh("m");
      const ack = await anna!.ask("message.send", { conversation_id: c, client_message_id, content });
      expect(ack).toEqual({
        message_id: expect.any(String),
        topic: `conversation:${c}`,
        seq: expect.any(Number),
        position: expect.any(Number),
        created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        duplicate: false,
      });
      const { message_id, topic, seq, position, created_at } = ack;
      const message = await ben!.next("message.new", (payload) => payload.client_message_id === client_message_id);
      expect(message).toEqual({
        id: message_id,
        type: "message.new",
        topic,
        seq,
        position,
        timestamp: created_at,
        payload: {
          message_id,
          client_message_id,
          conversation_id: c,
          sender_id: (await anna!.next("connected")).payload.user_id,
          content,
          created_at,
        },
      });
    }
  });

  test("[MSG1] a sender need not be subscribed, and only subscribers hear", async () => {
    const c = fresh("c");
    const [ben] = await gather(c, [fresh("ben")]);
    const [anna, silent] = await Promise.all([connect(fresh("anna")), connect(fresh("silent"))]);
    await silent.ask("message.send", { conversation_id: c, client_message_id: "m0", content: "here too" });
    await anna.ask("message.send", { conversation_id: c, client_message_id: "m1", content: "hello" });
    await Promise.all([ben!.settled(), silent.settled()]);
    expect(ben!.all("message.new").map(({ seq }) => seq)).toEqual([1, 2]);
    expect(silent.all("message.new")).toEqual([]);
  });

  test("[MSG1] a message of one megabyte arrives whole", async () => {
    const c = fresh("c");
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    const content = "0123456789abcdef".repeat(65_536);
    await anna!.ask("message.send", { conversation_id: c, client_message_id: "big", content });
    expect((await ben!.next("message.new")).payload.content).toBe(content);
  });

  test("[MSG1] each field is checked", async () => {
    const anna = await connect(fresh("anna"));
    const good = { conversation_id: fresh("c"), client_message_id: "m1", content: "hello" };
    for (const [field, values] of Object.entries({
      conversation_id: [undefined, "", "with space", "x".repeat(129), 7],
      client_message_id: [undefined, "", "x".repeat(129)],
      content: [undefined, 7, null, ["list"]],
    })) {
      // A client may send nine messages that make no sense in a minute; each kind of fault gets a fresh one.
      const sender = await connect(fresh("anna"));
      for (const value of values) {
        const { payload } = await sender.request("message.send", { ...good, [field]: value });
        expect(payload).toMatchObject({ code: "invalid_payload", field: `payload.${field}`, retryable: false });
      }
    }
    expect(await anna.ask("message.send", good)).toMatchObject({ seq: 1 });
  });
});

describe("managed directory", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({ settings: { DIRECTORY__MODE: "managed" } });
    using database = new Database(join(service.folder, "data/ws-service.db"));
    database.exec("INSERT INTO users (user_id) VALUES ('anna'), ('ben')");
    database.exec("INSERT INTO members (conversation_id, user_id) VALUES ('bens', 'ben')");
  });
  afterAll(() => service.stop());
  const { connect } = createPeople(() => service.url);

  test("[MSG1] only members send, and a conversation that is missing looks like one that is forbidden", async () => {
    const [anna, ben] = await Promise.all([connect("anna"), connect("ben")]);
    const refusals = await Promise.all(
      ["bens", "missing"].map((conversation_id) =>
        anna.request("message.send", { conversation_id, client_message_id: conversation_id, content: "hello" }),
      ),
    );
    expect(refusals[0]!.payload).toMatchObject({ code: "forbidden", retryable: false });
    expect(refusals[1]!.payload).toEqual(refusals[0]!.payload);
    for (const type of ["typing.start", "mark.read", "mark.delivered"]) {
      const both = await Promise.all(
        ["bens", "missing"].map((conversation_id) =>
          anna.request(type, { conversation_id, ...(type === "typing.start" ? {} : { up_to_seq: 1 }) }),
        ),
      );
      expect(both[0]!.payload).toMatchObject({ code: "forbidden" });
      expect(both[1]!.payload).toEqual(both[0]!.payload);
    }
    expect(
      await ben.ask("message.send", { conversation_id: "bens", client_message_id: "m1", content: "" }),
    ).toMatchObject({
      seq: 1,
    });
  });
});

describe("a backend owns sending", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({ settings: { MESSAGES__ACCEPT: "false" } });
  });
  afterAll(() => service.stop());
  const { gather, backend } = createPeople(() => service.url);

  test("[MSG1] messages.accept: false turns sending off; what the backend publishes is heard, read and counted", async () => {
    const c = fresh("c");
    const [anna, ben] = await gather(c, ["anna", "ben"]);
    const refused = await anna!.request("message.send", { conversation_id: c, client_message_id: "m1", content: "hi" });
    expect(refused.payload.code).toBe("forbidden");
    const message = {
      message_id: "app-1",
      client_message_id: "m1",
      conversation_id: c,
      sender_id: "anna",
      content: "hi",
      created_at: "2026-01-02T03:04:05.678Z",
    };
    await (await backend()).ask("publish", { conversation_id: c, type: "message.new", payload: message });
    expect((await ben!.next("message.new")).payload).toEqual(message);
    await ben!.ask("unsubscribe", { topics: [`conversation:${c}`] });
    const { topics } = await ben!.ask("subscribe", { topics: [`conversation:${c}`] });
    expect(topics[0].snapshot).toMatchObject({ unread: 1 });
    expect(await ben!.ask("mark.read", { conversation_id: c, message_ids: ["app-1"] })).toMatchObject({ up_to_seq: 1 });
    expect((await anna!.next("message.read")).payload.message_ids).toEqual(["app-1"]);
    // Nor is it changed by others than the backend [MSG2] [MSG3].
    const change = { conversation_id: c, message_id: "app-1", content: "hi!", reaction: "👍" };
    for (const type of ["message.edit", "message.delete", "reaction.add", "reaction.remove"])
      expect((await anna!.request(type, change)).payload.code).toBe("forbidden");
    await (await backend()).ask("message.edit", change);
    expect((await anna!.next("message.edited")).payload.content).toBe("hi!");
  });
});
