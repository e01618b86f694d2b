/** Is a WebSocket to a server in the same program: what either side sends arrives in order, each in a turn of its own. */

type Listener = (event: FakeSocketEvent) => void;

/** Tells the listeners of a WebSocket what has happened, of all of its kinds. */
export interface FakeSocketEvent {
  type: string;
  target: FakeSocket;
  /** Of `message`. */
  data?: string;
  /** The three of `close`. */
  code?: number;
  reason?: string;
  wasClean?: boolean;
}

/** The end of a socket that the server holds. */
export interface ServerEnd {
  open(): void;
  /** The connection could not be made. */
  fail(): void;
  send(text: string): void;
  close(code: number, reason?: string): void;
}

/** Is told what the client does with a socket. */
export interface SocketOwner {
  opened(end: ServerEnd, url: URL): void;
  received(end: ServerEnd, text: string): void;
  closed(end: ServerEnd, code: number): void;
}

export class FakeSocket {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSING = 2;
  static readonly CLOSED = 3;
  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSING = 2;
  readonly CLOSED = 3;

  readonly url: string;
  readonly protocol: string;
  readonly extensions = "";
  readonly bufferedAmount = 0;
  binaryType: BinaryType = "blob";
  readyState = 0;
  onopen: Listener | null = null;
  onmessage: Listener | null = null;
  onerror: Listener | null = null;
  onclose: Listener | null = null;

  readonly #owner: SocketOwner;
  readonly #end: ServerEnd;
  readonly #listeners = new Map<string, Set<Listener>>();

  constructor(owner: SocketOwner, url: string | URL, protocols: string | string[] = []) {
    this.#owner = owner;
    this.url = String(url);
    this.protocol = [protocols].flat()[0] ?? "";
    this.#end = {
      open: () => this.#open(),
      fail: () => this.#finish({ code: 1006, isFailure: true }),
      send: (text) => this.#later(() => this.readyState === this.OPEN && this.#tell({ type: "message", data: text })),
      close: (code, reason) => this.#later(() => this.#finish({ code, reason })),
    };
    this.#later(() => this.readyState === this.CONNECTING && owner.opened(this.#end, new URL(this.url)));
  }

  addEventListener(type: string, listener: Listener): void {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
  }

  removeEventListener(type: string, listener: Listener): void {
    this.#listeners.get(type)?.delete(listener);
  }

  send(text: string): void {
    if (this.readyState === this.CONNECTING) throw new DOMException("Still connecting.", "InvalidStateError");
    if (this.readyState === this.OPEN) this.#later(() => this.#owner.received(this.#end, text));
  }

  close(code = 1005, reason = ""): void {
    if (this.readyState >= this.CLOSING) return;
    const isFailure = this.readyState === this.CONNECTING;
    this.readyState = this.CLOSING;
    this.#later(() => this.#finish({ code: isFailure ? 1006 : code, reason, isFailure }));
  }

  #open(): void {
    if (this.readyState !== this.CONNECTING) return;
    this.readyState = this.OPEN;
    this.#tell({ type: "open" });
  }

  #finish({ code, reason = "", isFailure = false }: { code: number; reason?: string; isFailure?: boolean }): void {
    if (this.readyState === this.CLOSED) return;
    this.readyState = this.CLOSED;
    this.#owner.closed(this.#end, code);
    if (isFailure) this.#tell({ type: "error" });
    this.#tell({ type: "close", code, reason, wasClean: code !== 1006 });
  }

  #later(run: () => void): void {
    queueMicrotask(run);
  }

  #tell(event: Omit<FakeSocketEvent, "target">): void {
    const told = { ...event, target: this };
    const handler = { open: this.onopen, message: this.onmessage, error: this.onerror, close: this.onclose }[
      event.type
    ];
    handler?.call(this, told);
    for (const listener of [...(this.#listeners.get(event.type) ?? [])]) listener.call(this, told);
  }
}
