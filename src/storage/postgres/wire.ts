/** Carries the bytes of one connection: those of the client library, as its socket, and of exchanges that go past it. */
import { EventEmitter } from "node:events";

/** Reads the answer to what was asked past the library. */
export interface Exchange {
  /** @returns how many of the bytes are not its own any more, all at the end; null: it goes on */
  read(bytes: Buffer): number | null;
}

/** Where the library says that it is to be connected: the first host of the URL. */
export interface WireAddress {
  host: string[];
  port: number[];
  path?: string | false;
}

/** Emits what the library asks of a socket: `data`, `drain`, `error`, `close`. */
export class Wire extends EventEmitter {
  readonly host: string;
  readonly port: number;
  readyState: "opening" | "open" | "closed" = "opening";
  #socket: Bun.Socket<undefined> | null = null;
  /** Waits for room, or for the connection. */
  readonly #unsent: Buffer[] = [];
  /** Some of what was written found no room. */
  #isFull = false;
  /** Closes once everything is sent. */
  #isEnding = false;
  #exchange: Exchange | null = null;

  constructor({ host, port, path }: WireAddress) {
    super();
    [this.host, this.port] = [host[0]!, port[0]!];
    const socket: Bun.SocketHandler<undefined> = {
      binaryType: "buffer",
      open: (opened) => this.#opened(opened),
      data: (_, bytes) => this.#take(bytes),
      drain: () => this.#drain(),
      error: (_, error) => void this.emit("error", error),
      close: (_, error) => this.#closed(error),
    };
    const connecting = path
      ? Bun.connect({ unix: path, socket })
      : Bun.connect({ hostname: this.host, port: this.port, socket });
    connecting.catch((error: unknown) => this.#closed(this.#notConnected(error as Error & { code?: string })));
  }

  /** Asks past the library, which must have nothing on its way. What comes is the exchange's until it has enough. */
  ask(bytes: Buffer, exchange: Exchange): void {
    this.#exchange = exchange;
    this.write(bytes);
  }

  /** @returns whether there is room for more; `drain` says when there is again */
  write(bytes: Buffer): boolean {
    const written = this.#unsent.length > 0 ? 0 : this.#send(bytes);
    // A copy: there may be written to the same place again.
    if (written < bytes.length) this.#unsent.push(Buffer.from(bytes.subarray(written)));
    // Not while it is connecting: `drain` would tell the library that its session has begun.
    this.#isFull = this.#unsent.length > 0 && this.readyState === "open";
    return !this.#isFull;
  }

  /** Closes it once everything is sent. */
  end(bytes?: Buffer): void {
    if (bytes !== undefined) this.write(bytes);
    this.#isEnding = true;
    this.#drain();
  }

  destroy(): void {
    this.#unsent.length = 0;
    if (this.#socket === null) queueMicrotask(() => this.#closed(undefined));
    else this.#socket.terminate();
  }

  setKeepAlive(isOn: boolean, delayMs: number): void {
    this.#socket?.setKeepAlive(isOn, delayMs);
  }

  #opened(socket: Bun.Socket<undefined>): void {
    // Given up while it was connecting: what waits would begin a session that nobody ends.
    if (this.readyState === "closed" || this.listenerCount("data") === 0) return socket.terminate();
    this.#socket = socket;
    this.readyState = "open";
    this.#drain();
  }

  #send(bytes: Buffer): number {
    return Math.max(0, this.#socket?.write(bytes) ?? 0);
  }

  #drain(): void {
    for (let next = this.#unsent[0]; next !== undefined; next = this.#unsent[0]) {
      const written = this.#send(next);
      if (written < next.length) {
        this.#unsent[0] = next.subarray(written);
        return;
      }
      this.#unsent.shift();
    }
    if (this.#isEnding) this.#socket?.end();
    const wasFull = this.#isFull;
    this.#isFull = false;
    if (wasFull && !this.#isEnding) this.emit("drain");
  }

  #take(bytes: Buffer): void {
    if (this.#exchange === null) return void this.emit("data", bytes);
    const left = this.#exchange.read(bytes);
    if (left === null) return;
    this.#exchange = null;
    if (left > 0) this.emit("data", bytes.subarray(bytes.length - left));
  }

  #closed(error: Error | undefined): void {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    if (error == null) return void this.emit("close", false);
    this.emit("error", error);
    // Later, so that whoever waits is told of the error and not of the end.
    setImmediate(() => void this.emit("close", true));
  }

  /** As the runtime's other sockets say it. */
  #notConnected({ code = "ECONNREFUSED", message }: Error & { code?: string }): Error {
    const said = message.includes(code) ? message : `connect ${code} ${this.host}:${this.port}`;
    return Object.assign(new Error(said), { code });
  }
}
