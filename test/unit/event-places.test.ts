/** A position of the log is found in a topic by the numbers of its events, whatever is missing between them. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { EventLogTables } from "../../src/storage/sqlite/event-log.ts";
import { prepareEventLog } from "../../src/storage/sqlite/event-log-statements.ts";
import { firstAfter, lastAtOrBefore } from "../../src/storage/sqlite/event-places.ts";
import { PreparedDatabase } from "../../src/storage/sqlite/prepared-database.ts";
import { migrate, migrations } from "../../src/storage/sqlite/schema.ts";
import { newEvent, newEvents } from "../support/new-event.ts";

const seed = Number(Bun.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

function drawing() {
  let state = seed;
  return (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test(`[LOG5] the event after a position is found, and the one before, as TEST_SEED=${seed} has them`, () => {
  using database = new PreparedDatabase(":memory:");
  migrate(database);
  const log = new EventLogTables(database);
  const draw = drawing();
  for (let n = 0; n < 60; n++) log.append(newEvents(draw(3) === 0 ? "user:ann" : "user:bob", 1 + draw(60)));
  const end = log.watermark();
  const gone = Array.from({ length: end }, (_, index) => index + 1).filter(() => draw(3) === 0);
  const stretch = draw(end);
  for (let position = stretch; position < stretch + 200; position++) gone.push(position);
  database.query("DELETE FROM events WHERE position IN (SELECT value FROM json_each(?))").run(JSON.stringify(gone));
  const sql = prepareEventLog(database);
  for (const topic of ["user:ann", "user:bob"]) {
    const row = sql.topic.get(topic)!;
    const { events } = log.page({ topic, afterSeq: 0, limit: end });
    expect(events.length).toBeGreaterThan(20);
    for (let position = 0; position <= end; position++) {
      const after = events.find((event) => event.position > position);
      const before = events.findLast((event) => event.position <= position);
      expect(firstAfter(sql, row, position)?.seq).toBe(after?.seq);
      expect(lastAtOrBefore(sql, row, position)?.seq).toBe(before?.seq);
    }
  }
});

test("[LOG1] the log ends where it did although its last events are gone, and after the upgrade", () => {
  using database = new PreparedDatabase(":memory:");
  for (const step of migrations.slice(0, 16)) database.exec(step);
  database.exec(
    "INSERT INTO topics VALUES (1, 'user:ann', 7, 9, 0, 0); UPDATE log_state SET removed = 9; PRAGMA user_version = 16",
  );
  expect(migrate(database)).toEqual({ from: 16, to: migrations.length });
  const log = new EventLogTables(database);
  expect(log.watermark()).toBe(9);
  expect(log.append([newEvent("user:ann")]).appended).toMatchObject([{ seq: 8, position: 10 }]);
  log.append(newEvents("user:bob", 3));
  const policy = { createdBefore: Number.MAX_SAFE_INTEGER, eventsPerTopic: 9, batch: 100 };
  expect(log.trim(policy, Number.MAX_SAFE_INTEGER)).toEqual({ removed: 4, more: false });
  expect(log.watermark()).toBe(13);
  expect(log.stats()).toMatchObject({ events: 0, position: 13 });
  expect(log.append([newEvent("user:bob")]).appended).toMatchObject([{ seq: 4, position: 14 }]);
});

test("[LOG7] every topic is looked at once for having too many events, however few go at a time, and again once it has moved", () => {
  using database = new Database(":memory:");
  migrate(database);
  const log = new EventLogTables(database);
  const topics = Array.from({ length: 25 }, (_, n) => `user:u${n}`);
  for (const topic of topics) log.append(newEvents(topic, 4));
  const trim = () => {
    let removed = 0;
    for (let more = true; more; ) {
      const done = log.trim({ createdBefore: 0, eventsPerTopic: 2, batch: 7 }, 0);
      removed += done.removed;
      ({ more } = done);
    }
    return removed;
  };
  expect(trim()).toBe(50);
  expect(trim()).toBe(0);
  log.append([newEvent(topics[3]!), newEvent(topics[9]!), newEvent(topics[3]!)]);
  expect(trim()).toBe(3);
  for (const topic of topics) expect(log.page({ topic, limit: 10 }).events).toHaveLength(2);
});

test("[REC3] the last message is found below whatever was said after it, and after the upgrade", () => {
  using database = new PreparedDatabase(":memory:");
  migrate(database);
  const log = new EventLogTables(database);
  const last = () => {
    const row = prepareEventLog(database).topic.get("conversation:c1")!;
    return row.messageSeq;
  };
  log.append([newEvent("conversation:c1", { senderId: "ann" }), newEvent("conversation:c1")]);
  expect(last()).toBe(1);
  log.append([newEvent("conversation:c1", { senderId: "bob" }), ...newEvents("conversation:c1", 3)]);
  expect(last()).toBe(3);
});
