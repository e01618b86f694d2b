/** Sockets whose other end a test speaks for, and a clock that it turns, for what no server does on demand. */

import type { Identity, ServerMessage, Socket, SocketEvent } from "../../src/client/connection/line.ts";
import { Link, type LinkOptions } from "../../src/client/connection/link.ts";
import { Session, type SessionOptions } from "../../src/client/connection/session.ts";
import { type GetToken, Tokens } from "../../src/client/connection/tokens.ts";
import type { ConnectionState, News } from "../../src/client/core.ts";
import type { Happening } from "../../src/client/ground/surroundings.ts";
import { createHandClock } from "./hand-clock.ts";

export class HandSocket implements Socket {
  readonly sent: any[] = [];
  closedWith: number | null = null;
  readonly #listeners: { type: string; listener: (event: SocketEvent) => void }[] = [];
  #count = 0;

  constructor(readonly url: URL) {}

  addEventListener(type: string, listener: (event: SocketEvent) => void): void {
    this.#listeners.push({ type, listener });
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(code: number): void {
    this.closedWith ??= code;
  }

  /** Has the server say something. */
  say(type: string, payload: object, rest: object = {}): void {
    const message = { id: `m${++this.#count}`, type, payload, timestamp: "2026-01-02T03:04:05.000Z", ...rest };
    this.#tell({ type: "message", data: JSON.stringify(message) });
  }

  sayText(data: string): void {
    this.#tell({ type: "message", data });
  }

  reply(type: string, payload: object, to: { id: string }): void {
    this.say(type, payload, { reply_to: to.id });
  }

  event(topic: string, seq: number, payload: object = {}): void {
    this.say("message.new", payload, { topic, seq, position: seq });
  }

  /** Has the server, or the network, end it. */
  end(code: number): void {
    this.#tell({ type: "close", code });
  }

  greet(payload: object = {}): void {
    this.say("connected", {
      connection_id: "k1",
      device_id: "d1",
      user_id: "anna",
      authenticated: true,
      protocol_version: 1,
      server_time: "2026-01-02T03:04:05.000Z",
      ping_interval_ms: 54_000,
      max_message_size: 100_000,
      ...payload,
    });
  }

  /** The newest request of a type. */
  asked(type: string): any {
    return this.sent.findLast((message) => message.type === type);
  }

  all(type: string): any[] {
    return this.sent.filter((message) => message.type === type);
  }

  #tell(event: SocketEvent): void {
    for (const { type, listener } of [...this.#listeners]) if (type === event.type) listener(event);
  }
}

const settled = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

function parts({ getToken, token }: { getToken?: GetToken; token?: string }) {
  const hand = createHandClock({ settled });
  const asleep = { ms: 0 };
  // Time that passes while the machine sleeps: no timer runs meanwhile.
  const clock = { ...hand, now: () => hand.now() + asleep.ms };
  const sockets: HandSocket[] = [];
  const source = getToken ?? token;
  let tell = (_: Happening) => {};
  const network = { isOnline: true };
  const surroundings = {
    isOnline: () => network.isOnline,
    listen(listener: (happening: Happening) => void) {
      tell = listener;
      return () => {
        tell = () => {};
      };
    },
  };
  const options = {
    url: "wss://chat.example.com/ws?x=1",
    userId: source === undefined ? "anna" : null,
    tokens: source === undefined ? null : new Tokens(source, clock),
    whenReplaced: "stop",
    open(url: string) {
      sockets.push(new HandSocket(new URL(url)));
      return sockets.at(-1)!;
    },
    clock,
    random: () => 1,
    surroundings,
  } as const;
  return {
    options,
    clock,
    sockets,
    network,
    sleep(ms: number) {
      asleep.ms += ms;
    },
    get socket() {
      return sockets.at(-1)!;
    },
    happen: (happening: Happening) => tell(happening),
  };
}

/** A link alone; each connection is live as soon as it is somebody's. */
export function handLink(given: { getToken?: GetToken; token?: string } & Partial<LinkOptions> = {}) {
  const it = parts(given);
  const states: ConnectionState[] = [];
  const identities: Identity[] = [];
  const messages: ServerMessage[] = [];
  const errors: unknown[] = [];
  const wants = { answer: false, patience: false, cursor: false };
  const link: Link = new Link({
    ...it.options,
    since: () => undefined,
    listener: {
      onState: (state) => states.push(state),
      onIdentified(identity) {
        identities.push(identity);
        link.noteLive();
      },
      onMessage: (message) => messages.push(message),
      onClosed: () => {},
      onError: (error) => errors.push(error),
      onHappening: () => {},
      wants: () => wants,
    },
    ...(given.url && { url: given.url }),
    ...(given.whenReplaced && { whenReplaced: given.whenReplaced }),
    ...(given.random && { random: given.random }),
    ...(given.since && { since: given.since }),
  });
  const started = async () => {
    link.start();
    await settled();
  };
  return Object.assign(it, { link, states, identities, messages, errors, wants, started, settled });
}

/** A session over such sockets, with the topics of its own that it is given. */
export function handSession(given: Partial<SessionOptions> = {}) {
  const it = parts({});
  const news: News[] = [];
  const states: ConnectionState[] = [];
  const errors: unknown[] = [];
  const session = new Session({
    ...it.options,
    ownTopics: ["user"],
    onState: (state) => states.push(state),
    onNews: (told) => news.push(told),
    onError: (error) => errors.push(error),
    ...given,
  });
  const events = () => news.flatMap((told) => (told.kind === "event" ? [told.event.seq] : []));
  /** Answers the newest subscribe. */
  const subscribed = (topics: object[], rest: object = {}) => {
    const asked = it.socket.asked("subscribe");
    it.socket.reply("subscribed", { topics, rejected: [], cursor: "e.1", ...rest }, asked);
  };
  return Object.assign(it, { session, news, states, errors, events, subscribed, settled });
}
