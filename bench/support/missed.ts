/** Makes who was away and what was logged meanwhile, the same for the server that has it and the clients that ask for it. */
import type { NewEvent, Storage } from "../../src/storage/ports.ts";

export interface Missed {
  clients: number;
  /** Clients that share their topics. */
  groupSize: number;
  topicsEach: number;
  /** Events that each client has missed, over all its topics. */
  eventsEach: number;
}

export const conversationsOf = (client: number, { groupSize, topicsEach }: Missed): string[] =>
  Array.from({ length: topicsEach }, (_, topic) => `g${Math.floor(client / groupSize)}-${topic}`);

const batchMax = 500;

/** Members, as many events as were missed before they left, and those that they missed. @returns where they left */
export async function logMissed(storage: Storage, missed: Missed): Promise<{ cursor: string }> {
  const groups = Math.ceil(missed.clients / missed.groupSize);
  const members = (group: number) =>
    Array.from({ length: missed.groupSize }, (_, member) => `user-${group * missed.groupSize + member}`);
  await storage.directory.upsertUsers(Array.from({ length: missed.clients }, (_, client) => `user-${client}`));
  const events: NewEvent[] = [];
  for (let group = 0; group < groups; group++) {
    const conversations = conversationsOf(group * missed.groupSize, missed);
    for (const conversation of conversations) await storage.directory.addMembers(conversation, members(group));
    for (let event = 0; event < missed.eventsEach; event++)
      events.push(newEvent(conversations[event % conversations.length]!, members(group)[0]!));
  }
  await appendAll(storage, events);
  const cursor = storage.log.epochs.cursorOf(await storage.log.watermark());
  await appendAll(
    storage,
    events.map((event) => newEvent(event.topic.slice("conversation:".length), event.senderId!)),
  );
  return { cursor };
}

async function appendAll(storage: Storage, events: NewEvent[]): Promise<void> {
  for (let start = 0; start < events.length; start += batchMax)
    await storage.log.append(events.slice(start, start + batchMax));
}

function newEvent(conversation: string, senderId: string): NewEvent {
  const id = Bun.randomUUIDv7();
  const createdAt = Date.now();
  const message = { message_id: id, conversation_id: conversation, sender_id: senderId, content: "hello ".repeat(20) };
  const topic = `conversation:${conversation}`;
  return { id, topic, type: "message.new", payload: JSON.stringify(message), createdAt, senderId };
}
