/** A program of many clients that come back at once, each with one cursor, and say when all are level with the log. */

import { conversationsOf, type Missed } from "./missed.ts";
import { quantile } from "./statistics.ts";

interface Job {
  kind: "service" | "bare";
  port: number;
  cursor: string;
  missed: Missed;
}

export interface Returned {
  tookMs: number;
  events: number;
  /** From its own start until it was level, of the slowest but one in a hundred. */
  p50Ms: number;
  p99Ms: number;
  cpuSeconds: number;
  /** Sizes of what one client was sent for its request. */
  frameBytes: number[];
}

const { kind, port, cursor, missed } = JSON.parse(process.argv[2]!) as Job;
/** Clients on their way in at once: what the kernel's queue for a listener has room for. */
const comingMax = 256;
let events = 0;
let frameBytes: number[] = [];

console.log(JSON.stringify({ ready: true }));
for await (const _ of console) {
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  const took: number[] = [];
  let next = 0;
  const comeOneByOne = async () => {
    while (next < missed.clients) {
      const from = performance.now();
      await comeBack(next++);
      took.push(performance.now() - from);
    }
  };
  await Promise.all(Array.from({ length: comingMax }, comeOneByOne));
  const tookMs = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  const [p50Ms, p99Ms] = [quantile(took, 0.5), quantile(took, 0.99)];
  const returned: Returned = { tookMs, events, p50Ms, p99Ms, cpuSeconds: (user + system) / 1e6, frameBytes };
  console.log(JSON.stringify(returned));
}

/** Resolves once the client has all that it missed and its subscription is live; it stays connected. */
function comeBack(index: number): Promise<void> {
  const query = kind === "bare" ? "" : `?user_id=user-${index}&device_id=device-${index}&since=${cursor}`;
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws${query}`);
  const topics = conversationsOf(index, missed).map((key) => `conversation:${key}`);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const sizes: number[] = [];
  let had = 0;
  socket.onclose = ({ code, reason }) => reject(new Error(`client ${index} closed: ${code} ${reason}`));
  socket.onopen = () =>
    socket.send(JSON.stringify({ id: "all", type: "subscribe", payload: { topics, since: { cursor } } }));
  socket.onmessage = ({ data }) => {
    const text = data as string;
    if (text === "ready" || text.includes('"type":"connected"')) return;
    const isEvent = kind === "bare" ? had < missed.eventsEach : text.includes('"type":"message.new"');
    const isLast = kind === "bare" ? had === missed.eventsEach : text.includes('"reply_to":"all"');
    if (isEvent || isLast) sizes.push(text.length);
    if (isEvent) {
      had++;
      events++;
      return;
    }
    if (!isLast) return;
    if (had !== missed.eventsEach) reject(new Error(`client ${index} has ${had} events: ${text}`));
    if (index === 0) frameBytes = sizes;
    resolve();
  };
  return promise;
}
