/** A WebSocket client made of bytes: it can stay silent, stop reading, break every rule, and sees each frame as it came. */
import { randomBytes } from "node:crypto";
import { constants, inflateRawSync } from "node:zlib";
import type { Socket } from "bun";
import type { Closed, Received } from "./client.ts";

export interface RawOptions {
  query?: Record<string, string>;
  headers?: Record<string, string>;
  protocols?: string[];
  method?: string;
  /** Left open after the server's end, as by a client whose process hangs. */
  halfOpen?: boolean;
  /** Answers the server's pings, and nothing else. */
  pongs?: boolean;
}

/** The server's answer to the handshake. */
export interface HandshakeAnswer {
  status: number;
  headers: Headers;
  /** Of a refusal; null where it is not JSON. */
  body: any;
}

export interface Frame {
  opcode: number;
  /** As it was before it was compressed, where the server compresses each message by itself. */
  payload: Buffer;
  /** Compressed on the wire. */
  compressed: boolean;
}

export interface SentFrame {
  opcode?: number;
  payload?: Uint8Array | string;
  final?: boolean;
  masked?: boolean;
  /** The three reserved bits, which no extension has been agreed for. */
  reserved?: number;
  /** Announces another length than the payload has. */
  announced?: number;
}

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

export class RawSocket {
  /** Every whole frame that came, in order. */
  readonly frames: Frame[] = [];
  /** Holds what the text frames say. */
  readonly messages: Received[] = [];
  /** Resolves once the server has ended the connection; 1006 where no close frame came. */
  readonly ended: Promise<Closed>;
  answer!: HandshakeAnswer;
  #socket!: Socket<undefined>;
  #incoming = Buffer.alloc(0);
  #outgoing: Uint8Array[] = [];
  #upgraded = false;
  #closed: Closed = { code: 1006, reason: "" };
  #isEnded = false;
  #requests = 0;
  readonly #pongs: boolean;
  readonly #watchers = new Set<() => void>();
  readonly #end: (closed: Closed) => void;

  private constructor({ pongs = false }: RawOptions) {
    this.#pongs = pongs;
    const { promise, resolve } = Promise.withResolvers<Closed>();
    this.ended = promise;
    this.#end = resolve;
  }

