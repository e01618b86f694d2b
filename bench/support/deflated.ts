/** Clients that agree on compression and look at nothing of what they get but its bytes, so that they cost the machine little. */
import type { Socket } from "bun";

export interface Listeners {
  /** Bytes that came to all of them since it was last asked. */
  takeBytes(): number;
  /** Resolves once each has been sent the mark, uncompressed. */
  heard(mark: string): Promise<void>;
  stop(): void;
}

const handshake = (userId: string) =>
  [
    `GET /ws?user_id=${userId}&device_id=d HTTP/1.1`,
    "Host: localhost",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    "\r\n",
  ].join("\r\n");

/** A text frame whose mask is zero. */
function frameOf(text: string): Uint8Array {
  const body = Buffer.from(text);
  const head = Buffer.from([0x81, 0xfe, body.byteLength >> 8, body.byteLength & 255, 0, 0, 0, 0]);
  return Buffer.concat([head, body]);
}

export async function openListeners(port: number, count: number): Promise<Listeners> {
  let bytes = 0;
  let awaited = "";
  let missing = 0;
  let onAll: () => void = () => {};
  const sockets: Socket<{ tail: string; isMarked: boolean }>[] = [];

  async function open(index: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const { promise: greeted, resolve: greet } = Promise.withResolvers<void>();
    const socket = await Bun.connect<{ tail: string; isMarked: boolean }>({
      hostname: "127.0.0.1",
      port,
      data: { tail: "", isMarked: false },
      socket: {
        data({ data }, chunk) {
          bytes += chunk.byteLength;
          data.tail = (data.tail + chunk.toString("latin1")).slice(-2_000);
          if (data.tail.includes('"type":"connected"')) greet();
          if (data.tail.includes('"reply_to":"s"')) resolve();
          if (awaited === "" || data.isMarked || !data.tail.includes(awaited)) return;
          data.isMarked = true;
          if (--missing === 0) onAll();
        },
        close: () => reject(new Error(`connection ${index} closed`)),
      },
    });
    sockets.push(socket);
    socket.write(handshake(`user-${index}`));
    await greeted;
    const payload = { topics: ["conversation:everybody"] };
    socket.write(frameOf(JSON.stringify({ id: "s", type: "subscribe", payload })));
    await promise;
  }

  for (let index = 0; index < count; index++) await open(index);
  return {
    takeBytes() {
      const taken = bytes;
      bytes = 0;
      return taken;
    },
    async heard(mark) {
      const all = new Promise<void>((resolve) => {
        onAll = resolve;
      });
      missing = sockets.length;
      for (const socket of sockets) socket.data.isMarked = socket.data.tail.includes(mark);
      missing -= sockets.filter(({ data }) => data.isMarked).length;
      awaited = mark;
      if (missing > 0) await all;
      awaited = "";
    },
    stop() {
      for (const socket of sockets) socket.terminate();
    },
  };
}
