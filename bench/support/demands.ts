/** Lists what one user may ask for at most, request by request. */
import { list, manyConversations, worstContent } from "./crowd.ts";

export interface Demand {
  name: string;
  /** Requests at once, over all its devices; with the next ones it waits as it is told. */
  burst: number;
  /** The n-th request of all. */
  request(n: number): { type: string; payload: object };
  /** Asked once by each device before anything is measured. */
  before?: { type: string; payload: object };
  /** Instead of sending it comes anew for each request, at the pace that one address may. */
  comesAnew?: true;
}

const names = (count: number, name: (index: number) => string, from = 0) => list(count, name, from);
const big = (index: number) => `big-${index % manyConversations}`;
const subscribe = (payload: object) => ({ type: "subscribe", payload });
/** Every other request takes back what the one before has asked for, so that each is new work. */
const inTurns = (n: number, payload: (round: number) => object) => ({
  type: n % 2 === 0 ? "subscribe" : "unsubscribe",
  payload: payload(n >> 1),
});
const uuid = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;

export const demands: Demand[] = [
  {
    name: "presence.query, 500 made up",
    burst: 60,
    request: (n) => ({ type: "presence.query", payload: { user_ids: names(500, (i) => `nobody-${n}-${i}`) } }),
  },
  {
    name: "presence.query, 500 real",
    burst: 60,
    request: (n) => ({
      type: "presence.query",
      payload: { user_ids: names(500, (i) => `peer-${i}`, (n * 500) % 5_000) },
    }),
  },
  {
    name: "subscribe, 1,000 conversations",
    burst: 60,
    request: (n) => inTurns(n, (round) => ({ topics: names(1_000, (i) => `conversation:${big(i)}`, round * 1_000) })),
  },
  {
    name: "subscribe, 1,000 new conversations",
    burst: 60,
    request: (n) => subscribe({ topics: names(1_000, (i) => `conversation:new-${n}-${i}`) }),
  },
  { name: "subscribe, all of 5,000", burst: 60, request: (n) => inTurns(n, () => ({ topics: ["conversation"] })) },
  {
    name: "presence of 1,000 users",
    burst: 60,
    request: (n) =>
      inTurns(n, (round) => ({
        topics: ["presence"],
        filters: { user_ids: names(1_000, (i) => `peer-${i}`, (round * 1_000) % 5_000) },
      })),
  },
  {
    name: "presence of 1,000 × 300 ids",
    burst: 60,
    request: () =>
      subscribe({ topics: Array(1_000).fill("presence"), filters: { user_ids: names(300, (i) => `peer-${i}`) } }),
  },
  {
    name: "presence of 1,000 conversations",
    burst: 60,
    request: (n) =>
      inTurns(n, (round) => ({
        topics: ["presence"],
        filters: { conversation_ids: names(1_000, big, round * 1_000) },
      })),
  },
  {
    name: "presence of 50,000 members",
    burst: 60,
    request: (n) => inTurns(n, () => ({ topics: ["presence"], filters: { conversation_id: "crowd" } })),
  },
  { name: "presence of everybody", burst: 60, request: (n) => inTurns(n, () => ({ topics: ["presence"] })) },
  {
    name: "history, 200 of 50 kB",
    burst: 60,
    request: () => ({ type: "history", payload: { topic: "conversation:large", limit: 200 } }),
  },
  {
    name: "history, 1 of 9.5 MB",
    burst: 60,
    request: () => ({ type: "history", payload: { topic: "conversation:huge", limit: 1 } }),
  },
  {
    name: "history, 200 small",
    burst: 60,
    request: () => ({ type: "history", payload: { topic: "conversation:many", limit: 200 } }),
  },
  {
    name: "message.send, 9.5 MB",
    burst: 2,
    request: (n) => ({
      type: "message.send",
      payload: { conversation_id: "own", client_message_id: `m${n}`, content: worstContent(9.5e6) },
    }),
  },
  {
    name: "message.send, small",
    burst: 60,
    request: (n) => ({
      type: "message.send",
      payload: { conversation_id: "own", client_message_id: `m${n}`, content: "hi" },
    }),
  },
  {
    name: "mark.read, 500 ids",
    burst: 60,
    request: (n) => ({
      type: "mark.read",
      payload: { conversation_id: "many", message_ids: names(500, (i) => `many-${i}`, n) },
    }),
  },
  {
    name: "replay of 1,000 with seen",
    burst: 60,
    request: (n) =>
      inTurns(n, (round) => {
        const topics = names(1_000, (i) => `conversation:${big(i)}`, round * 1_000);
        return n % 2 === 0 ? { topics, since: "acked" } : { topics };
      }),
  },
  {
    name: "replay of large messages",
    burst: 60,
    request: (n) => inTurns(n, () => ({ topics: ["conversation:large"], ...(n % 2 === 0 ? { since: "acked" } : {}) })),
  },
  { name: "coming anew, 100 a second", burst: 100, comesAnew: true, request: () => ({ type: "ping", payload: {} }) },
  {
    name: "typing",
    burst: 30,
    request: (n) => ({ type: n % 2 === 0 ? "typing.start" : "typing.stop", payload: { conversation_id: big(n) } }),
  },
  {
    name: "call.offer and hangup",
    burst: 60,
    request: (n) => {
      const call_id = uuid(n >> 1);
      return n % 2 === 0
        ? { type: "call.offer", payload: { call_id, to_user_id: `peer-${n}`, media: "audio", sdp: "v".repeat(60_000) } }
        : { type: "call.hangup", payload: { call_id } };
    },
  },
];
