/** Asks a push service to wake those who have missed something: `bun push-worker.ts`, or `node push-worker.ts` from 22.18 on. */
const { WS_URL = "ws://127.0.0.1:8086/ws?user_id=push&roles=service&device_id=push-worker" } = process.env;
const { PUSH_URL = "http://127.0.0.1:9000/push" } = process.env;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const done = new Set<string>();
/** Why the last connection ended: said once, and not after each try. */
let said = "";

/** Tries until it is taken, or refused for good; the key lets the push service drop what it has had before. */
async function wake(userId: string, key: string, about: object): Promise<void> {
  const headers = { "content-type": "application/json", "idempotency-key": key };
  for (let waitMs = 500; ; waitMs = Math.min(waitMs * 2, 30_000)) {
    const answer = await fetch(PUSH_URL, { method: "POST", headers, body: JSON.stringify({ to: userId, about }) }).catch(() => null);
    if (answer !== null && answer.status < 500 && answer.status !== 429) return;
    await sleep(waitMs);
  }
}

async function notify({ id, type, payload }: { id: string; type: string; payload: any }): Promise<void> {
  const { user_ids: userIds = [payload.to_user_id], ...about } = payload;
  // Where the line breaks before it is acknowledged, it is sent again.
  if (done.has(id)) return;
  await Promise.all(userIds.map((userId: string) => wake(userId, `${id}:${userId}`, { event: type, ...about })));
  if (done.add(id).size > 10_000) done.delete(done.values().next().value!);
}

for (;;) {
  const socket = new WebSocket(WS_URL);
  const send = (type: string, payload = {}) => socket.readyState === 1 && socket.send(JSON.stringify({ id: type, type, payload }));
  let why = "";
  const pinging = setInterval(() => send("ping"), 1_000);
  let silence = setTimeout(() => socket.close(4000), 30_000);
  // One after the other, so that all is done that came before a cursor.
  let work = Promise.resolve();
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(String(data));
    clearTimeout(silence);
    silence = setTimeout(() => socket.close(4000), 30_000);
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
  why = `${code} ${reason || why}`;
  if (why !== said) console.error("coming back:", (said = why));
  await work.finally(() => [pinging, silence].forEach(clearTimeout));
  await sleep(Math.random() * 2_000);
}

export {};
