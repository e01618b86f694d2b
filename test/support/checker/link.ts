/** A WebSocket on a bare TCP socket, so that a client can really stop reading, or vanish without a word. */
import { drainMicrotasks } from "bun:jsc";
import { createHash, randomBytes } from "node:crypto";
import { connect as connectPlain } from "node:net";
import { connect as connectSecure } from "node:tls";

export interface LinkHandlers {
  onOpen(): void;
  onMessage(text: string): void;
  /** Called once. 1006: without a close frame, or never opened; `status` is the refusal's. */
  onClose(closed: { code: number; reason: string; status: number | null }): void;
}

export interface Link {
  send(text: string): void;
  /** Says goodbye with a close frame. */
  close(code: number): void;
  /** Cuts the line. */
  drop(): void;
  /** Stops reading: the kernel's buffers fill up, then the server's. */
  pause(): void;
  resume(): void;
}

const opcode = { continuation: 0, text: 1, close: 8, ping: 9, pong: 10 } as const;
/** For a server that does not answer a close frame. */
const closePatienceMs = 2_000;

export function openLink(target: URL, { onOpen, onMessage, onClose }: LinkHandlers): Link {
  const secure = target.protocol === "wss:";
  const port = Number(target.port || (secure ? 443 : 80));
  const host = target.hostname.replace(/^\[|\]$/g, "");
  const socket = secure ? connectSecure({ host, port, rejectUnauthorized: false }) : connectPlain({ host, port });
  const key = randomBytes(16).toString("base64");
  const expected = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  let state: "opening" | "open" | "closed" = "opening";
  let pending: Buffer = Buffer.alloc(0);
  let parts: Buffer[] = [];

  socket.setNoDelay(true);
  socket.on(secure ? "secureConnect" : "connect", () => {
    socket.write(
      [
        `GET ${target.pathname}${target.search} HTTP/1.1`,
        `Host: ${target.host}`,
        "Upgrade: websocket",
        "Connection: Upgrade",
        `Sec-WebSocket-Key: ${key}`,
        "Sec-WebSocket-Version: 13",
        "\r\n",
      ].join("\r\n"),
    );
  });
  socket.on("data", (chunk: Buffer) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    if (state === "opening") readAnswer();
    while (state === "open" && readFrame());
  });
  socket.on("error", () => end(1006, "broken off"));
  socket.on("close", () => end(1006, "broken off"));

  function end(code: number, reason: string, status: number | null = null): void {
    if (state === "closed") return;
    state = "closed";
    socket.destroy();
    onClose({ code, reason, status });
  }

  function readAnswer(): void {
    const headersEnd = pending.indexOf("\r\n\r\n");
    if (headersEnd < 0) return;
    const head = pending.subarray(0, headersEnd).toString("latin1");
    const status = Number(head.split(" ")[1]);
    pending = pending.subarray(headersEnd + 4);
    if (status !== 101) return end(1006, `refused with ${status}`, status);
    if (!head.includes(expected)) return end(1006, "the handshake's key is wrong", status);
    state = "open";
    onOpen();
  }

  /** @returns whether there was a whole frame */
  function readFrame(): boolean {
    if (pending.length < 2) return false;
    const short = pending[1]! & 0x7f;
    const start = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (pending.length < start) return false;
    const length = short === 126 ? pending.readUInt16BE(2) : short === 127 ? Number(pending.readBigUInt64BE(2)) : short;
    if (pending.length < start + length) return false;
    const body = pending.subarray(start, start + length);
    const first = pending[0]!;
    pending = pending.subarray(start + length);
    take(first & 0x0f, { body, isLast: (first & 0x80) !== 0 });
    return true;
  }

  function take(kind: number, { body, isLast }: { body: Buffer; isLast: boolean }): void {
    switch (kind) {
      case opcode.text:
      case opcode.continuation: {
        parts.push(body);
        if (!isLast) return;
        const text = Buffer.concat(parts).toString();
        parts = [];
        onMessage(text);
        // As of a WebSocket each message is a task of its own: what one has set off is done before the next one of the same piece.
        return drainMicrotasks();
      }
      case opcode.ping:
        return write(opcode.pong, body);
      case opcode.close:
        return end(body.length < 2 ? 1005 : body.readUInt16BE(0), body.subarray(2).toString());
    }
  }

  function write(kind: number, body: Buffer): void {
    if (state !== "open") return;
    const length =
      body.length < 126
        ? Buffer.from([0x80 | body.length])
        : body.length < 65_536
          ? Buffer.from([0xfe, body.length >> 8, body.length & 0xff])
          : Buffer.concat([Buffer.from([0xff]), bigEndian(body.length)]);
    const mask = randomBytes(4);
    const masked = Buffer.from(body);
    for (let index = 0; index < masked.length; index++) masked[index]! ^= mask[index & 3]!;
    socket.write(Buffer.concat([Buffer.from([0x80 | kind]), length, mask, masked]));
  }

  return {
    send: (text) => write(opcode.text, Buffer.from(text)),
    close(code) {
      if (state === "opening") return end(1006, "given up");
      write(opcode.close, Buffer.from([code >> 8, code & 0xff]));
      socket.resume();
      setTimeout(() => end(1006, "no answer to the close frame"), closePatienceMs).unref();
    },
    drop: () => end(1006, "dropped"),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
  };
}

function bigEndian(length: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(length));
  return bytes;
}
