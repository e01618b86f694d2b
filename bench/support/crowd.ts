/** Gathers who is there when one user asks for all that it may: its conversations, people, large messages; for the server that has them and for who asks. */
import type { NewEvent, Storage } from "../../src/storage/ports.ts";

/** Conversations of each user that asks for too much. */
export const manyConversations = 5_000;
const crowdSize = 50_000;
export const list = (count: number, name: (index: number) => string, from = 0): string[] =>
  Array.from({ length: count }, (_, index) => name(from + index));

const membersAtOnce = 10_000;
const conversationsAtOnce = 8;

/** Makes what the demanding users are members of: `big-<n>` with one other each, `crowd` with everybody, and what holds messages. */
export async function gatherCrowd({ directory, log }: Storage, demanding: string[]): Promise<void> {
  const people = list(crowdSize, (index) => `peer-${index}`);
  await directory.upsertUsers(demanding);
  for (let start = 0; start < people.length; start += membersAtOnce)
    await directory.addMembers("crowd", people.slice(start, start + membersAtOnce));
  for (const conversation of ["crowd", "large", "huge", "many"])
    await directory.addMembers(conversation, [...demanding, "peer-0"]);
  for (let start = 0; start < manyConversations; start += conversationsAtOnce) {
    const indexes = Array.from({ length: conversationsAtOnce }, (_, index) => start + index);
    await Promise.all(indexes.map((index) => directory.addMembers(`big-${index}`, [...demanding, `peer-${index}`])));
  }
  const append = (events: NewEvent[]) => log.append(events);
  for (let page = 0; page < 10; page++)
    await append(list(20, (n) => `large-${n}`, page * 20).map((id) => newEvent("large", id, "x".repeat(50_000))));
  await append([newEvent("huge", "huge-0", worstContent(9.5e6))]);
  await append(list(1_000, (n) => `many-${n}`).map((id) => newEvent("many", id, "hello")));
  for (let start = 0; start < manyConversations; start += 500)
    await append(list(500, (n) => `big-${n}`, start).map((name) => newEvent(name, `in-${name}`, "hello")));
}

/** Values that a message may have, with some room. */
const valuesMax = 48_000;

/** Content of about so many bytes that takes as long to read as any that is allowed. */
export const worstContent = (bytes: number) => ({
  a: Array.from({ length: valuesMax / 2 }, () => ({ b: 1 })),
  text: '\n"'.repeat((bytes - valuesMax * 4) / 4),
});

function newEvent(conversation: string, id: string, content: string | object): NewEvent {
  const message = { message_id: id, conversation_id: conversation, sender_id: "peer-0", content };
  const payload = JSON.stringify(message);
  const topic = `conversation:${conversation}`;
  return { id, topic, type: "message.new", payload, createdAt: Date.now(), senderId: "peer-0" };
}