  /** Shakes hands; `answer` says how the server took it. */
  static async dial(url: string, options: RawOptions = {}): Promise<RawSocket> {
    const { query = {}, headers = {}, protocols = [], method = "GET", halfOpen = false } = options;
    const target = new URL(url);
    for (const [name, value] of Object.entries(query)) target.searchParams.set(name, value);
    const raw = new RawSocket(options);
    raw.#socket = await Bun.connect({
      hostname: target.hostname,
      port: Number(target.port),
      allowHalfOpen: halfOpen,
      socket: {
        data: (_, bytes) => raw.#take(bytes),
        drain: () => raw.#flush(),
        end: () => raw.#noteEnd(),
        close: () => raw.#noteEnd(),
        error: () => raw.#noteEnd(),
      },
    });
    const all: Record<string, string> = {
      Host: target.host,
      Upgrade: "websocket",
      Connection: "Upgrade",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
      ...(protocols.length === 0 ? {} : { "Sec-WebSocket-Protocol": protocols.join(", ") }),
      ...headers,
    };
    const lines = Object.entries(all).flatMap(([name, value]) => (value === "" ? [] : [`${name}: ${value}\r\n`]));
    raw.write(Buffer.from(`${method} ${target.pathname}${target.search} HTTP/1.1\r\n${lines.join("")}\r\n`));
    await raw.until(() => raw.answer);
    return raw;
  }

  /** Shakes hands and expects to be let in. */
  static async open(url: string, options: RawOptions = {}): Promise<RawSocket> {
    const raw = await RawSocket.dial(url, options);
    if (raw.answer.status !== 101) throw new Error(`refused: ${raw.answer.status} ${JSON.stringify(raw.answer.body)}`);
    return raw;
  }

  /** Shakes hands and expects to be refused. */
  static async refused(url: string, options: RawOptions = {}): Promise<HandshakeAnswer> {
    const raw = await RawSocket.dial(url, options);
    raw.destroy();
    if (raw.answer.status === 101) throw new Error("was let in");
    return raw.answer;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  write(bytes: Uint8Array): void {
    this.#outgoing.push(bytes);
    this.#flush();
  }

  /** A masked, final text frame where nothing else is said. */
  sendFrame(frame: SentFrame): void {
    this.write(encodeFrame(frame));
  }

  /** The bytes of a frame, for many in one write. */
  encode(frame: SentFrame): Buffer {
    return encodeFrame(frame);
  }

  sendText(text: string): void {
    this.sendFrame({ payload: text });
  }

  /** Sends a request. @returns its id */
  send(type: string, payload: object = {}): string {
    const id = `r${++this.#requests}`;
    this.sendText(JSON.stringify({ id, type, payload }));
    return id;
  }

  async request(type: string, payload: object = {}): Promise<Received> {
    const id = this.send(type, payload);
    return this.find((message) => message.reply_to === id);
  }

  find(condition: (message: Received) => boolean): Promise<Received> {
    return this.until(() => this.messages.find(condition));
  }

  next(type: string): Promise<Received> {
    return this.find((message) => message.type === type);
  }

  /** Waits for what `look` finds once it finds something; fails when the connection ends first, or nothing is found in 15 s. */
  until<Found>(look: () => Found | undefined): Promise<Found> {
    return new Promise((resolve, reject) => {
      const summary = () => JSON.stringify(this.messages.slice(-5).map(({ type, payload }) => ({ type, payload })));
      const timer = setTimeout(() => end(new Error(`nothing came for ${look}; had ${summary()}`)), 15_000);
      const check = () => {
        const found = look();
        if (found !== undefined) end(found);
        else if (this.#isEnded) end(new Error(`ended (${this.#closed.code}) while waiting for ${look}`));
      };
      const end = (result: Found | Error) => {
        clearTimeout(timer);
        this.#watchers.delete(check);
        if (result instanceof Error) reject(result);
        else resolve(result);
      };
      this.#watchers.add(check);
      check();
    });
  }

  /** Leaves what comes in the kernel's buffers. */
  stopReading(): void {
    this.#socket.pause();
  }

  startReading(): void {
    this.#socket.resume();
  }

  /** Ends the connection without a word. */
  destroy(): void {
    this.#socket.terminate();
  }

  #flush(): void {
    while (this.#outgoing.length > 0) {
      const next = this.#outgoing[0]!;
      const written = this.#socket.write(next);
      if (written < next.byteLength) {
        if (written > 0) this.#outgoing[0] = next.subarray(written);
        return;
      }
      this.#outgoing.shift();
    }
  }

  #take(bytes: Uint8Array): void {
    this.#incoming = this.#incoming.byteLength === 0 ? Buffer.from(bytes) : Buffer.concat([this.#incoming, bytes]);
    if (!this.#upgraded && !this.#takeAnswer()) return;
    for (let frame = this.#takeFrame(); frame !== null; frame = this.#takeFrame()) {
      this.frames.push(frame);
      const { opcode, payload } = frame;
      if (opcode === opcodes.text) this.messages.push(JSON.parse(payload.toString()) as Received);
      else if (opcode === opcodes.ping && this.#pongs) this.sendFrame({ opcode: opcodes.pong, payload });
      else if (opcode === opcodes.close && payload.byteLength >= 2) {
        this.#closed = { code: payload.readUInt16BE(0), reason: payload.subarray(2).toString() };
      }
    }
    this.#notify();
  }

  #takeAnswer(): boolean {
    const end = this.#incoming.indexOf("\r\n\r\n");
    if (end < 0) return false;
    const [first = "", ...lines] = this.#incoming.subarray(0, end).toString("latin1").split("\r\n");
    const headers = new Headers(lines.map((line) => line.split(/:\s*/s, 2) as [string, string]));
    const status = Number(first.split(" ")[1]);
    const bodyBytes = status === 101 ? 0 : Number(headers.get("content-length") ?? 0);
    if (this.#incoming.byteLength < end + 4 + bodyBytes) return false;
    const body = this.#incoming.subarray(end + 4, end + 4 + bodyBytes).toString();
    this.#incoming = this.#incoming.subarray(end + 4 + bodyBytes);
    this.#upgraded = status === 101;
    this.answer = { status, headers, body: body.startsWith("{") ? JSON.parse(body) : null };
    if (!this.#upgraded) this.#notify();
    return this.#upgraded;
  }

  #takeFrame(): Frame | null {
    const bytes = this.#incoming;
    if (bytes.byteLength < 2) return null;
    const short = bytes[1]! & 127;
    const start = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (bytes.byteLength < start) return null;
    const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
    if (bytes.byteLength < start + length) return null;
    this.#incoming = bytes.subarray(start + length);
    const sent = bytes.subarray(start, start + length);
    const compressed = (bytes[0]! & 64) !== 0;
    return { opcode: bytes[0]! & 15, payload: compressed ? inflate(sent) : sent, compressed };
  }

  #noteEnd(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#end(this.#closed);
    this.#notify();
  }

  #notify(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

/** Reads what a message that is compressed by itself said. */
const inflate = (bytes: Uint8Array) =>
  inflateRawSync(Buffer.concat([bytes, Buffer.from([0, 0, 255, 255])]), { finishFlush: constants.Z_SYNC_FLUSH });

export function encodeFrame({
  opcode = 1,
  payload = "",
  final = true,
  masked = true,
  reserved = 0,
  announced,
}: SentFrame) {
  const body = Buffer.from(payload as Uint8Array);
  const length = announced ?? body.byteLength;
  const size = length < 126 ? 0 : length < 65_536 ? 2 : 8;
  const head = Buffer.alloc(2 + size + (masked ? 4 : 0));
  head[0] = (final ? 128 : 0) | (reserved << 4) | opcode;
  head[1] = (masked ? 128 : 0) | (size === 0 ? length : size === 2 ? 126 : 127);
  if (size === 2) head.writeUInt16BE(length, 2);
  if (size === 8) head.writeBigUInt64BE(BigInt(length), 2);
  if (masked) {
    const key = randomBytes(4);
    key.copy(head, 2 + size);
    for (let index = 0; index < body.byteLength; index++) body[index]! ^= key[index & 3]!;
  }
  return Buffer.concat([head, body]);
}
