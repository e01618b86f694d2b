/** Measures a client's list of very many conversations: the first answer, a message in one of them, and what it holds in memory. */
import { heapStats } from "bun:jsc";
import { Conversations } from "../src/client/conversations/conversations.ts";
import { systemClock } from "../src/client/ground/surroundings.ts";
import { MemoryStore } from "../src/client/stores/memory.ts";
import { quietCore } from "../test/support/quiet-core.ts";
import { count, readOptions } from "./support/command-line.ts";

const { conversations } = readOptions({ conversations: count(10_000) });
const events = 1_000;

const at = (n: number) => new Date(Date.UTC(2026, 0, 1) + n * 1_000).toISOString();
function messageOf(n: number, seq: number) {
  const topic = `conversation:c${n}`;
  const id = crypto.randomUUID();
  const payload = { message_id: id, client_message_id: crypto.randomUUID(), conversation_id: `c${n}` };
  const said = {
    sender_id: `user${n}`,
    content: "A line of text as people write them to each other.",
    created_at: at(n),
  };
  return { id, type: "message.new", topic, seq, position: n, timestamp: at(n), payload: { ...payload, ...said } };
}
const topicOf = (n: number) => ({
  topic: `conversation:c${n}`,
  seq: 10,
  snapshot: {
    as_of_seq: 10,
    read_seq: 8,
    delivered_seq: 10,
    unread: 2,
    last_message: messageOf(n, 10),
    receipts: [{ user_id: `user${n}`, read_seq: 10, delivered_seq: 10 }],
  },
});
const text = JSON.stringify(Array.from({ length: conversations }, (_, n) => topicOf(n)));

const heap = () => {
  Bun.gc(true);
  return heapStats().heapSize;
};
const before = heap();
const core = quietCore();
const { list } = new Conversations({
  core,
  clock: systemClock,
  random: Math.random,
  store: new MemoryStore(),
  onError: console.error,
});
list.subscribe(() => {});
// Read first: what is kept.
await Bun.sleep(0);
let startedAt = performance.now();
{
  const topics = JSON.parse(text);
  console.log(
    `parsed: ${(text.length / 1024 ** 2).toFixed(1)} MiB in ${(performance.now() - startedAt).toFixed(1)} ms`,
  );
  startedAt = performance.now();
  core.tell({ kind: "subscribed", topics });
  core.answer({ topics, rejected: [], cursor: "" });
}
const { length } = list.current.items;
console.log(`folded: ${length} conversations in ${(performance.now() - startedAt).toFixed(1)} ms`);
console.log(
  `held: ${((heap() - before) / 1024 ** 2).toFixed(1)} MiB, ${Math.round((heap() - before) / conversations)} bytes each`,
);
startedAt = performance.now();
for (let n = 0; n < events; n++) {
  core.tell({ kind: "event", event: messageOf((n * 7919) % conversations, 11 + Math.floor(n / conversations)) });
  if (list.current.items[0] === undefined) throw new Error("nothing is there");
}
console.log(`a message, and the list drawn anew: ${((performance.now() - startedAt) / events).toFixed(3)} ms`);
