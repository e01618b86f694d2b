/** Makes client connections for tests, and keeps what they tell. */
import { Connection, type ConnectionOptions } from "../../src/client/connection.ts";
import type { Clock, ConnectionState, News } from "../../src/client/core.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";

export interface Told {
  connection: Connection;
  news: News[];
  states: ConnectionState[];
  errors: unknown[];
  /** The first state for which the condition holds, from now on or as it is. */
  state(condition: (state: ConnectionState) => boolean): Promise<ConnectionState>;
  /** Resolves once it is live; at once where it is. */
  live(): Promise<ConnectionState>;
  /** The first news for which the condition holds, told before or yet to come. */
  told(condition: (news: News) => boolean): Promise<News>;
  /** Types of the events that were told, with what they say. */
  events(type: string): { payload: any; topic?: string; seq?: number; id: string }[];
}

/** A WebSocket whose lines can be broken, and whose messages are looked at on their way. */
export function watchedSockets() {
  const lines: { socket: WebSocket; sent: any[]; received: any[]; url: string }[] = [];
  class Watched extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      const line = { socket: this, sent: [] as any[], received: [] as any[], url };
      lines.push(line);
      this.addEventListener("message", ({ data }) => line.received.push(JSON.parse(String(data))));
    }

    override send(text: string): void {
      lines.find(({ socket }) => socket === this)!.sent.push(JSON.parse(text));
      super.send(text);
    }
  }
  return {
    webSocket: Watched,
    lines,
    /** Breaks the line that is there without a word. */
    cut: () => lines.at(-1)!.socket.terminate(),
    /** Messages of a type that were sent, on all lines. */
    sent: (type: string) => lines.flatMap(({ sent }) => sent.filter((message) => message.type === type)),
  };
}

/** A clock that runs so many times as fast. */
export function fastClock(times: number): Clock {
  const begun = Date.now();
  return {
    now: () => begun + (Date.now() - begun) * times,
    after(delayMs, run) {
      const timer = setTimeout(run, delayMs / times);
      return () => clearTimeout(timer);
    },
  };
}

const patienceMs = 20_000;
const running = new Set<Connection>();

/** With a store of its own unless one is given; not started. */
export function connection(
  options: Omit<ConnectionOptions, "store"> & Partial<Pick<ConnectionOptions, "store">>,
): Told {
  const errors: unknown[] = [];
  const news: News[] = [];
  const states: ConnectionState[] = [];
  const watchers = new Set<() => void>();
  const notify = () => {
    for (const watcher of [...watchers]) watcher();
  };
  const made = new Connection({ store: new MemoryStore(), onError: (error) => errors.push(error), ...options });
  running.add(made);
  made.onNews((it) => {
    news.push(it);
    notify();
  });
  made.onState((it) => {
    states.push(it);
    notify();
  });
  const until = <Found>(look: () => Found | undefined, what: string) =>
    new Promise<Found>((resolve, reject) => {
      const timer = setTimeout(() => {
        watchers.delete(check);
        reject(
          new Error(`waited in vain for ${what}; ${JSON.stringify({ states, news, errors: errors.map(String) })}`),
        );
      }, patienceMs);
      const check = () => {
        const found = look();
        if (found === undefined) return;
        clearTimeout(timer);
        watchers.delete(check);
        resolve(found);
      };
      watchers.add(check);
      check();
    });
  const state = (condition: (state: ConnectionState) => boolean) =>
    until(() => (condition(made.state) ? made.state : undefined), `a state ${condition}`);
  return {
    connection: made,
    news,
    states,
    errors,
    state,
    live: () => state(({ status }) => status === "live"),
    told: (condition) => until(() => news.find(condition), `news ${condition}`),
    events: (type) => news.flatMap((it) => (it.kind === "event" && it.event.type === type ? [it.event as any] : [])),
  };
}

/** Ends all that were made. */
export async function stopConnections(): Promise<void> {
  await Promise.all([...running].map((it) => it.stop()));
  running.clear();
}
