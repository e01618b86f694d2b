/** A client for tests, in either format: sends requests, keeps everything that came, and waits for what is to come. */
import { subprotocols } from "../../src/protocol/limits.ts";
import { protobufPeer } from "../../src/protocol/protobuf/codec.ts";

export interface Received {
  id: string;
  type: string;
  payload: any;
  timestamp: string;
  reply_to?: string;
  topic?: string;
  seq?: number;
  position?: number;
}

export interface ClientOptions {
  /** Query of the URL: `{ user_id: "u1", device_id: "d1" }`. */
  query?: Record<string, string>;
  headers?: Record<string, string>;
  /** Subprotocols to offer; `subprotocols.protobuf` makes it a client of that format. */
  protocols?: string[];
  /** Another WebSocket than the runtime's. */
  webSocket?: new (
    url: string | URL,
    options: never,
  ) => unknown;
  /** How long a wait may take before it fails, ms. */
  patienceMs?: number;
}

export interface Closed {
  code: number;
  reason: string;
}

export class Client {
  readonly received: Received[] = [];
  readonly closed: Promise<Closed>;
  #closedAs: Closed | null = null;
  /** By the request's id: a thousand that wait do not look through all that has come. */
  readonly #replies = new Map<string, Received>();
  readonly #watchers = new Set<() => void>();
  #requests = 0;

  private constructor(
    readonly socket: WebSocket,
    private readonly patienceMs: number,
  ) {
    this.closed = new Promise((resolve) => {
      socket.addEventListener("close", ({ code, reason }) => {
        this.#closedAs = { code, reason };
        resolve(this.#closedAs);
        this.#notify();
      });
    });
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => {
      const message: unknown =
        typeof data === "string" ? JSON.parse(data) : protobufPeer.decode(new Uint8Array(data as ArrayBuffer));
      const received = message as Received;
      this.received.push(received);
      if (received.reply_to !== undefined) this.#replies.set(received.reply_to, received);
      this.#notify();
    });
  }

  /** Opens a connection; resolves when the socket is open, before `connected` has come. */
  static async open(
    url: string,
    { query = {}, headers = {}, protocols = [], webSocket = WebSocket, patienceMs = 15_000 }: ClientOptions = {},
  ): Promise<Client> {
    const target = new URL(url);
    for (const [name, value] of Object.entries(query)) target.searchParams.set(name, value);
    const options = { headers, protocols, tls: { rejectUnauthorized: false } };
    const socket = new webSocket(target, options as never) as WebSocket;
    const client = new Client(socket, patienceMs);
    await new Promise<void>((resolve, reject) => {
      socket.addEventListener("open", () => resolve());
      socket.addEventListener("close", ({ code, reason }) =>
        reject(new Error(`closed before it opened: ${code} ${reason}`)),
      );
    });
    return client;
  }

  /** Opens a connection and waits until it is live: `connected`, and the `subscribed` of its own topics. */
  static async connect(url: string, options: ClientOptions = {}): Promise<Client> {
    const client = await Client.open(url, options);
    const connected = await client.next("connected");
    if (connected.payload.authenticated) await client.next("subscribed");
    return client;
  }

  /** Sends a request. @returns its id */
  send(type: string, payload: object = {}): string {
    const id = `r${++this.#requests}`;
    const message = { id, type, payload };
    this.socket.send(
      this.socket.protocol === subprotocols.protobuf ? protobufPeer.encode(message) : JSON.stringify(message),
    );
    return id;
  }

  /** Sends a request and waits for its reply, be it an `error`. */
  async request(type: string, payload: object = {}): Promise<Received> {
    const id = this.send(type, payload);
    return this.until(() => this.#replies.get(id), `the reply to ${type} ${id}`);
  }

  /** Sends a request and waits for its reply. Fails where that is an `error`. */
  async ask(type: string, payload: object = {}): Promise<any> {
    const reply = await this.request(type, payload);
    if (reply.type === "error" || reply.type === "auth.failed")
      throw new Error(`${type}: ${JSON.stringify(reply.payload)}`);
    return reply.payload;
  }

  /** The first message of a type (and for which the condition holds) that has come or will come. */
  next(type: string, condition: (payload: any, message: Received) => boolean = () => true): Promise<Received> {
    return this.find((message) => message.type === type && condition(message.payload, message));
  }

  /** The first message for which the condition holds, now or later. */
  find(condition: (message: Received) => boolean): Promise<Received> {
    return this.until(() => this.received.find(condition), condition);
  }

  /** Waits for what `look` finds once it finds something. */
  until<Found>(look: () => Found | undefined, what: unknown = look): Promise<Found> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => end(new Error(`nothing came for ${String(what)}; had ${this.#summary()}`)),
        this.patienceMs,
      );
      const check = () => {
        const found = look();
        if (found !== undefined) end(found);
        else if (this.#closedAs !== null)
          end(new Error(`closed (${this.#closedAs.code}) while waiting for ${String(what)}; had ${this.#summary()}`));
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

  /** Everything of a type that has come so far. */
  all(type: string): Received[] {
    return this.received.filter((message) => message.type === type);
  }

  /**
   * Resolves once everything that the server had sent to this connection before is here: what has not come by then
   * does not come. The way to say "nothing happened" without waiting for time to pass.
   */
  async settled(): Promise<void> {
    await this.ask("ping");
  }

  async close(code = 1000): Promise<Closed> {
    this.socket.close(code);
    return this.closed;
  }

  #notify(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  #summary(): string {
    return JSON.stringify(this.received.slice(-8).map(({ type, reply_to, payload }) => ({ type, reply_to, payload })));
  }
}
