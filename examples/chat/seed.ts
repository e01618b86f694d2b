/** Fills a fresh service as an application's backend does: who there is, who talks to whom, what was said, how far each has read. */
import { Client } from "ws-service/client";
import { readHistory, type Said } from "./history.ts";
import { people, rooms } from "./src/people.ts";

/** Messages at the end of a conversation that somebody has not seen yet. */
const unseen: Record<string, Record<string, number>> = {
  anna: { "anna-ben": 2, weekend: 4 },
  ben: { weekend: 1, "ben-elin": 1 },
};

export async function seed(url: string): Promise<void> {
  const backend = new Client({ url: `${url}?roles=service,admin`, userId: "backend" });
  backend.start();
  const userIds = people.map(({ id }) => id);
  await backend.request("admin.users.upsert", { user_ids: [...userIds, "backend"] });
  for (const { id, members, writers } of rooms) {
    await backend.request("admin.members.add", { conversation_id: id, user_ids: [...members] });
    for (const user_id of members.filter((it) => writers?.includes(it) === false))
      await backend.request("admin.members.update", { conversation_id: id, user_id, may_write: false });
  }
  const history = readHistory(Date.now());
  const seqs = await Promise.all(history.map((said) => publish(backend, said)));
  for (const said of history) await change(backend, said);
  backend.stop();
  const placed = history.map((said, at) => ({ ...said, seq: seqs[at]! }));
  await Promise.all(userIds.map((userId) => read(new Client({ url, userId, deviceId: "seed" }), userId, placed)));
}

async function publish(backend: Client, { id, conversationId, senderId, text, at }: Said): Promise<number> {
  const payload = { message_id: id, sender_id: senderId, content: text, created_at: new Date(at).toISOString() };
  const { published } = await backend.request("publish", {
    conversation_id: conversationId,
    type: "message.new",
    payload,
  });
  return published![0]!.seq!;
}

async function change(
  backend: Client,
  { id, conversationId, senderId, text, isEdited, isDeleted, reactions }: Said,
): Promise<void> {
  const tell = (type: string, payload: Record<string, unknown>) =>
    backend.request("publish", { conversation_id: conversationId, type, payload: { message_id: id, ...payload } });
  if (isEdited) await tell("message.edited", { content: `${text}.`, edited_by: senderId });
  if (isDeleted) await tell("message.deleted", { deleted_by: senderId });
  for (const { reaction, userIds } of reactions)
    for (const user_id of userIds) await tell("message.reaction", { user_id, reaction, added: true });
}

async function read(client: Client, userId: string, history: (Said & { seq: number })[]): Promise<void> {
  client.start();
  for (const { id, members } of rooms.filter((it) => it.members.includes(userId))) {
    const said = history.filter((it) => it.conversationId === id);
    const last = said.at(-1 - (unseen[userId]?.[id] ?? 0));
    if (last !== undefined && members.length > 0)
      await client.request("mark.read", { conversation_id: id, up_to_seq: last.seq });
  }
  client.stop();
}
