/** A program of backends that read the whole log: at each line another device comes, and counts what it is sent until it has all. */

/** One catching up. */
export interface Fed {
  events: number;
  bytes: number;
  tookMs: number;
  cpuSeconds: number;
}

const { port, events: total } = JSON.parse(process.argv[2]!) as { port: number; events: number };
console.log(JSON.stringify({ ready: total }));

for await (const _ of console) console.log(JSON.stringify(await catchUp()));

async function catchUp(): Promise<Fed> {
  const query = `user_id=archive&roles=service&device_id=${crypto.randomUUID()}`;
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?${query}`);
  const { promise, resolve, reject } = Promise.withResolvers<Fed>();
  let [events, bytes, startedAt, isFed] = [0, 0, 0, false];
  let before = process.cpuUsage();
  socket.onclose = ({ code, reason }) => reject(new Error(`closed: ${code} ${reason}`));
  socket.onmessage = ({ data }) => {
    const text = data as string;
    if (isFed && text.includes('"position":')) {
      events++;
      bytes += text.length;
      if (events < total) return;
      const { user, system } = process.cpuUsage(before);
      resolve({ events, bytes, tookMs: performance.now() - startedAt, cpuSeconds: (user + system) / 1e6 });
    } else if (text.includes('"type":"error"')) reject(new Error(text));
    // Its own topics have come; then the answer, and all that follows it.
    else if (text.includes('"type":"subscribed"') && !text.includes('"reply_to"')) {
      before = process.cpuUsage();
      startedAt = performance.now();
      isFed = true;
      socket.send(JSON.stringify({ id: "1", type: "subscribe", payload: { topics: ["log"], since: "acked" } }));
    }
  };
  const fed = await promise;
  socket.onclose = null;
  socket.close();
  return fed;
}
