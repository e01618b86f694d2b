/** A service as the protocol has it, one small step at a time: what a client may be sent, in every order in which it may come [LOG4] [LOG5]. */
import type { HandSocket } from "./hand-sockets.ts";

interface Logged {
  topic: string;
  seq: number;
  position: number;
  /** Null: somebody else has said it. */
  key: string | null;
}

export class ModelServer {
  readonly log: Logged[] = [];
  /** The position that the device has acknowledged. */
  acked = 0;
  /** Called where a line goes on from what is acknowledged, with that position. */
  onFromAcked = (_position: number) => {};

  get cursor(): string {
    return `e.${this.log.length}`;
  }

  /** @returns the last `seq` of a topic at a position */
  headOf(topic: string, position = this.log.length): number {
    return this.log.findLast((it) => it.topic === topic && it.position <= position)?.seq ?? 0;
  }

  append(topic: string, key: string | null): Logged {
    const event = { topic, seq: this.headOf(topic) + 1, position: this.log.length + 1, key };
    this.log.push(event);
    return event;
  }
}

type Reply = (type: string, payload: object) => void;

/** The server's end of one line. */
export class ModelServerLine {
  /** On their way to the client. */
  readonly #frames: (() => void)[] = [];
  readonly #live = new Set<string>();
  /** Each step of one is told whether it is to be refused. */
  readonly #subscribing: Generator<void, void, boolean>[] = [];
  #read = 0;

  constructor(
    private readonly server: ModelServer,
    private readonly socket: HandSocket,
  ) {
    this.#frames.push(() => socket.greet());
    this.#say("subscribed", { topics: [], rejected: [], cursor: server.cursor });
  }

  get isIdle(): boolean {
    return this.#frames.length + this.#subscribing.length === 0 && this.hasRead;
  }

  /** Whether all that was asked is read. */
  get hasRead(): boolean {
    return this.#read === this.socket.sent.length;
  }

  /** Something was logged that does not come from this line. */
  publish({ topic, seq, position }: Logged): void {
    if (this.#live.has(topic)) this.#say("message.new", {}, { topic, seq, position });
  }

  /** Reads one request, or goes on with what is asked for; `refuses`: not now, with a subscribe. */
  work({ refuses = false } = {}): void {
    const message = this.socket.sent[this.#read];
    if (message !== undefined) {
      this.#read++;
      this.#answer(message);
      return;
    }
    if (this.#subscribing[0]?.next(refuses).done) this.#subscribing.shift();
  }

  /** The client reads what is next for it. */
  deliver(): void {
    this.#frames.shift()?.();
  }

  #say(type: string, payload: object, rest: object = {}): void {
    this.#frames.push(() => this.socket.say(type, payload, rest));
  }

  #answer({ id, type, payload }: any): void {
    const { server } = this;
    const reply: Reply = (type, payload) => this.#say(type, payload, { reply_to: id });
    switch (type) {
      case "subscribe":
        return void this.#subscribing.push(this.#subscribe(payload, reply));
      case "ping":
        return reply("pong", { cursor: server.cursor });
      case "ack":
        server.acked = Math.max(server.acked, positionOf(payload.cursor));
        return reply("ack", { cursor: server.cursor });
      case "message.send": {
        const { client_message_id: key, conversation_id } = payload;
        const before = server.log.find((it) => it.key === key);
        const { topic, seq, position } = before ?? server.append(`conversation:${conversation_id}`, key);
        return reply("ack", { message_id: key, topic, seq, position, duplicate: before !== undefined });
      }
    }
  }

  /** Replay first, oldest first, then live, and said a moment later. */
  *#subscribe({ topics, since }: any, reply: Reply): Generator<void, void, boolean> {
    const { server } = this;
    const wanted = topics.filter((topic: string) => topic.includes(":") && !this.#live.has(topic));
    const from = since === "acked" ? server.acked : since === undefined ? server.log.length : positionOf(since.cursor);
    if (since === "acked" && wanted.length > 0) server.onFromAcked(from);
    let isRefused = yield;
    for (let position = from; since !== undefined && position < server.log.length && !isRefused; position++) {
      const { topic, seq } = server.log[position]!;
      if (!wanted.includes(topic) || seq <= (since.seen?.[topic] ?? 0)) continue;
      this.#say("message.new", {}, { topic, seq, position: position + 1 });
      isRefused = yield;
    }
    if (isRefused) return reply("error", { code: "unavailable", message: "", retryable: true, retry_after_ms: 100 });
    const begun = wanted.map((topic: string) => {
      this.#live.add(topic);
      return { topic, seq: server.headOf(topic), ...(since !== undefined && { recovered: true }) };
    });
    yield;
    reply("subscribed", { topics: begun, rejected: [], cursor: server.cursor });
  }
}

const positionOf = (cursor: string) => Number(cursor.slice(2));
