/** The append statement alone: a loop that does nothing but hand batches to the engine, one after the other. */

import { contentDigest } from "../../src/broadcast/idempotency-key.ts";
import type { NewEvent } from "../../src/storage/ports.ts";
import { closeConnection, openConnection } from "../../src/storage/postgres/connection.ts";
import { appendParameters, appendStatement } from "../../src/storage/postgres/event-log-append.ts";
import { openEngine } from "../../src/storage/sqlite/engine.ts";

export interface BareAppend {
  /** Appends batches of one size for so long. @returns events a second */
  run(round: { batch: number; forMs: number }): Promise<number>;
  stop(): Promise<void>;
}

/** The same SQL function that the service calls, over the same client, with events of the same size. */
export function bareAppendPostgres(url: string): BareAppend {
  const { sql } = openConnection({ url, connectTimeoutMs: 5_000, statementTimeoutMs: 0 });
  const text = appendStatement("ws");
  async function append(events: NewEvent[]) {
    await sql.unsafe(text, appendParameters(events), { prepare: true });
  }
  return { run: (round) => appendFor(round, append), stop: () => closeConnection(sql) };
}

/** The same statements on the same schema, in this thread instead of a Worker. */
export function bareAppendSqlite(path: string): BareAppend {
  const engine = openEngine({ path, durability: "process", busyTimeoutMs: 5_000 });
  const append = async (events: NewEvent[]) => void engine.operations.append(events);
  return { run: (round) => appendFor(round, append), stop: async () => engine.close() };
}

async function appendFor(
  { batch, forMs }: { batch: number; forMs: number },
  append: (events: NewEvent[]) => Promise<void>,
): Promise<number> {
  const startedAt = performance.now();
  let events = 0;
  while (performance.now() - startedAt < forMs) {
    await append(
      Array.from({ length: batch }, (_, index) =>
        newMessage({ sender: `user-${index}`, conversation: `c${Math.floor(index / 10)}` }),
      ),
    );
    events += batch;
  }
  return (events * 1_000) / (performance.now() - startedAt);
}

/** As `message.send` makes them of what the senders send. */
export function newMessage({ sender, conversation }: { sender: string; conversation: string }): NewEvent {
  const id = Bun.randomUUIDv7();
  const createdAt = Date.now();
  const message = {
    message_id: id,
    client_message_id: id.slice(0, 14),
    conversation_id: conversation,
    sender_id: sender,
    content: "hello ".repeat(20),
    created_at: new Date(createdAt).toISOString(),
  };
  return {
    id,
    topic: `conversation:${conversation}`,
    type: "message.new",
    payload: JSON.stringify(message),
    createdAt,
    senderId: sender,
    once: { keys: [`sent:${sender}:${conversation}:${id}`], digest: contentDigest(message.content) },
  };
}
