/** Proves how entries of an inbox come to the log: in parts that it can carry, and on from where it failed [PUB2]. */
import { expect, test } from "bun:test";
import { createIngest } from "../../src/ingest/ingest.ts";
import type { Inbox, InboxEntry } from "../../src/storage/inbox.ts";
import type { AppendedEvent, NewEvent } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";

const users = Array.from({ length: 20 }, (_, n) => `u${n}`);
const entry = (id: string, text: string): InboxEntry => ({
  id,
  key: `test:${id}`,
  fields: { user_ids: JSON.stringify(users), type: "order.changed", payload: JSON.stringify({ id, text }) },
});

/** An inbox that holds what it was given until it is removed. */
function createInbox(entries: InboxEntry[]) {
  const emptied = Promise.withResolvers<void>();
  const inbox: Inbox = {
    name: "outbox",
    start: async () => {},
    take: async () => [...entries],
    async remove(ids) {
      entries = entries.filter(({ id }) => !ids.includes(id));
      if (entries.length === 0) emptied.resolve();
    },
    reject: ([first]) => Promise.reject(new Error(first!.reason)),
    wait: (signal) => new Promise((resolve) => signal.addEventListener("abort", () => resolve())),
    lag: async () => ({ entries: entries.length, oldestMs: 0 }),
    stop: async () => {},
  };
  return { inbox, emptied: emptied.promise };
}

/** Publishes entries into a log of its own; what `onAppend` throws the log has thrown. */
async function publishAll(
  entries: InboxEntry[],
  onAppend: (events: NewEvent[]) => void = () => {},
  tell: (msg: string) => void = () => {},
) {
  const storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  const appendAll = async (events: NewEvent[]): Promise<AppendedEvent[]> => {
    onAppend(events);
    return (await storage.log.append(events)).appended;
  };
  const { inbox, emptied } = createInbox(entries);
  const told = (_: unknown, msg?: string) => tell(msg!);
  const ingest = createIngest([inbox], {
    publisher: { appendAll },
    payloadBytesMax: 10 * 1024 * 1024,
    now: () => 0,
    newId: () => crypto.randomUUID(),
    logger: { info: told, warn: told, error() {} },
    retryDelayMs: 1,
  });
  await ingest.start();
  await emptied;
  await ingest.stop();
  return storage;
}

test("[PUB2] [LOG1] a large entry for many users is appended in parts, and goes on where the log failed", async () => {
  const sizes: number[] = [];
  const storage = await publishAll([entry("large", "x".repeat(1024 * 1024)), entry("small", "y")], (events) => {
    sizes.push(events.reduce((sum, { payload }) => sum + payload.length, 0));
    if (sizes.length === 2) throw new Error("away");
  });
  for (const size of sizes) expect(size).toBeLessThanOrEqual(8 * 1024 * 1024);
  for (const user of users) {
    const { events } = await storage.log.page({ topic: `user:${user}`, limit: 10 });
    expect(events.map(({ payload }) => JSON.parse(payload).id)).toEqual(["large", "small"]);
  }
  await storage.stop();
});

test("[PUB2] ingest says that it is here once it has published, and not for as long as the log refuses", async () => {
  const lines: string[] = [];
  let refusals = 0;
  const refuse = () => {
    if (++refusals <= 3) throw new Error("away");
  };
  const storage = await publishAll([entry("e1", "x")], refuse, (line) => lines.push(line));
  expect(lines).toEqual(["ingest waits", "ingest is here now", "ingest goes on"]);
  await storage.stop();
});

test("[PUB2] [LOG2] keys of two topics are two keys, whatever colons are in them", async () => {
  const keyed = (topic: string, event_key: string): InboxEntry => ({
    id: topic,
    key: `test:${topic}`,
    fields: { topic, type: "order.paid", payload: "{}", event_key },
  });
  const topics = ["conversation:shop", "conversation:shop:42"];
  const storage = await publishAll([keyed(topics[0]!, "42:paid"), keyed(topics[1]!, "paid")]);
  const heads = await storage.log.heads(topics);
  expect(topics.map((topic) => heads.get(topic)!.seq)).toEqual([1, 1]);
  await storage.stop();
});
