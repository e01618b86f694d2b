/** Asks a push service to wake those who have missed something: `bun push-worker.ts`, or `node push-worker.ts` from 22.18 on. */
import { setTimeout as sleep } from "node:timers/promises";

const WS_URL = process.env.WS_URL ?? "ws://127.0.0.1:8086/ws?user_id=push&roles=service&device_id=push-worker";
const PUSH_URL = process.env.PUSH_URL ?? "http://127.0.0.1:9000/push";
const done = new Set<string>();
/** Why the last connection ended: said once, and not after each try. */
let said = "";

/** Tries until it is taken, or refused for good; the key lets the push service drop what it has had before. */
async function wake(userId: string, key: string, about: object): Promise<void> {
  const headers = { "content-type": "application/json", "idempotency-key": key };
  for (let waitMs = 500; ; await sleep(waitMs), waitMs = Math.min(waitMs * 2, 30_000)) {
    const answer = await fetch(PUSH_URL, { method: "POST", headers, body: JSON.stringify({ to: userId, about }) }).catch(() => null);
    if (answer !== null && answer.status < 500 && answer.status !== 429) return;
  }
}

async function notify({ id, type, payload }: { id: string; type: string; payload: any }): Promise<void> {
  // Where the line breaks before it is acknowledged, it is sent again.
  if (done.has(id)) return;
  const { user_ids: userIds = [payload.to_user_id], ...about } = payload;
  await Promise.all(userIds.map((userId: string) => wake(userId, `${id}:${userId}`, { event: type, ...about })));
  if (done.add(id).size > 10_000) done.delete(done.values().next().value!);
}

for (;;) {
  const socket = new WebSocket(WS_URL);
  const send = (type: string, payload = {}) => socket.readyState === 1 && socket.send(JSON.stringify({ id: type, type, payload }));
  let [why, heardAt] = ["", Date.now()];
  const pinging = setInterval(() => (Date.now() - heardAt > 30_000 ? socket.close(4000) : send("ping")), 1_000);
  // One after the other, so that all is done that came before a cursor.
  let work = Promise.resolve();
  socket.onmessage = ({ data }) => {
    heardAt = Date.now();
    const message = JSON.parse(String(data));
    if (message.type === "connected") send("subscribe", { topics: ["missed"], since: "acked" });
    else if (message.type === "delivery.missed" || message.type === "call.unreached") work = work.then(() => notify(message));
    else if (message.type === "error" || message.payload.rejected?.length > 0) (why = JSON.stringify(message.payload)), socket.close(4000);
    else if (message.reply_to === "ping") work = work.then(() => void send("ack", { cursor: message.payload.cursor }));
    else if (message.reply_to === "ack") said = "";
  };
  // Without the address, for that may hold a token.
  socket.onerror = ({ message }: any) => (why = String(message).split(" failed: ").at(-1)!);
  const { code, reason } = await new Promise<CloseEvent>((resolve) => (socket.onclose = resolve));
  if (code > 4000 && code < 4100) console.error("not coming back:", code, reason), process.exit(1);
  clearInterval(pinging);
  if (said !== (said = `${code} ${reason || why}`)) console.error("coming back:", said);
  await work.then(() => sleep(Math.random() * 2_000));
}
