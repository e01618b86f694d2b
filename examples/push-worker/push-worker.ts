/** Asks a push service to wake those who have missed something: `bun push-worker.ts`, or `node push-worker.ts` from 22.18 on. */
import { setTimeout as sleep } from "node:timers/promises";

const WS_URL = process.env.WS_URL ?? "ws://127.0.0.1:8086/ws?user_id=push&roles=service&device_id=push-worker";
const PUSH_URL = process.env.PUSH_URL ?? "http://127.0.0.1:9000/push";
/** What is done or waits for its turn: where the line breaks before it is acknowledged, it is sent again. */
const known = new Set<string>();
/** One after the other, so that all is done that came before a cursor. */
let work: Promise<unknown> = Promise.resolve();
/** Why the last connection ended: said once, and not after each try. */
let said = "";

/** Tries until it is taken, or refused for good; the key lets the push service drop what it has had before. */
async function wake(userId: string, key: string, about: object): Promise<void> {
  const headers = { "content-type": "application/json", "idempotency-key": key };
  for (let waitMs = 500; ; await sleep(waitMs), waitMs = Math.min(waitMs * 2, 30_000)) {
    const push = { method: "POST", headers, body: JSON.stringify({ to: userId, about }), signal: AbortSignal.timeout(10_000) };
    const { status } = await fetch(PUSH_URL, push).catch(() => ({ status: 503 }));
    if (status < 500 && status !== 429) return;
  }
}

function notify({ id, type, payload }: { id: string; type: string; payload: any }): void {
  const { user_ids: userIds = [payload.to_user_id], ...about } = payload;
  work = work.then(() => Promise.all(userIds.map((userId: string) => wake(userId, `${id}:${userId}`, { event: type, ...about }))));
  if (known.add(id).size > 10_000) known.delete(known.values().next().value!);
}

for (;;) {
  const socket = new WebSocket(WS_URL);
  const send = (type: string, payload = {}) => socket.readyState === 1 && socket.send(JSON.stringify({ id: type, type, payload }));
  let [why, heardAt, acking] = ["", Date.now(), false];
  const pinging = setInterval(() => (Date.now() - heardAt > 30_000 ? socket.close(4000) : send("ping")), 1_000);
  socket.onmessage = ({ data }) => {
    heardAt = Date.now();
    const message = JSON.parse(String(data));
    if (message.type === "connected") send("subscribe", { topics: ["missed"], since: "acked" });
    else if (message.type === "delivery.missed" || message.type === "call.unreached") known.has(message.id) || notify(message);
    else if (message.type === "error" || message.payload.rejected?.length > 0) (why = JSON.stringify(message.payload)), socket.close(4000);
    else if (message.reply_to === "ack") (said = ""), (acking = false);
    // One at a time: an hour in which no push was taken does not end with thousands.
    else if (message.reply_to === "ping" && !acking) (acking = true), (work = work.then(() => send("ack", { cursor: message.payload.cursor })));
  };
  // Without the address, for that may hold a token.
  socket.onerror = ({ message }: any) => (why = String(message).split(" failed: ").at(-1)!);
  const { code, reason } = await new Promise<CloseEvent>((resolve) => (socket.onclose = resolve));
  if (code > 4000 && code < 4100) console.error("not coming back:", code, reason), process.exit(1);
  clearInterval(pinging);
  if (said !== (said = `${code} ${reason || why}`)) console.error("coming back:", said);
  await sleep(Math.random() * 2_000);
}
