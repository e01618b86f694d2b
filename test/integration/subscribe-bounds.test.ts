/** Proves that what a subscription costs is bounded before it is asked of the storage, and dropped with its connection [SUB1]. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { subprotocols } from "../../src/protocol/limits.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  service = await startService({
    settings: { DIRECTORY__MODE: "managed", PRESENCE__WATCH_MAX: "20", LOG__LEVEL: "debug" },
  });
  using database = new Database(join(service.folder, "data/ws-service.db"));
  const add = database.prepare("INSERT INTO members (conversation_id, user_id) VALUES (?, ?)");
  database.transaction(() => {
    for (const user of ["anna", "ben", "carl"]) database.run("INSERT INTO users (user_id) VALUES (?)", [user]);
    for (let n = 0; n < 19; n++) add.run("full", `full${n}`);
    for (let n = 0; n < 20; n++) add.run("crowded", `crowded${n}`);
    for (const conversation of ["full", "crowded", "small"]) add.run(conversation, "anna");
    for (const user of ["ben", "carl"]) add.run("small", user);
  })();
});
afterAll(() => service.stop());
const { connect } = createPeople(() => service.url);
const topicsIn = (payload: any): string[] => payload.topics.map(({ topic }: any) => topic).sort();

test("[SUB1] a conversation's members are watched by its id up to presence.watch_max, and are left all the same", async () => {
  for (const protocols of Object.values(subprotocols)) {
    const anna = await connect("anna", { device_id: fresh("d") }, { protocols: [protocols] });
    const filters = { conversation_ids: ["full", "crowded", "small"] };
    const answer = await anna.ask("subscribe", { topics: ["presence"], filters });
    expect(answer.topics).toHaveLength(19 + 2);
    expect(answer.rejected).toEqual([{ topic: "presence", code: "limit_exceeded", conversation_id: "crowded" }]);
    expect(answer.rejected_count).toBe(1);
    const left = await anna.ask("unsubscribe", { topics: ["presence"], filters });
    expect(left.topics.toSorted()).toEqual(topicsIn(answer));
  }
});

test("[SUB1] names that stand twice count once", async () => {
  const anna = await connect("anna");
  const topics = Array.from({ length: 1_000 }, (_, n) => (n % 2 === 0 ? "presence" : "conversation:none"));
  const answer = await anna.ask("subscribe", { topics, filters: { conversation_id: "small" } });
  expect(topicsIn(answer)).toEqual(["presence:ben", "presence:carl"]);
  expect(answer.rejected).toEqual([{ topic: "conversation:none", code: "forbidden" }]);
});

test("[SUB1] an answer lists at most 100 of what is refused, and counts all", async () => {
  const anna = await connect("anna");
  const topics = Array.from({ length: 150 }, (_, n) => `conversation:none${n}`);
  const answer = await anna.ask("subscribe", { topics: [...topics, "conversation:small"] });
  expect(topicsIn(answer)).toEqual(["conversation:small"]);
  expect(answer.rejected).toEqual(topics.slice(0, 100).map((topic) => ({ topic, code: "forbidden" })));
  expect(answer.rejected_count).toBe(150);
});

test("[SUB1] a filter that nothing can use, and what is no filter, are faults with their paths", async () => {
  for (const protocols of Object.values(subprotocols)) {
    for (const type of ["subscribe", "unsubscribe"]) {
      // Each its own: ten bad messages in a minute close a connection.
      const anna = await connect("anna", { device_id: fresh("d") }, { protocols: [protocols] });
      const faultOf = async (topics: string[], filters: object) => {
        const { payload } = await anna.request(type, { topics, filters });
        return payload.code === "invalid_payload" ? payload.field : payload.code;
      };
      expect(await faultOf(["user", "conversation:small"], { conversation_id: "small" })).toBe(
        "payload.filters.conversation_id",
      );
      expect(await faultOf(["calls"], { conversation_ids: ["small"] })).toBe("payload.filters.conversation_ids");
      expect(await faultOf(["conversation", "typing"], { user_id: "ben" })).toBe("payload.filters.user_id");
      expect(await faultOf(["presence:ben"], { user_ids: ["ben"] })).toBe("payload.filters.user_ids");
      expect(await faultOf(["conversation"], { conversation: "small" })).toBe("payload.filters.conversation");
      expect(await faultOf(["conversation"], { constructor: "small" })).toBe("payload.filters.constructor");
      expect(await faultOf(["conversation", "presence"], { conversation_id: "small", user_id: "ben" })).toBeUndefined();
      expect(await faultOf(["presence"], {})).toBeUndefined();
    }
  }
});

test("[SUB1] [ENV7] what only asks is dropped with its connection; what was sent takes effect", async () => {
  const ben = await connect("ben");
  await ben.ask("subscribe", { topics: ["conversation:small"] });
  const carl = await connect("carl");
  const { connection_id } = (await carl.next("connected")).payload;
  const send = () =>
    carl.send("message.send", { conversation_id: "small", client_message_id: fresh("m"), content: "last" });
  send();
  for (let n = 0; n < 40; n++) carl.send("history", { topic: "conversation:small" });
  for (let n = 0; n < 10; n++) carl.send("subscribe", { topics: ["conversation", "typing", "presence"] });
  send();
  await carl.close();
  const arrived = () => (ben.all("message.new").length === 2 ? true : undefined);
  await ben.until(arrived);
  await service.logged((line) => line.msg === "disconnected" && line.connection_id === connection_id);
  const handled = service.logs.filter(
    (line) => line.msg === "message received" && line.connection_id === connection_id,
  );
  expect(handled.filter(({ type }) => type === "message.send")).toHaveLength(2);
  // The first ones may have been taken up while the end was still on its way.
  expect(handled.filter(({ type }) => type === "history" || type === "subscribe").length).toBeLessThan(50);
});
